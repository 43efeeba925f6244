"""GLM-4.7-Flash: DeepSeek V3's blocks in small, dense latent attention, only the first MLP dense."""

from reference.checkpoints.families.deepseek_v3 import DEEPSEEK_V3
from reference.checkpoints.families.deepseek_v32 import (
    GROUPED_EXPERTS,
    LATENT,
    TINY_GROUPED,
    TINY_LATENT,
    first_are_dense,
    says_sparse,
    shared_experts_and_heads,
)
from reference.checkpoints.family import ABSENT, Family, Field, Published, same
from reference.checkpoints.given import Given
from reference.checkpoints.layouts import separate_experts


def _read(given: Given, ours: dict) -> None:
    shared_experts_and_heads(given, ours)
    first_are_dense(given, ours, 1)


GLM4_MOE_LITE = Family(
    name="glm4_moe_lite",
    architecture="Glm4MoeLiteForCausalLM",
    published=Published(
        model="zai-org/GLM-4.7-Flash",
        year=2026,
        licence="MIT",
        after="GLM-5 makes the latent attention sparse; GLM-5.3-Flash mixes KDA in",
        billions=30,
        fields={
            "vocab_size": 154880,
            "hidden_size": 2048,
            "intermediate_size": 10240,
            "num_hidden_layers": 47,
            "num_attention_heads": 20,
            "max_position_embeddings": 202752,
            "rms_norm_eps": 1e-5,
            "rope_theta": 1000000,
        },
    ),
    tiny=TINY_LATENT | TINY_GROUPED | {"first_k_dense_replace": ABSENT, "head_dim": ABSENT},
    fields=LATENT
    | GROUPED_EXPERTS
    | {"num_experts": Field("n_routed_experts", 64), "rms_norm_eps": Field("rms_norm_eps", 1e-5)}
    | same(
        max_position_embeddings=202752,
        num_experts_per_tok=4,
        moe_intermediate_size=1536,
        n_group=1,
        topk_group=1,
        routed_scaling_factor=1.8,
        q_lora_rank=768,
        qk_nope_head_dim=192,
        v_head_dim=256,
    ),
    always=DEEPSEEK_V3.always,
    only=DEEPSEEK_V3.only,
    mixers={"full_attention": "latent_attention"},
    says_layers=False,
    names=DEEPSEEK_V3.names,
    layouts=(separate_experts("gate_proj", "up_proj", "down_proj"),),
    ignored=("rotary_emb.inv_freq", "model.layers.{num_hidden_layers}."),
    read=_read,
    write=says_sparse,
)
