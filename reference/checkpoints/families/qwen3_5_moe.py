"""Qwen3.5 with experts: its two blocks, every MLP a mixture of experts with a gated shared one."""

from reference.checkpoints.families.qwen3_5 import QWEN3_5, interval
from reference.checkpoints.families.qwen3_next import QWEN3_NEXT
from reference.checkpoints.family import Family, Published, same
from reference.checkpoints.given import Given
from reference.checkpoints.layouts import experts_apart_or_stacked


def _read(given: Given, ours: dict) -> None:
    interval(given, ours)
    ours["intermediate_size"] = ours["moe_intermediate_size"]  # of dense MLPs, which this family doesn't have
    given.take("intermediate_size", None)


QWEN3_5_MOE = Family(
    name="qwen3_5_moe_text",
    architecture="Qwen3_5MoeForCausalLM",
    also=("qwen3_5_moe",),
    published=Published(
        model="Qwen/Qwen3.5-35B-A3B",
        year=2026,
        licence="Apache-2.0",
        after="Qwen3.6, 3.7 and 3.8 keep the two blocks",
        billions=35,
        fields={
            "vocab_size": 248320,
            "hidden_size": 2048,
            "num_hidden_layers": 40,
            "num_attention_heads": 16,
            "num_key_value_heads": 2,
            "max_position_embeddings": 262144,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000000, "partial_rotary_factor": 0.25},
        },
    ),
    tiny=QWEN3_NEXT.tiny,
    fields={name: entry for name, entry in QWEN3_5.fields.items() if name != "intermediate_size"}
    | same(
        num_key_value_heads=2,
        num_experts=256,
        num_experts_per_tok=8,
        moe_intermediate_size=512,
        shared_expert_intermediate_size=512,
    ),
    always=QWEN3_5.always,
    only=QWEN3_5.only,
    mixers=QWEN3_5.mixers,
    default_layers=QWEN3_5.default_layers,
    partial_rotary=0.25,
    mixer=QWEN3_5.mixer,
    layouts=(experts_apart_or_stacked("gate_proj", "up_proj", "down_proj"),),
    prefixes=QWEN3_5.prefixes,
    ignored=QWEN3_5.ignored,
    read=_read,
)
