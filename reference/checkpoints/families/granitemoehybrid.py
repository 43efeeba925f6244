"""Granite 4.0-H: Mamba-2 and softmax 9:1, without positions, experts beside a shared MLP or the shared MLP alone."""

from reference.checkpoints.families.bamba import MAMBA, TINY_MAMBA, mamba_heads, says_mamba_heads
from reference.checkpoints.families.granite import MULTIPLIERS, TINY_MULTIPLIERS
from reference.checkpoints.families.granitemoe import EXPERTS
from reference.checkpoints.family import TRUNK, Family, Field, Published, same
from reference.checkpoints.given import Given
from reference.checkpoints.layouts import gate_above_up
from reference.model.config import HybridConfig


def _read(given: Given, ours: dict) -> None:
    mamba_heads(given, ours)
    width, shared = given.take("intermediate_size", 11008, int), given.take("shared_intermediate_size", 1024, int)
    if ours["num_experts"]:
        ours |= {"intermediate_size": width, "moe_intermediate_size": width, "shared_expert_intermediate_size": shared}
    else:
        ours |= {"intermediate_size": shared, "num_experts_per_tok": 0}
    positions = given.take("position_embedding_type", None, str | None)
    if positions != "rope":
        ours |= {"partial_rotary_factor": 0.0, "rope_scaling": None}


def _write(config: HybridConfig, theirs: dict) -> None:
    says_mamba_heads(config, theirs)
    of_expert, of_shared = config.moe_intermediate_size, config.shared_expert_intermediate_size
    theirs["intermediate_size"] = of_expert if config.num_experts else config.intermediate_size
    theirs["shared_intermediate_size"] = of_shared if config.num_experts else config.intermediate_size
    theirs["position_embedding_type"] = "rope" if config.partial_rotary_factor else None


GRANITEMOEHYBRID = Family(
    name="granitemoehybrid",
    architecture="GraniteMoeHybridForCausalLM",
    published=Published(
        model="ibm-granite/granite-4.0-h-small",
        year=2025,
        licence="Apache-2.0",
        after="Granite-SWA: windows and sinks, no Mamba",
        billions=32,
        fields={
            "vocab_size": 100352,
            "hidden_size": 4096,
            "intermediate_size": 768,
            "shared_intermediate_size": 1536,
            "num_hidden_layers": 40,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "num_local_experts": 72,
            "num_experts_per_tok": 10,
            "max_position_embeddings": 131072,
            "layer_types": (["linear_attention"] * 5 + ["full_attention"] + ["linear_attention"] * 4) * 4,
            "mamba_d_state": 128,
            "embedding_multiplier": 12.0,
            "attention_multiplier": 0.0078125,
            "residual_multiplier": 0.22,
            "logits_scaling": 16.0,
            "rms_norm_eps": 1e-5,
            "tie_word_embeddings": True,
        },
    ),
    tiny=TINY_MAMBA
    | {
        "layer_types": ["linear_attention", "full_attention", "linear_attention", "linear_attention"],
        "num_local_experts": 8,
        "num_experts_per_tok": 3,
        "shared_intermediate_size": 40,
    }
    | TINY_MULTIPLIERS,
    fields={name: entry for name, entry in TRUNK.items() if name != "intermediate_size"}
    | MAMBA
    | {"num_experts": Field("num_local_experts", 8)}
    | MULTIPLIERS
    | same(num_experts_per_tok=2, attention_bias=False),
    always={"qk_norm": None, "shared_expert_gate": False},
    only={"hidden_act": ("silu",)},
    mixers={"full_attention": "full_attention", "linear_attention": "mamba2", "mamba": "mamba2"},
    default_layers=lambda n, given: ["linear_attention"] * n,
    mixer={"mamba2": "mamba."},
    names=EXPERTS,
    layouts=(gate_above_up("mlp.shared_expert.", "shared_mlp."), gate_above_up("mlp.", "shared_mlp.")),
    read=_read,
    write=_write,
)
