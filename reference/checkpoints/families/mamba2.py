"""Mamba-2: one kind of layer all through, no softmax, no MLP."""

import math

from reference.arguments import cut_short
from reference.checkpoints.family import ABSENT, Family, Field, Published, same
from reference.checkpoints.given import Given
from reference.model.config import HybridConfig

TRAINING_ONLY = ("time_step_rank", "time_step_min", "time_step_max", "time_step_floor", "rescale_prenorm_residual")


def unlimited_steps(given: Given, name: str = "time_step_limit") -> None:
    """dt between 0 and infinity, or a number that no step reaches: nothing is cut off."""
    limit = given.take(name, None, list | None)
    infinite = ([0, math.inf], [0, {"__float__": "Infinity"}], [0, 1e308])  # transformers, and NVIDIA, write the others
    if limit is not None and limit not in infinite:
        given.fail(name, f"expected [0, Infinity], got {cut_short(limit)}: a limit of the step is not implemented here")


def _read(given: Given, ours: dict) -> None:
    given.pass_over(*TRAINING_ONLY, "chunk_size")
    unlimited_steps(given)
    width = ours["linear_num_value_heads"] * ours["linear_value_head_dim"]
    expand = given.take("expand", 2, int | float)
    if expand * ours["hidden_size"] != width:
        wanted = width / ours["hidden_size"]
        given.fail("expand", f"expected num_heads · head_dim / hidden_size = {wanted:g}, got {expand}")
    ours["mlp_layer_types"] = ("none",) * len(ours["layer_types"])


def _write(config: HybridConfig, theirs: dict) -> None:
    expand, rest = divmod(config.linear_num_value_heads * config.linear_value_head_dim, config.hidden_size)
    if rest:
        raise ValueError("mamba2 can't say heads that are not a whole multiple of hidden_size together")
    theirs["expand"] = expand


MAMBA2 = Family(
    name="mamba2",
    architecture="Mamba2ForCausalLM",
    published=Published(
        model="mistralai/Mamba-Codestral-7B-v0.1",
        year=2024,
        licence="Apache-2.0",
        after="outside the story of this book",
        billions=7.29,
        fields={"vocab_size": 32768, "hidden_size": 4096, "num_hidden_layers": 64},
    ),
    tiny={
        "state_size": 12,
        "num_heads": 8,
        "head_dim": 16,
        "n_groups": 2,
        "chunk_size": 16,
        "use_bias": True,
        "intermediate_size": ABSENT,
        "num_attention_heads": ABSENT,
        "num_key_value_heads": ABSENT,
        "max_position_embeddings": ABSENT,
    },
    fields={
        "rms_norm_eps": Field("layer_norm_epsilon", 1e-5),
        "linear_num_value_heads": Field("num_heads", 128),
        "linear_value_head_dim": Field("head_dim", 64),
        "linear_key_head_dim": Field("state_size", 128),
        "linear_num_key_heads": Field("n_groups", 8),
        "linear_conv_kernel_dim": Field("conv_kernel", 4),
        "linear_conv_bias": Field("use_conv_bias", True),
        "linear_bias": Field("use_bias", False),
    }
    | same("vocab_size", "hidden_size", tie_word_embeddings=False, initializer_range=0.1),
    always=dict.fromkeys(("intermediate_size", "num_attention_heads", "num_key_value_heads", "head_dim"), 0),
    only={"hidden_act": ("silu", "swish"), "residual_in_fp32": (True, False)},
    mixers={"linear_attention": "mamba2"},
    default_layers=lambda n, given: ["linear_attention"] * n,
    says_layers=False,
    positions=False,
    mixer={"mamba2": "mixer."},
    names=(("input_layernorm.", "norm."),),
    embedding="embeddings",
    last_norm="norm_f",
    prefixes=("backbone.",),
    ignored=(),
    read=_read,
    write=_write,
)
