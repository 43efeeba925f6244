"""LFM2: gated short convolutions and a few softmax layers; no recurrent state beyond the convolutions' last tokens."""

from reference.checkpoints.family import TRUNK, Family, Field, Published
from reference.checkpoints.given import Given
from reference.model.config import HybridConfig


def _layers(n: int, given: Given) -> list[str]:
    softmax = given.take("full_attn_idxs", None, list | None)
    return ["full_attention" if softmax is None or layer in softmax else "conv" for layer in range(n)]


def _read(given: Given, ours: dict) -> None:
    given.take("full_attn_idxs", None)  # of the layers that layer_types names
    width = given.take("block_ff_dim", ours["intermediate_size"], int)
    multiplier = given.take("block_ffn_dim_multiplier", 1.0, int | float | None)
    multiple = given.take("block_multiple_of", 256, int)
    given.check("block_multiple_of", multiple, int, 1)
    if given.take("block_auto_adjust_ff_dim", True, bool):
        width = 2 * width // 3
        if multiplier is not None:
            width = multiple * -(-int(multiplier * width) // multiple)
    ours["intermediate_size"] = width
    ours["tie_word_embeddings"] = given.take("tie_embedding", ours["tie_word_embeddings"], bool)
    ours["linear_conv_bias"] = False
    for name in ("conv_dim", "conv_dim_out", "conv_use_xavier_init", "block_dim", "block_use_swiglu", "use_pos_enc"):
        given.take(name, None)  # of published files; transformers doesn't read them


def _write(config: HybridConfig, theirs: dict) -> None:
    theirs["block_auto_adjust_ff_dim"] = False


LFM2 = Family(
    name="lfm2",
    architecture="Lfm2ForCausalLM",
    published=Published(
        model="LiquidAI/LFM2-1.2B",
        year=2025,
        licence="LFM Open License 1.0",
        after="LFM3: windows among them",
        billions=1.17,
        fields={
            "vocab_size": 65536,
            "hidden_size": 2048,
            "block_ff_dim": 12288,
            "num_hidden_layers": 16,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "max_position_embeddings": 128000,
            "full_attn_idxs": [2, 5, 8, 10, 12, 14],
        },
    ),
    tiny={"layer_types": ["conv", "conv", "full_attention", "conv"], "block_multiple_of": 24, "conv_bias": True},
    fields=TRUNK
    | {
        "intermediate_size": Field("intermediate_size", 12288),
        "max_position_embeddings": Field("max_position_embeddings", 128_000),
        "num_key_value_heads": Field("num_key_value_heads", 8),
        "rms_norm_eps": Field("norm_eps", 1e-5),
        "tie_word_embeddings": Field("tie_word_embeddings", True),
        "linear_conv_kernel_dim": Field("conv_L_cache", 3),
        "linear_bias": Field("conv_bias", False),
    },
    always={"qk_norm": "head"},
    mixers={"full_attention": "full_attention", "conv": "short_conv"},
    default_layers=_layers,
    default_theta=1_000_000.0,
    mixer={"short_conv": "conv."},
    names=(
        ("mixer.q_norm.", "self_attn.q_layernorm."),
        ("mixer.k_norm.", "self_attn.k_layernorm."),
        ("mixer.o_proj.", "self_attn.out_proj."),
        ("input_layernorm.", "operator_norm."),
        ("post_attention_layernorm.", "ffn_norm."),
        ("mlp.gate_proj.", "feed_forward.w1."),
        ("mlp.up_proj.", "feed_forward.w3."),
        ("mlp.down_proj.", "feed_forward.w2."),
    ),
    last_norm="embedding_norm",
    read=_read,
    write=_write,
)
