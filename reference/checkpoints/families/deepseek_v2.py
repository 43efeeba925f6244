"""DeepSeek-V2: where latent attention comes from; a softmax router, which may choose among groups, and two shared
experts."""

from reference.checkpoints.families.deepseek_v3 import DEEPSEEK_V3
from reference.checkpoints.families.deepseek_v32 import (
    LATENT,
    TINY_GROUPED,
    TINY_LATENT,
    first_are_dense,
    head_is_rotary,
)
from reference.checkpoints.family import ABSENT, Family, Field, Published, same
from reference.checkpoints.given import Given
from reference.checkpoints.layouts import separate_experts
from reference.model.config import HybridConfig


def _read(given: Given, ours: dict) -> None:
    ours["shared_expert_intermediate_size"] = given.take("n_shared_experts", 2, int) * ours["moe_intermediate_size"]
    head_is_rotary(given, ours)
    groups = [given.take(name, None, int | None) for name in ("n_group", "topk_group")]
    if given.take("topk_method", "greedy", str) == "group_limited_greedy":
        for name, value in zip(("n_group", "topk_group"), groups, strict=True):
            given.check(name, value, int, 1)
            ours[name] = value
    first_are_dense(given, ours, 0)


def _write(config: HybridConfig, theirs: dict) -> None:
    layers = range(config.num_hidden_layers)
    theirs["n_shared_experts"] = config.shared_expert_intermediate_size // config.moe_intermediate_size
    theirs["first_k_dense_replace"] = sum(not config.is_sparse(layer) for layer in layers)
    theirs |= {"n_group": config.n_group, "topk_group": config.topk_group}
    theirs["topk_method"] = "greedy" if config.n_group == 1 else "group_limited_greedy"


DEEPSEEK_V2 = Family(
    name="deepseek_v2",
    architecture="DeepseekV2ForCausalLM",
    published=Published(
        model="deepseek-ai/DeepSeek-V2-Lite",
        year=2024,
        licence="DeepSeek Model License",
        after="DeepSeek-V3",
        billions=15.7,
        fields={
            "vocab_size": 102400,
            "hidden_size": 2048,
            "intermediate_size": 10944,
            "moe_intermediate_size": 1408,
            "num_hidden_layers": 27,
            "num_attention_heads": 16,
            "num_experts_per_tok": 6,
            "first_k_dense_replace": 1,
            "q_lora_rank": None,
            "max_position_embeddings": 163840,
            "rope_scaling": {
                "type": "yarn",
                "beta_fast": 32,
                "beta_slow": 1,
                "original_max_position_embeddings": 4096,
                "factor": 40,
                "mscale": 0.707,
                "mscale_all_dim": 0.707,
            },
        },
    ),
    tiny=TINY_LATENT
    | TINY_GROUPED
    | {"head_dim": ABSENT, "topk_method": "group_limited_greedy", "routed_scaling_factor": 1.5},
    fields=LATENT
    | {"num_experts": Field("n_routed_experts", 64)}
    | same("num_experts_per_tok", moe_intermediate_size=1407, routed_scaling_factor=1.0),
    always={"shared_expert_gate": False, "norm_topk_prob": False, "qk_norm": None},
    only={
        "hidden_act": ("silu",),
        "norm_topk_prob": (False,),
        "scoring_func": ("softmax",),
        "moe_layer_freq": (1,),
        "mlp_bias": (False,),
    },
    mixers={"full_attention": "latent_attention"},
    says_layers=False,
    names=DEEPSEEK_V3.names,
    layouts=(separate_experts("gate_proj", "up_proj", "down_proj"),),
    read=_read,
    write=_write,
)
