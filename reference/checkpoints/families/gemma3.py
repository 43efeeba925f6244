"""Gemma 3: five windows to one full layer, each with its own rotary base; norms in front of mixer and MLP and behind
both."""

from reference.checkpoints.family import TRUNK, Family, Field, Published, same
from reference.checkpoints.given import Given
from reference.model.config import HybridConfig

_UNIT = ("sliding_window_pattern", "_sliding_window_pattern")  # as published, and as transformers writes it


def _layers(n: int, given: Given) -> list[str]:
    unit = given.take(_UNIT[0], 6, int)
    given.check(_UNIT[0], unit, int, 1)
    return ["sliding_attention" if (layer + 1) % unit else "full_attention" for layer in range(n)]


def _read(given: Given, ours: dict) -> None:
    given.pass_over(*_UNIT, "cache_implementation")  # of the layers that layer_types names; of generate()
    scalar = given.take("query_pre_attn_scalar", 256, int)
    given.check("query_pre_attn_scalar", scalar, int, 1)
    ours["attention_multiplier"] = scalar**-0.5
    ours["embedding_multiplier"] = ours["hidden_size"] ** 0.5


def _write(config: HybridConfig, theirs: dict) -> None:
    theirs["query_pre_attn_scalar"] = round((config.attention_multiplier or 1.0) ** -2)


GEMMA3 = Family(
    name="gemma3_text",
    architecture="Gemma3ForCausalLM",
    also=("gemma3",),
    published=Published(
        model="google/gemma-3-1b-it",
        year=2025,
        licence="Gemma Terms of Use",
        after="Gemma 4: windows still, full layers with fewer and wider key heads",
        billions=1.0,
        fields={
            "vocab_size": 262144,
            "hidden_size": 1152,
            "intermediate_size": 6912,
            "num_hidden_layers": 26,
            "num_attention_heads": 4,
            "num_key_value_heads": 1,
            "max_position_embeddings": 32768,
            "sliding_window": 512,
            "sliding_window_pattern": 6,
        },
    ),
    tiny={
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention", "full_attention"],
        "sliding_window": 7,
        "query_pre_attn_scalar": 24,
    },
    fields=TRUNK
    | {
        "num_attention_heads": Field("num_attention_heads", 8),
        "num_key_value_heads": Field("num_key_value_heads", 4),
        "max_position_embeddings": Field("max_position_embeddings", 131_072),
        "tie_word_embeddings": Field("tie_word_embeddings", True),
    }
    | same(head_dim=256, attention_bias=False, sliding_window=4096),
    always={
        "qk_norm": "head",
        "zero_centered_norm": True,
        "norm_before_and_after": True,
        "mlp_activation": "gelu_tanh",
        "window_rope_scaling": False,
    },
    only={
        "hidden_activation": ("gelu_pytorch_tanh",),
        "final_logit_softcapping": (None,),
        "attn_logit_softcapping": (None,),
        "use_bidirectional_attention": (False, None),
    },
    mixers={"full_attention": "full_attention", "sliding_attention": "sliding_attention"},
    default_layers=_layers,
    default_theta=1_000_000.0,
    rope_by_kind=True,
    window_theta=10_000.0,
    prefixes=("model.", "model.language_model.", "language_model.model."),
    ignored=("rotary_emb.inv_freq", "vision_tower.", "multi_modal_projector."),
    read=_read,
    write=_write,
)
