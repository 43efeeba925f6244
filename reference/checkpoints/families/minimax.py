"""MiniMax-Text-01 and M1: lightning attention and softmax, 7:1 as published; residuals of normed inputs, scaled."""

from reference.arguments import cut_short
from reference.checkpoints.family import TRUNK, Family, Field, Published, same
from reference.checkpoints.given import Given
from reference.checkpoints.layouts import separate_experts
from reference.model.config import HybridConfig

# What MiniMax's own code calls the factors.
OLDER = {
    f"{kind}_{end}_factor": f"layernorm_{older}_{end}"
    for kind, older in (("full_attn", "full_attention"), ("linear_attn", "linear_attention"), ("mlp", "mlp"))
    for end in ("alpha", "beta")
}


def _layers(n: int, given: Given) -> list[str]:
    """attn_type_list: 1 is softmax. With neither list the two alternate, as in transformers only."""
    listed = given.take("attn_type_list", None, list)
    if listed is not None:
        return ["full_attention" if kind else "linear_attention" for kind in listed]
    return ["full_attention" if layer % 2 == 0 else "linear_attention" for layer in range(n)]


def _read(given: Given, ours: dict) -> None:
    ours["moe_intermediate_size"] = ours["intermediate_size"]
    for name, older in OLDER.items():
        ours[name] = float(given.take(older, ours[name], float))
    # MiniMax's own code turns rotary_dim channels of each head, transformers 5.23 turns all.
    rotary_dim = given.take("rotary_dim", None, int | None)
    if rotary_dim is not None:
        ours["partial_rotary_factor"] = rotary_dim / ours["head_dim"]
    for name in ("shared_intermediate_size", "shared_moe_mode", "attn_type_list"):
        value = given.take(name, 0)
        if name == "shared_intermediate_size" and value not in (0, None, []):
            given.fail(name, f"a shared expert is not implemented for minimax, got {cut_short(value)}")


def _write(config: HybridConfig, theirs: dict) -> None:
    if config.partial_rotary_factor != 1:
        theirs["rotary_dim"] = config.rotary_dim


MINIMAX = Family(
    name="minimax",
    architecture="MiniMaxForCausalLM",
    also=("MiniMaxText01", "minimax_text_01", "MiniMaxM1", "minimax_m1"),
    published=Published(
        model="MiniMaxAI/MiniMax-Text-01-hf",
        year=2025,
        licence="MiniMax Model License",
        after="MiniMax-M1 reasons with it; M2 went back to full attention",
        billions=456,
        fields={
            "vocab_size": 200064,
            "hidden_size": 6144,
            "intermediate_size": 9216,
            "num_hidden_layers": 80,
            "num_attention_heads": 64,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "num_local_experts": 32,
            "max_position_embeddings": 10240000,
            "rope_theta": 10000000,
            "rotary_dim": 64,
            "layer_types": (["linear_attention"] * 7 + ["full_attention"]) * 10,
            "full_attn_alpha_factor": 3.5565588200778455,
            "linear_attn_alpha_factor": 3.5565588200778455,
            "mlp_alpha_factor": 3.5565588200778455,
        },
    ),
    tiny={"num_local_experts": 4},
    fields=TRUNK
    | {"num_experts": Field("num_local_experts", 8), "rms_norm_eps": Field("rms_norm_eps", 1e-5)}
    | same(max_position_embeddings=131072, num_key_value_heads=8, num_experts_per_tok=2, **dict.fromkeys(OLDER, 1.0)),
    always={"normed_residual": True, "linear_norm_eps": 1e-6, "qk_norm": None},
    only={"hidden_act": ("silu",), "sliding_window": (None,), "postnorm": (True,)},
    mixers={"full_attention": "full_attention", "linear_attention": "lightning_attention"},
    default_layers=_layers,
    default_theta=1_000_000.0,
    names=(("mlp.gate.", "block_sparse_moe.gate."),),
    layouts=(separate_experts("w1", "w3", "w2", "block_sparse_moe.experts."),),
    ignored=("rotary_emb.inv_freq", "slope_rate", "query_decay", "key_decay", "diagonal_decay"),
    read=_read,
    write=_write,
)
