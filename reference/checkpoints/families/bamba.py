"""Bamba: Mamba-2 and a few softmax layers, each followed by a dense MLP; half of each softmax head turns."""

from reference.arguments import cut_short
from reference.checkpoints.families.mamba2 import unlimited_steps
from reference.checkpoints.family import TRUNK, Family, Field, Published, same
from reference.checkpoints.given import Given
from reference.model.config import HybridConfig

MAMBA = {
    "linear_num_value_heads": Field("mamba_n_heads", 128),
    "linear_key_head_dim": Field("mamba_d_state", 256),
    "linear_num_key_heads": Field("mamba_n_groups", 1),
    "linear_conv_kernel_dim": Field("mamba_d_conv", 4),
    "linear_conv_bias": Field("mamba_conv_bias", True),
    "linear_bias": Field("mamba_proj_bias", False),
}
TINY_MAMBA = {
    "mamba_n_heads": 8,
    "mamba_d_head": 16,
    "mamba_d_state": 12,
    "mamba_n_groups": 2,
    "mamba_chunk_size": 16,
    "mamba_proj_bias": True,
}


def mamba_heads(given: Given, ours: dict) -> None:
    """linear_value_head_dim from mamba_expand, with which mamba_d_head must agree; and what changes no output."""
    width = given.take("mamba_expand", 2, int) * ours["hidden_size"]
    given.check("mamba_n_heads", ours["linear_num_value_heads"], int, 1)
    ours["linear_value_head_dim"], rest = divmod(width, ours["linear_num_value_heads"])
    said = given.take("mamba_d_head", "auto")
    if rest or said not in ("auto", None, ours["linear_value_head_dim"]):
        wanted = f"mamba_expand · hidden_size = {width} over mamba_n_heads = {ours['linear_num_value_heads']}"
        given.fail("mamba_d_head", f"expected {wanted}, got {cut_short(said)}")
    given.take("mamba_chunk_size", None)
    unlimited_steps(given)


def says_mamba_heads(config: HybridConfig, theirs: dict) -> None:
    """mamba_expand and mamba_d_head. Raises ValueError if the width is no whole multiple of hidden_size."""
    width = config.linear_num_value_heads * config.linear_value_head_dim
    theirs["mamba_expand"], rest = divmod(width, config.hidden_size)
    if rest:
        raise ValueError(f"{theirs['model_type']} can't say heads that aren't a whole multiple of hidden_size together")
    theirs["mamba_d_head"] = config.linear_value_head_dim


def _layers(n: int, given: Given) -> list[str]:
    softmax = given.take("attn_layer_indices", None, list | None) or []
    return ["full_attention" if layer in softmax else "linear_attention" for layer in range(n)]


def _read(given: Given, ours: dict) -> None:
    mamba_heads(given, ours)
    given.pass_over("z_loss_coefficient", "num_logits_to_keep")  # of training, and of generate()


def _write(config: HybridConfig, theirs: dict) -> None:
    says_mamba_heads(config, theirs)
    theirs["attn_layer_indices"] = [n for n, kind in enumerate(config.layer_types) if kind == "full_attention"]


BAMBA = Family(
    name="bamba",
    architecture="BambaForCausalLM",
    published=Published(
        model="ibm-ai-platform/Bamba-9B-v2",
        year=2025,
        licence="Apache-2.0",
        after="Granite 4.0-H",
        billions=9.78,
        fields={
            "vocab_size": 128256,
            "hidden_size": 4096,
            "intermediate_size": 14336,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "max_position_embeddings": 262144,
            "attn_layer_indices": [9, 18, 27],
            "mamba_d_state": 128,
            "rms_norm_eps": 1e-5,
        },
    ),
    tiny=TINY_MAMBA | {"attn_layer_indices": [1]},
    fields=TRUNK
    | MAMBA
    | {"rms_norm_eps": Field("rms_norm_eps", 1e-5), "max_position_embeddings": Field("max_position_embeddings", 262144)}
    | same(num_key_value_heads=8, attention_bias=False, mlp_bias=False),
    always={"qk_norm": None},
    only={"hidden_act": ("silu",)},
    mixers={"full_attention": "full_attention", "linear_attention": "mamba2"},
    default_layers=_layers,
    says_layers=False,
    partial_rotary=0.5,
    mixer={"mamba2": "mamba."},
    names=(("mlp.", "feed_forward."), ("post_attention_layernorm.", "pre_ff_layernorm.")),
    last_norm="final_layernorm",
    read=_read,
    write=_write,
)
