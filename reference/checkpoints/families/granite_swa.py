"""Granite with windows, dense and with experts: three windows to one full layer, a sink logit per head, and layers that
may have a rotary base of their own or no positions."""

from reference.checkpoints.families.granite import GRANITE_TRUNK, TINY_MULTIPLIERS
from reference.checkpoints.families.granitemoe import expert_width
from reference.checkpoints.family import Family, Field, Published, same
from reference.checkpoints.given import Given
from reference.checkpoints.layouts import gate_above_up
from reference.model.config import HybridConfig

WINDOWS = {"full_attention": "full_attention", "sliding_attention": "sliding_attention"}
TINY_SWA = TINY_MULTIPLIERS | {"sliding_window": 7, "layer_rope_theta": [0, 10_000.0, 500.0, 10_000.0]}


def _layers(n: int, given: Given) -> list[str]:
    return ["sliding_attention" if layer % 4 else "full_attention" for layer in range(n)]


def _read(given: Given, ours: dict) -> None:
    ours["layer_rope_theta"] = given.take("layer_rope_theta", None, list | None)


def _write(config: HybridConfig, theirs: dict) -> None:
    thetas = config.layer_rope_theta
    theirs["layer_rope_theta"] = None if thetas is None else list(thetas)


def _read_moe(given: Given, ours: dict) -> None:
    _read(given, ours)
    expert_width(given, ours)


GRANITE_SWA = Family(
    name="granite_swa",
    architecture="GraniteSWAForCausalLM",
    published=Published(
        model="ibm-granite/granite-swash-2b",
        year=2026,
        licence="Apache-2.0",
        after="the newest of its line at this edition",
        billions=2.144,
        fields={
            "vocab_size": 100352,
            "hidden_size": 2560,
            "intermediate_size": 8192,
            "num_hidden_layers": 24,
            "num_attention_heads": 20,
            "embedding_multiplier": 12,
            "attention_multiplier": 0.0078125,
            "residual_multiplier": 0.28,
            "logits_scaling": 10,
        },
    ),
    tiny=TINY_SWA,
    fields=GRANITE_TRUNK
    | {
        "num_key_value_heads": Field("num_key_value_heads", 4),
        "max_position_embeddings": Field("max_position_embeddings", 8192),
        "rms_norm_eps": Field("rms_norm_eps", 1e-5),
        "tie_word_embeddings": Field("tie_word_embeddings", True),
    }
    | same(mlp_bias=False, sliding_window=128),
    always={"qk_norm": None, "attention_sinks": True},
    only={"hidden_act": ("silu",)},
    mixers=WINDOWS,
    default_layers=_layers,
    read=_read,
    write=_write,
)
GRANITEMOE_SWA = Family(
    name="granitemoe_swa",
    architecture="GraniteMoeSWAForCausalLM",
    published=Published(
        model="ibm-granite/granite-swash-3b-a600m",
        year=2026,
        licence="Apache-2.0",
        after="the newest of its line at this edition",
        billions=3.02,
        fields={
            "vocab_size": 100352,
            "hidden_size": 1280,
            "intermediate_size": 512,
            "shared_intermediate_size": 1280,
            "num_hidden_layers": 28,
            "num_attention_heads": 20,
            "num_key_value_heads": 4,
            "num_local_experts": 48,
            "num_experts_per_tok": 4,
            "max_position_embeddings": 8192,
            "embedding_multiplier": 12,
            "attention_multiplier": 0.015625,
            "residual_multiplier": 0.26,
            "logits_scaling": 5,
            "tie_word_embeddings": True,
        },
    ),
    tiny=TINY_SWA | {"num_local_experts": 8, "num_experts_per_tok": 3, "shared_intermediate_size": 40},
    fields=GRANITE_TRUNK
    | {
        "num_experts": Field("num_local_experts", 8),
        "shared_expert_intermediate_size": Field("shared_intermediate_size", 0),
    }
    | same(num_experts_per_tok=2, sliding_window=128),
    always={"qk_norm": None, "attention_sinks": True, "shared_expert_gate": False},
    only={"hidden_act": ("silu",)},
    mixers=WINDOWS,
    default_layers=_layers,
    names=(
        ("mlp.gate.", "block_sparse_moe.router."),
        ("mlp.gate_up_proj", "block_sparse_moe.experts.gate_up_proj"),
        ("mlp.down_proj", "block_sparse_moe.experts.down_proj"),
    ),
    layouts=(gate_above_up("mlp.shared_expert.", "shared_mlp."),),
    read=_read_moe,
    write=_write,
)
