"""Mamba and Falcon Mamba: one kind of layer all through, no softmax, no MLP."""

import math

from reference.checkpoints.family import ABSENT, Family, Field, Published, same
from reference.checkpoints.given import Given
from reference.model.config import HybridConfig

_TRAINING_ONLY = ("time_step_scale", "time_step_min", "time_step_max", "time_step_init_scheme", "time_step_floor")
_TRAINING_ONLY += ("rescale_prenorm_residual", "use_mambapy", "use_falcon_mambapy", "use_associative_scan")
# Of the makers' own code, said again under other names or fixed there.
_MAKERS_OWN = ("d_model", "d_inner", "n_layer", "ssm_cfg", "rms_norm", "fused_add_norm", "pad_vocab_size_multiple")


def step_rank(given: Given, ours: dict, name: str) -> None:
    """The rank of dt; "auto" is a sixteenth of hidden_size."""
    rank = given.take(name, "auto")
    rank = math.ceil(ours["hidden_size"] / 16) if rank == "auto" else rank
    given.check(name, rank, int, 1)
    ours["linear_step_rank"] = rank


def _read(given: Given, ours: dict) -> None:
    given.pass_over(*_TRAINING_ONLY, *_MAKERS_OWN)
    step_rank(given, ours, "time_step_rank")
    expand = given.take("expand", 2, int | float)
    given.check("expand", expand, float, 1)
    # Falcon Mamba's file says expand 16 and means intermediate_size
    width = given.take("intermediate_size", int(expand * ours["hidden_size"]))
    given.check("intermediate_size", width, int, 1)
    ours |= {"linear_num_value_heads": 1, "linear_value_head_dim": width}
    ours["mlp_layer_types"] = ("none",) * len(ours["layer_types"])


def _write(config: HybridConfig, theirs: dict) -> None:
    width = config.linear_num_value_heads * config.linear_value_head_dim
    theirs |= {"intermediate_size": width, "expand": max(width // config.hidden_size, 1)}
    theirs["time_step_rank"] = config.linear_step_rank


_SIZES = same("vocab_size", "hidden_size", tie_word_embeddings=True, initializer_range=0.1) | {
    "rms_norm_eps": Field("layer_norm_epsilon", 1e-5),
    "linear_key_head_dim": Field("state_size", 16),
    "linear_conv_kernel_dim": Field("conv_kernel", 4),
    "linear_conv_bias": Field("use_conv_bias", True),
    "linear_bias": Field("use_bias", False),
}
_ABSENT = ("intermediate_size", "num_attention_heads", "num_key_value_heads", "head_dim", "max_position_embeddings")
_SHARED = {
    "only": {"hidden_act": ("silu", "swish"), "residual_in_fp32": (True, False)},
    "mixers": {"linear_attention": "mamba1"},
    "default_layers": lambda n, given: ["linear_attention"] * n,
    "says_layers": False,
    "positions": False,
    "mixer": {"mamba1": "mixer."},
    "names": (("mixer.dt_bias", "mixer.dt_proj.bias"), ("input_layernorm.", "norm.")),
    "embedding": "embeddings",
    "last_norm": "norm_f",
    "prefixes": ("backbone.",),
    "ignored": (),
    "read": _read,
    "write": _write,
}
_NO_SOFTMAX = dict.fromkeys(("intermediate_size", "num_attention_heads", "num_key_value_heads", "head_dim"), 0)
MAMBA_1 = Family(
    name="mamba",
    architecture="MambaForCausalLM",
    published=Published(
        model="state-spaces/mamba-2.8b-hf",
        year=2023,
        licence="Apache-2.0",
        after="Mamba-2: one decay per head",
        billions=2.77,
        fields={"vocab_size": 50280, "hidden_size": 2560, "num_hidden_layers": 64},
    ),
    tiny={"state_size": 6, "use_bias": True} | dict.fromkeys(_ABSENT, ABSENT),
    fields=_SIZES,
    always=_NO_SOFTMAX,
    **_SHARED,
)
FALCON_MAMBA = Family(
    name="falcon_mamba",
    architecture="FalconMambaForCausalLM",
    published=Published(
        model="tiiuae/falcon-mamba-7b",
        year=2024,
        licence="TII Falcon-Mamba License 2.0",
        after="Falcon-H1: softmax beside Mamba-2",
        billions=7.27,
        fields={
            "vocab_size": 65024,
            "hidden_size": 4096,
            "num_hidden_layers": 64,
            "tie_word_embeddings": False,
        },
    ),
    tiny={"state_size": 6, "expand": 3, "mixer_rms_eps": 1e-3} | dict.fromkeys(_ABSENT, ABSENT),
    fields=_SIZES | {"linear_norm_eps": Field("mixer_rms_eps", 1e-6)},
    always=_NO_SOFTMAX | {"linear_inner_norms": "plain"},
    **_SHARED,
)
