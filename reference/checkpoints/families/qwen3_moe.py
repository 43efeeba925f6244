"""Qwen3 with experts: a norm on each head of q and k, softmax router, no shared expert."""

from reference.checkpoints.families.qwen3_next import experts_by_step, says_dense
from reference.checkpoints.family import TRUNK, Family, Published, same
from reference.checkpoints.given import Given
from reference.checkpoints.layouts import separate_experts


def _read(given: Given, ours: dict) -> None:
    for name, value in (("use_qk_norm", True), ("shared_expert_intermediate_size", 0)):  # in Qwen3-Coder's file
        given.expect(name, value)
    given.take("sliding_window", None)  # of windows that use_sliding_window turns off
    experts = given.take("num_local_experts", ours["num_experts"], int)  # as transformers saves it
    if "num_experts" in given.said and experts != ours["num_experts"]:
        given.fail("num_local_experts", f"expected num_experts = {ours['num_experts']}, got {experts}")
    ours["num_experts"] = experts
    experts_by_step(given, ours)


QWEN3_MOE = Family(
    name="qwen3_moe",
    architecture="Qwen3MoeForCausalLM",
    published=Published(
        model="Qwen/Qwen3-30B-A3B",
        year=2025,
        licence="Apache-2.0",
        after="Qwen3-Next",
        billions=30.5,
        fields={
            "vocab_size": 151936,
            "hidden_size": 2048,
            "intermediate_size": 6144,
            "num_hidden_layers": 48,
            "num_attention_heads": 32,
            "num_key_value_heads": 4,
            "head_dim": 128,
            "max_position_embeddings": 40960,
            "norm_topk_prob": True,
            "rope_theta": 1000000,
        },
    ),
    tiny={"num_experts": 8, "num_experts_per_tok": 3, "moe_intermediate_size": 24},
    fields=TRUNK
    | same(
        max_position_embeddings=32768,
        intermediate_size=6144,
        num_key_value_heads=4,
        attention_bias=False,
        num_experts=128,
        num_experts_per_tok=8,
        moe_intermediate_size=768,
        norm_topk_prob=False,
    ),
    always={"qk_norm": "head"},
    only={"hidden_act": ("silu",), "use_sliding_window": (False,)},
    says_layers=False,
    layouts=(separate_experts("gate_proj", "up_proj", "down_proj"),),
    read=_read,
    write=says_dense,
)
