"""LFM3: short convolutions of seven tokens, windows and full layers by turns; a gate on each head, norms on both sides
of mixer and MLP."""

from reference.checkpoints.families.lfm2 import LFM2
from reference.checkpoints.family import TRUNK, Family, Field, Published, same
from reference.checkpoints.given import Given
from reference.checkpoints.layouts import HEAD_GATE_APART
from reference.model.config import HybridConfig

_MIXERS = {"sliding_attention": "sliding_attention", **LFM2.mixers}


def _layers(n: int, given: Given) -> list[str]:
    def kind(layer: int) -> str:
        if layer % 4 == 2:
            return "full_attention"
        return "sliding_attention" if layer % 4 == 0 and layer else "conv"

    return [kind(layer) for layer in range(n)]


def _read(given: Given, ours: dict) -> None:
    ours["attention_gate"] = "headwise" if given.take("use_attention_gate", True, bool) else None


def _write(config: HybridConfig, theirs: dict) -> None:
    theirs["use_attention_gate"] = config.attention_gate is not None


LFM3 = Family(
    name="lfm3",
    architecture="Lfm3ForCausalLM",
    published=Published(
        model="LiquidAI/LFM3-1.7B",
        year=2026,
        licence="see its card",
        after="the newest of its line that this edition knows",
        billions=1.7,
        fields={"num_hidden_layers": 24},
    ),
    tiny={
        "num_hidden_layers": 5,
        "sliding_window": 7,
        "conv_L_cache": 5,
        "rope_parameters": {
            "sliding_attention": {"rope_type": "default", "rope_theta": 500.0},
            "full_attention": {"rope_type": "proportional", "rope_theta": 10_000.0, "partial_rotary_factor": 0.5},
        },
    },
    fields=TRUNK
    | {
        "vocab_size": Field("vocab_size", 128_000),
        "hidden_size": Field("hidden_size", 2048),
        "intermediate_size": Field("intermediate_size", 7680),
        "num_attention_heads": Field("num_attention_heads", 16),
        "num_key_value_heads": Field("num_key_value_heads", 4),
        "head_dim": Field("head_dim", 128),
        "max_position_embeddings": Field("max_position_embeddings", 128_000),
        "rms_norm_eps": Field("norm_eps", 1e-5),
        "tie_word_embeddings": Field("tie_word_embeddings", True),
        "linear_conv_kernel_dim": Field("conv_L_cache", 7),
        "linear_bias": Field("conv_bias", False),
    }
    | same(sliding_window=256),
    always={"qk_norm": "head", "norm_before_and_after": True, "window_rope_scaling": False},
    only={"use_sandwich_norm": (True,), "attention_bias": (False,)},
    mixers=_MIXERS,
    default_layers=_layers,
    rope_by_kind=True,
    default_theta=1_000_000.0,
    window_theta=10_000.0,
    default_rope={"rope_type": "proportional", "partial_rotary_factor": 0.5, "rope_theta": 1_000_000.0},
    mixer=LFM2.mixer,
    names=(
        ("input_layernorm.", "operator_norm."),
        ("post_attention_layernorm.", "post_operator_norm."),
        ("pre_feedforward_layernorm.", "ffn_norm."),
        ("post_feedforward_layernorm.", "post_ffn_norm."),
        *(pair for pair in LFM2.names if pair[0].startswith("mlp.")),
    ),
    layouts=(HEAD_GATE_APART,),
    spellings=((".self_attn.gate_proj.", ".self_attn.g_proj."),),
    last_norm=LFM2.last_norm,
    read=_read,
    write=_write,
)
