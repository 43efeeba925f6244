"""Qwen3-Next: Gated DeltaNet and gated attention 3:1, many experts and a shared one; q, k, v, z interleaved."""

from reference.checkpoints.family import TRUNK, Family, Published, same
from reference.checkpoints.given import Given
from reference.checkpoints.layouts import INTERLEAVED_BY_KEY_HEAD, separate_experts
from reference.model.config import HybridConfig

TWO_BLOCKS = {"qk_norm": "head", "attention_gate": "elementwise", "zero_centered_norm": True}
DELTA = same(
    linear_num_key_heads=16,
    linear_num_value_heads=32,
    linear_key_head_dim=128,
    linear_value_head_dim=128,
    linear_conv_kernel_dim=4,
)
TINY_DELTA = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 24,
}


def every_fourth(n: int, given: Given) -> list[str]:
    """Linear layers, except each full_attention_interval-th."""
    every = given.take("full_attention_interval", 4, int)
    given.check("full_attention_interval", every, int, 1)
    return ["linear_attention" if (layer + 1) % every else "full_attention" for layer in range(n)]


def experts_by_step(given: Given, ours: dict) -> None:
    """mlp_only_layers and decoder_sparse_step: which MLPs are mixtures of experts."""
    dense, step = given.take("mlp_only_layers", None, list | None) or [], given.take("decoder_sparse_step", 1)
    given.check("decoder_sparse_step", step, int, 1)
    n = len(ours["layer_types"])
    sparse = [ours["num_experts"] > 0 and layer not in dense and (layer + 1) % step == 0 for layer in range(n)]
    if not all(sparse):
        ours["mlp_layer_types"] = tuple("sparse" if x else "dense" for x in sparse)


def _which_are_sparse(given: Given, ours: dict) -> None:
    given.take("full_attention_interval", 4, int)
    experts_by_step(given, ours)


def says_dense(config: HybridConfig, theirs: dict) -> None:
    """mlp_only_layers: the layers whose MLP is no mixture of experts."""
    theirs["mlp_only_layers"] = [n for n in range(config.num_hidden_layers) if not config.is_sparse(n)]


QWEN3_NEXT = Family(
    name="qwen3_next",
    architecture="Qwen3NextForCausalLM",
    published=Published(
        model="Qwen/Qwen3-Next-80B-A3B-Instruct",
        year=2025,
        licence="Apache-2.0",
        after="Qwen3.5 and 3.6 keep the two blocks; Qwen3.8-Flash-Next makes its softmax layers sparse",
        billions=80,
        fields={
            "vocab_size": 151936,
            "hidden_size": 2048,
            "intermediate_size": 5120,
            "num_hidden_layers": 48,
            "num_attention_heads": 16,
            "num_key_value_heads": 2,
            "max_position_embeddings": 262144,
            "rope_theta": 10000000,
            "partial_rotary_factor": 0.25,
        },
    ),
    tiny=TINY_DELTA
    | {
        "num_experts": 8,
        "num_experts_per_tok": 3,
        "moe_intermediate_size": 24,
        "shared_expert_intermediate_size": 32,
    },
    fields=TRUNK
    | DELTA
    | same(
        max_position_embeddings=32768,
        intermediate_size=5632,
        num_key_value_heads=2,
        attention_bias=False,
        head_dim=256,
        num_experts=512,
        num_experts_per_tok=10,
        moe_intermediate_size=512,
        shared_expert_intermediate_size=512,
        norm_topk_prob=True,
        num_nextn_predict_layers=0,
    ),
    always=TWO_BLOCKS,
    only={"hidden_act": ("silu",), "use_sliding_window": (False,)},
    mixers={"full_attention": "full_attention", "linear_attention": "linear_attention"},
    default_layers=every_fourth,
    partial_rotary=0.25,
    mixer={"linear_attention": "linear_attn."},
    layouts=(INTERLEAVED_BY_KEY_HEAD, separate_experts("gate_proj", "up_proj", "down_proj")),
    ignored=("rotary_emb.inv_freq", "mtp."),
    read=_which_are_sparse,
    write=says_dense,
)
