"""The smallest config.json of each family that still has all its parts: for transformers to build, and us to load."""

TINY_VOCAB = 97
BASE = {
    "vocab_size": TINY_VOCAB,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": None,
}
TINY_DELTA = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 24,
}
LATENT = {"kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 12, "v_head_dim": 20, "num_key_value_heads": 4}
TINY = {
    "llama": {},
    "qwen3": {"num_attention_heads": 6, "num_key_value_heads": 3, "head_dim": 14},
    "qwen3_next": TINY_DELTA
    | {
        "num_experts": 8,
        "num_experts_per_tok": 3,
        "moe_intermediate_size": 24,
        "shared_expert_intermediate_size": 32,
    },
    "qwen3_5_text": TINY_DELTA,
    "kimi_linear": LATENT
    | {
        "num_hidden_layers": 5,  # with fewer, none is full
        "moe_intermediate_size": 24,
        "num_experts": 8,
        "num_experts_per_token": 2,
        "linear_head_dim": 12,
        "linear_num_heads": 3,
        "num_expert_group": 2,
        "topk_group": 1,
    },
    "minimax": {"num_local_experts": 4},
    "minimax_m2": {"num_local_experts": 8, "num_experts_per_tok": 2},
    "deepseek_v32": LATENT
    | {
        "moe_intermediate_size": 24,
        "n_routed_experts": 8,
        "num_experts_per_tok": 2,
        "n_group": 4,
        "topk_group": 2,
        "q_lora_rank": 32,
        "index_topk": 8,
        "index_n_heads": 16,  # with few heads the ReLU leaves many scores at 0, and top-k breaks ties as it likes
        "index_head_dim": 16,
        "first_k_dense_replace": 1,
    },
    "gpt_oss": {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 8},
    "olmo_hybrid": TINY_DELTA | {"linear_num_key_heads": 4},
}


def tiny_fields(family: str, **more: object) -> dict[str, object]:
    """Fields for `AutoConfig.for_model(family, ...)`. Raises ValueError that names the families."""
    if family not in TINY:
        raise ValueError(f"family: expected one of {list(TINY)}, got {family!r}")
    fields = BASE | TINY[family] | more
    if family == "olmo_hybrid":
        fields.pop("head_dim")
    return fields
