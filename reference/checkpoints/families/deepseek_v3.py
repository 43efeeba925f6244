"""DeepSeek V3, V3.1 and R1, and Kimi K2 in the same blocks: dense latent attention, grouped experts, the first MLPs
dense. Kimi K2.5 and K2.6 also see; their language model is this one."""

from reference.checkpoints.families.deepseek_v32 import (
    DEEPSEEK_V32,
    GROUPED_EXPERTS,
    LATENT,
    TINY_GROUPED,
    TINY_LATENT,
    first_are_dense,
    shared_experts_and_heads,
)
from reference.checkpoints.family import ABSENT, Family, Published, same
from reference.checkpoints.given import Given
from reference.checkpoints.layouts import separate_experts
from reference.model.config import HybridConfig


def _read(given: Given, ours: dict) -> None:
    shared_experts_and_heads(given, ours)
    first_are_dense(given, ours, 3)


def _write(config: HybridConfig, theirs: dict) -> None:
    n = config.num_hidden_layers
    theirs["n_shared_experts"] = config.shared_expert_intermediate_size // config.moe_intermediate_size
    theirs["first_k_dense_replace"] = sum(not config.is_sparse(layer) for layer in range(n))


DEEPSEEK_V3 = Family(
    name="deepseek_v3",
    architecture="DeepseekV3ForCausalLM",
    also=("kimi_k2", "kimi_k25"),
    published=Published(
        model="deepseek-ai/DeepSeek-V3-0324",
        year=2025,
        licence="MIT",
        after="R1 reasons with it, Kimi K2 is built like it, V3.2 makes it sparse",
        billions=671,
        fields=DEEPSEEK_V32.published.fields,
    ),
    tiny=TINY_LATENT | TINY_GROUPED | {"head_dim": ABSENT},
    fields=LATENT | GROUPED_EXPERTS | same(max_position_embeddings=4096),
    always=DEEPSEEK_V32.always,
    only=DEEPSEEK_V32.only | {"rope_interleave": (True,)},
    mixers={"full_attention": "latent_attention"},
    says_layers=False,
    spellings=(("language_model.model.", "model.language_model."), ("language_model.lm_head.", "lm_head.")),
    names=DEEPSEEK_V32.names,
    prefixes=("model.", "model.language_model.", "language_model.model."),
    layouts=(separate_experts("gate_proj", "up_proj", "down_proj"),),
    ignored=(*DEEPSEEK_V32.ignored, "vision_tower.", "mm_projector."),
    read=_read,
    write=_write,
)
