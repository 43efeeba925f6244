"""MiniMax-M2: full attention again; a norm over all heads of q and of k, half of each head turned, sigmoid router."""

from reference.checkpoints.family import TRUNK, Family, Field, Published, same
from reference.checkpoints.given import Given
from reference.checkpoints.layouts import separate_experts


def _read(given: Given, ours: dict) -> None:
    ours["moe_intermediate_size"] = ours["intermediate_size"]
    rotary_dim = given.take("rotary_dim", None, int | None)
    if rotary_dim is not None:
        ours["partial_rotary_factor"] = rotary_dim / ours["head_dim"]
    given.take("attn_type_list", None)  # ones all through
    given.pass_over("mlp_intermediate_size", "shared_moe_mode")  # of shared experts, which M2 hasn't


MINIMAX_M2 = Family(
    name="minimax_m2",
    architecture="MiniMaxM2ForCausalLM",
    published=Published(
        model="MiniMaxAI/MiniMax-M2",
        year=2025,
        licence="MIT",
        after="MiniMax M3: block-sparse attention",
        billions=230,
        fields={
            "vocab_size": 200064,
            "hidden_size": 3072,
            "intermediate_size": 1536,
            "num_hidden_layers": 62,
            "num_attention_heads": 48,
            "num_key_value_heads": 8,
            "max_position_embeddings": 196608,
            "rotary_dim": 64,
        },
    ),
    tiny={"num_local_experts": 8, "num_experts_per_tok": 2},
    fields=TRUNK
    | {"num_experts": Field("num_local_experts", 256)}
    | same(max_position_embeddings=196608, num_key_value_heads=8, num_experts_per_tok=8, head_dim=128),
    always={"qk_norm": "full", "router": "sigmoid"},
    only={
        "hidden_act": ("silu",),
        "use_qk_norm": (True,),
        "qk_norm_type": ("per_layer",),
        "scoring_func": ("sigmoid",),
        "use_routing_bias": (True,),
        "shared_intermediate_size": (0,),
    },
    says_layers=False,
    default_theta=5_000_000.0,
    partial_rotary=1.0,
    names=(("mlp.", "block_sparse_moe."),),
    layouts=(separate_experts("w1", "w3", "w2", "block_sparse_moe.experts."),),
    read=_read,
)
