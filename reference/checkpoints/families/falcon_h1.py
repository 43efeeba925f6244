"""Falcon-H1: softmax and Mamba-2 side by side in every layer, and fixed multipliers in many places."""

from reference.arguments import cut_short
from reference.checkpoints.families.bamba import MAMBA, TINY_MAMBA
from reference.checkpoints.families.mamba2 import unlimited_steps
from reference.checkpoints.family import TRUNK, Family, Field, Published, same
from reference.checkpoints.given import Given
from reference.model.config import HybridConfig

_INSIDE = ("attention_in_multiplier", "key_multiplier", "attention_out_multiplier")
_INSIDE += ("ssm_in_multiplier", "ssm_out_multiplier")
_UNUSED = ("mamba_chunk_size", "num_logits_to_keep", "attn_layer_indices", "mamba_use_mlp")


def _read(given: Given, ours: dict) -> None:
    width = given.take("mamba_d_ssm", 1024, int | None)
    expand = given.take("mamba_expand", 2, int | float)
    width = int(expand * ours["hidden_size"]) if width is None else width
    ours["linear_value_head_dim"], rest = divmod(width, max(ours["linear_num_value_heads"], 1))
    said = given.take("mamba_d_head", "auto")
    if rest or said not in ("auto", None, ours["linear_value_head_dim"]):
        given.fail(
            "mamba_d_head", f"expected {width} / {ours['linear_num_value_heads']} channels, got {cut_short(said)}"
        )
    if given.take("projectors_bias", False, bool) != ours["linear_bias"]:
        given.fail("projectors_bias", "other than mamba_proj_bias is not implemented here")
    first = given.take("mamba_norm_before_gate", True, bool)
    normed = given.take("mamba_rms_norm", False, bool)
    ours |= {"linear_norm_first": first and normed, "linear_norm_groups": None if normed else 0}
    head = given.take("lm_head_multiplier", 1.0, float)
    ours["logits_scaling"] = 1 / head if head else given.fail("lm_head_multiplier", "expected more than 0")
    factors = tuple(given.take(name, 1.0, float) for name in _INSIDE)
    ours["mixer_multipliers"] = None if set(factors) == {1.0} else factors
    for name, theirs in (("linear_multipliers", "ssm_multipliers"), ("mlp_multipliers", "mlp_multipliers")):
        factors = given.take(theirs, None, list | None)
        ours[name] = None if factors is None or set(map(str, factors)) <= {"1", "1.0"} else factors
    given.pass_over(*_UNUSED)
    unlimited_steps(given)


def _write(config: HybridConfig, theirs: dict) -> None:
    theirs["mamba_d_ssm"] = config.linear_num_value_heads * config.linear_value_head_dim
    theirs["mamba_d_head"] = config.linear_value_head_dim
    theirs["projectors_bias"] = config.linear_bias
    theirs |= {"mamba_norm_before_gate": config.linear_norm_first, "mamba_rms_norm": config.linear_norm_groups is None}
    theirs["lm_head_multiplier"] = 1 / config.logits_scaling
    theirs |= dict(zip(_INSIDE, config.mixer_multipliers or (1.0,) * 5, strict=True))
    theirs["ssm_multipliers"] = list(config.linear_multipliers or (1.0,) * 5)
    theirs["mlp_multipliers"] = list(config.mlp_multipliers or (1.0,) * 2)


FALCON_H1 = Family(
    name="falcon_h1",
    architecture="FalconH1ForCausalLM",
    published=Published(
        model="tiiuae/Falcon-H1-0.5B-Instruct",
        year=2025,
        licence="Falcon-LLM License",
        after="the newest of its line that this edition knows",
        billions=0.521,
        fields={
            "vocab_size": 32784,
            "hidden_size": 1024,
            "intermediate_size": 2048,
            "num_hidden_layers": 36,
            "num_attention_heads": 8,
            "num_key_value_heads": 2,
            "head_dim": 64,
            "max_position_embeddings": 16384,
            "rope_theta": 100000000000.0,
            "mamba_d_ssm": 1536,
            "mamba_n_heads": 24,
            "mamba_d_state": 128,
            "mamba_norm_before_gate": False,
            "attention_out_multiplier": 0.9375,
            "embedding_multiplier": 5.656854249492381,
            "key_multiplier": 0.39062499999999994,
            "lm_head_multiplier": 0.0390625,
            "mlp_multipliers": [0.8838834764831844, 0.5859375],
            "ssm_in_multiplier": 1.25,
            "ssm_multipliers": [0.3535533905932738, 0.25, 0.3535533905932738, 0.5, 0.3535533905932738],
            "ssm_out_multiplier": 0.23570226039551587,
        },
    ),
    tiny={name: x for name, x in TINY_MAMBA.items() if name != "mamba_proj_bias"}
    | {
        "mamba_d_ssm": 128,
        "attention_in_multiplier": 1.5,
        "attention_out_multiplier": 0.9,
        "embedding_multiplier": 3.0,
        "key_multiplier": 0.4,
        "lm_head_multiplier": 0.7,
        "mlp_multipliers": [0.8, 0.6],
        "ssm_in_multiplier": 1.25,
        "ssm_multipliers": [0.7, 1.3, 0.6, 0.5, 1.2],
        "ssm_out_multiplier": 0.8,
    },
    fields=TRUNK
    | MAMBA
    | {
        "num_key_value_heads": Field("num_key_value_heads", 8),
        "rms_norm_eps": Field("rms_norm_eps", 1e-5),
        "max_position_embeddings": Field("max_position_embeddings", 8192),
    }
    | same(attention_bias=False, mlp_bias=False, embedding_multiplier=1.0),
    always={"qk_norm": None},
    only={"hidden_act": ("silu",)},
    mixers={"hybrid": "attention_beside_mamba2"},
    default_layers=lambda n, given: ["hybrid"] * n,
    says_layers=False,
    names=(
        ("mixer.attention.", "self_attn."),
        ("mixer.mamba.", "mamba."),
        ("mlp.", "feed_forward."),
        ("post_attention_layernorm.", "pre_ff_layernorm."),
    ),
    last_norm="final_layernorm",
    read=_read,
    write=_write,
)
