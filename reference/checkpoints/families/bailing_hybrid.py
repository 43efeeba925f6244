"""Ling 3.0: KDA whose decay is bounded from below, and latent attention with a gate per head, 5:1."""

from reference.checkpoints.families.deepseek_v32 import LATENT, TINY_LATENT, first_are_dense
from reference.checkpoints.family import Family, Field, Published, same
from reference.checkpoints.given import Given
from reference.checkpoints.layouts import apart, flat, separate_experts
from reference.model.config import HybridConfig


def _layers(n: int, given: Given) -> list[str]:
    every = given.take("layer_group_size", 6, int)
    given.check("layer_group_size", every, int, 1)
    return ["linear_attention" if (layer + 1) % every else "full_attention" for layer in range(n)]


def _read(given: Given, ours: dict) -> None:
    bounded, bound = given.take("kda_safe_gate", True, bool), given.take("kda_lower_bound", -5.0, float)
    ours["linear_decay_bound"] = bound if bounded else None
    ours["shared_expert_intermediate_size"] = given.take("num_shared_experts", 1, int) * ours["moe_intermediate_size"]
    # published files have head_dim, of KDA; transformers writes both, and puts MLA's rotary channels into head_dim
    of_kda = given.take("head_dim", 128, int)
    ours["linear_key_head_dim"] = given.take("linear_head_dim", of_kda, int)
    ours["linear_num_value_heads"] = given.take("linear_num_heads", ours["num_attention_heads"], int)
    ours["linear_conv_kernel_dim"] = given.take("linear_conv_kernel_dim", ours["linear_conv_kernel_dim"], int)
    ours["head_dim"] = ours["qk_rope_head_dim"]
    given.pass_over("qk_head_dim", "mtp_loss_scaling_factor", "layer_group_size")  # follow from others, or train
    first_are_dense(given, ours, 2)


def _write(config: HybridConfig, theirs: dict) -> None:
    theirs["num_shared_experts"] = config.shared_expert_intermediate_size // config.moe_intermediate_size
    theirs["mlp_layer_types"] = [
        "sparse" if config.is_sparse(layer) else "dense" for layer in range(config.num_hidden_layers)
    ]
    theirs["kda_safe_gate"] = config.linear_decay_bound is not None
    if config.linear_decay_bound is not None:
        theirs["kda_lower_bound"] = config.linear_decay_bound
    theirs["head_dim"] = theirs["linear_head_dim"] = config.linear_key_head_dim
    theirs["linear_num_heads"] = config.linear_num_value_heads
    theirs["linear_conv_kernel_dim"] = config.linear_conv_kernel_dim


BAILING_HYBRID = Family(
    name="bailing_hybrid",
    architecture="BailingHybridForCausalLM",
    published=Published(
        model="inclusionAI/Ling-3.0-flash",
        year=2026,
        licence="MIT",
        after="Ling-3.1-flash: 7:1",
        billions=124,
        fields={
            "vocab_size": 157184,
            "hidden_size": 2560,
            "intermediate_size": 6144,
            "num_hidden_layers": 42,
            "num_attention_heads": 32,
        },
    ),
    tiny={name: x for name, x in TINY_LATENT.items() if name != "q_lora_rank"}
    | {
        "head_dim": 12,
        "layer_group_size": 3,
        "moe_intermediate_size": 24,
        "num_experts": 8,
        "num_experts_per_token": 2,
        "num_expert_group": 4,
        "topk_group": 2,
        "first_k_dense_replace": 1,
    },
    fields={name: entry for name, entry in LATENT.items() if name != "q_lora_rank"}
    | {
        "max_position_embeddings": Field("model_max_length", 262144),
        "num_experts": Field("num_experts", 512),
        "num_experts_per_tok": Field("num_experts_per_token", 8),
        "norm_topk_prob": Field("moe_renormalize", True),
        "n_group": Field("num_expert_group", 8),
        "linear_conv_kernel_dim": Field("short_conv_kernel_size", 4),
    }
    | same(moe_intermediate_size=768, topk_group=4, routed_scaling_factor=2.5),
    always={
        "router": "sigmoid",
        "shared_expert_gate": False,
        "qk_norm": None,
        "latent_gate": True,
        "linear_full_rank_gates": True,
    },
    only={"hidden_act": ("silu",), "mlp_bias": (False,)},
    mixers={"full_attention": "latent_attention", "linear_attention": "kda"},
    default_layers=_layers,
    default_theta=6_000_000.0,
    names=(
        ("mixer.forget_gate.", "attention."),
        ("mixer.o_proj.", "attention.dense."),
        ("mlp.e_score_correction_bias", "mlp.gate.expert_bias"),
        ("mlp.shared_expert.", "mlp.shared_experts."),
    ),
    mixer={"kda": "attention.", "latent_attention": "attention."},
    layouts=(
        separate_experts("gate_proj", "up_proj", "down_proj"),
        apart("mixer.conv1d.weight", *(f"attention.{x}_conv1d.weight" for x in "qkv")),
        flat("mixer.forget_gate.A_log", "attention.A_log"),
    ),
    embedding="word_embeddings",
    ignored=("rotary_emb.inv_freq", "model.layers.{num_hidden_layers}."),
    read=_read,
    write=_write,
)
