"""Granite 3 with experts: a softmax router in every layer."""

from reference.checkpoints.families.granite import GRANITE_TRUNK, TINY_MULTIPLIERS
from reference.checkpoints.family import Family, Field, Published, same
from reference.checkpoints.given import Given

EXPERTS = (
    ("mlp.gate.", "block_sparse_moe.router.layer."),
    ("mlp.gate_up_proj", "block_sparse_moe.input_linear.weight"),
    ("mlp.down_proj", "block_sparse_moe.output_linear.weight"),
)


def expert_width(given: Given, ours: dict) -> None:
    """intermediate_size is an expert's."""
    ours["moe_intermediate_size"] = ours["intermediate_size"]


GRANITEMOE = Family(
    name="granitemoe",
    architecture="GraniteMoeForCausalLM",
    published=Published(
        model="ibm-granite/granite-3.1-3b-a800m-instruct",
        year=2024,
        licence="Apache-2.0",
        after="Granite 4.0-H: Mamba-2 in nine layers of ten",
        billions=3.3,
        fields={
            "vocab_size": 49155,
            "hidden_size": 1536,
            "intermediate_size": 512,
            "num_hidden_layers": 32,
            "num_attention_heads": 24,
            "num_key_value_heads": 8,
            "num_local_experts": 40,
            "num_experts_per_tok": 8,
            "max_position_embeddings": 131072,
            "rope_theta": 10000000.0,
            "rms_norm_eps": 1e-6,
            "embedding_multiplier": 12.0,
            "attention_multiplier": 0.015625,
            "residual_multiplier": 0.22,
            "logits_scaling": 6.0,
            "tie_word_embeddings": True,
        },
    ),
    tiny=TINY_MULTIPLIERS | {"num_local_experts": 8, "num_experts_per_tok": 3},
    fields=GRANITE_TRUNK | {"num_experts": Field("num_local_experts", 8)} | same(num_experts_per_tok=2),
    always={"qk_norm": None, "shared_expert_gate": False},
    only={"hidden_act": ("silu",)},
    says_layers=False,
    names=EXPERTS,
    read=expert_width,
)
