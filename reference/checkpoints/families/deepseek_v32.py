"""DeepSeek V3.2: latent attention behind a lightning indexer in every layer, grouped experts, the first MLPs dense."""

from reference.checkpoints.family import TRUNK, Family, Field, Published, same
from reference.checkpoints.given import Given
from reference.checkpoints.layouts import separate_experts
from reference.model.config import HybridConfig

TINY_LATENT = {
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 12,
    "v_head_dim": 20,
    "num_key_value_heads": 4,
}
TINY_GROUPED = {
    "moe_intermediate_size": 24,
    "n_routed_experts": 8,
    "num_experts_per_tok": 2,
    "n_group": 4,
    "topk_group": 2,
    "q_lora_rank": 32,
    "first_k_dense_replace": 1,
}
LATENT = {name: entry for name, entry in TRUNK.items() if name != "head_dim"} | same(
    q_lora_rank=1536,
    kv_lora_rank=512,
    qk_nope_head_dim=128,
    qk_rope_head_dim=64,
    v_head_dim=128,
    attention_bias=False,
)
GROUPED_EXPERTS = {"num_experts": Field("n_routed_experts", 256)} | same(
    num_experts_per_tok=8,
    moe_intermediate_size=2048,
    norm_topk_prob=True,
    n_group=8,
    topk_group=4,
    routed_scaling_factor=2.5,
)


def first_are_dense(given: Given, ours: dict, default: int) -> None:
    """mlp_layer_types, or the number of dense layers at the start."""
    first, n = given.take("first_k_dense_replace", default, int), len(ours["layer_types"])
    kinds = given.take("mlp_layer_types", None, list)
    kinds = ["dense" if layer < first else "sparse" for layer in range(n)] if kinds is None else kinds
    ours["mlp_layer_types"] = None if all(kind == "sparse" for kind in kinds) else tuple(map(str, kinds))


def head_is_rotary(given: Given, ours: dict) -> None:
    """head_dim and qk_head_dim, where a file has them, follow from the others."""
    ours["head_dim"] = ours["qk_rope_head_dim"]
    given.pass_over("head_dim", "qk_head_dim")


def shared_experts_and_heads(given: Given, ours: dict) -> None:
    """n_shared_experts of an expert's width make one of ours; and head_is_rotary."""
    ours["shared_expert_intermediate_size"] = given.take("n_shared_experts", 1, int) * ours["moe_intermediate_size"]
    head_is_rotary(given, ours)


def _read(given: Given, ours: dict) -> None:
    shared_experts_and_heads(given, ours)
    first_are_dense(given, ours, 3)


def says_sparse(config: HybridConfig, theirs: dict) -> None:
    """n_shared_experts and mlp_layer_types."""
    theirs["n_shared_experts"] = config.shared_expert_intermediate_size // config.moe_intermediate_size
    kinds = ["sparse" if config.is_sparse(n) else "dense" for n in range(config.num_hidden_layers)]
    theirs["mlp_layer_types"] = kinds


DEEPSEEK_V32 = Family(
    name="deepseek_v32",
    architecture="DeepseekV32ForCausalLM",
    published=Published(
        model="deepseek-ai/DeepSeek-V3.2",
        year=2025,
        licence="MIT",
        after="DeepSeek V4: compressed keys, sparse and dense",
        billions=671,
        fields={
            "vocab_size": 129280,
            "hidden_size": 7168,
            "intermediate_size": 18432,
            "num_hidden_layers": 61,
            "num_attention_heads": 128,
            "max_position_embeddings": 163840,
            "rope_scaling": {
                "rope_type": "yarn",
                "beta_fast": 32,
                "beta_slow": 1,
                "original_max_position_embeddings": 4096,
                "factor": 40,
                "mscale": 1.0,
                "mscale_all_dim": 1.0,
            },
        },
    ),
    tiny=TINY_LATENT
    | TINY_GROUPED
    | {
        "index_topk": 8,
        "index_n_heads": 16,  # with few heads the ReLU leaves many scores at 0, and top-k breaks ties as it likes
        "index_head_dim": 16,
    },
    fields=LATENT
    | GROUPED_EXPERTS
    | same(max_position_embeddings=163840, index_topk=2048, index_n_heads=64, index_head_dim=128),
    always={"router": "sigmoid", "shared_expert_gate": False, "qk_norm": None},
    only={
        "hidden_act": ("silu",),
        "mlp_bias": (False,),
        "scoring_func": ("sigmoid",),
        "topk_method": ("noaux_tc",),
        "moe_layer_freq": (1,),
    },
    mixers={"indexed_attention": "indexed_attention"},
    default_layers=lambda n, given: ["indexed_attention"] * n,
    names=(
        ("mlp.e_score_correction_bias", "mlp.gate.e_score_correction_bias"),
        ("mlp.shared_expert.", "mlp.shared_experts."),
    ),
    layouts=(separate_experts("gate_proj", "up_proj", "down_proj"),),
    # the layer after the last predicts the token after the next: transformers leaves it in the file, and so do we
    ignored=("rotary_emb.inv_freq", "model.layers.{num_hidden_layers}."),
    read=_read,
    write=says_sparse,
)
