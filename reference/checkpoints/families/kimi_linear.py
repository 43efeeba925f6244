"""Kimi Linear: KDA and latent attention without positions 3:1, experts chosen by sigmoid, the first MLP dense."""

from reference.checkpoints.families.deepseek_v32 import TINY_LATENT, first_are_dense
from reference.checkpoints.family import TRUNK, Family, Field, Published, same
from reference.checkpoints.given import Given
from reference.checkpoints.layouts import apart, separate_experts
from reference.model.config import HybridConfig

NESTED = {
    "linear_num_value_heads": "num_heads",
    "linear_key_head_dim": "head_dim",
    "linear_conv_kernel_dim": "short_conv_kernel_size",
}


def _layers(n: int, given: Given) -> list[str]:
    """linear_attn_config counts layers from 1; transformers' default has layer 4, 8, ... full, counted from 0."""
    nested = given.values.get("linear_attn_config") or {}
    given.check("linear_attn_config", nested, dict)
    listed = nested.get("full_attn_layers")
    given.check("linear_attn_config: full_attn_layers", listed, list | None)
    full = [layer - 1 for layer in listed if isinstance(layer, int)] if listed is not None else range(4, n, 4)
    return ["full_attention" if layer in full else "linear_attention" for layer in range(n)]


def _read(given: Given, ours: dict) -> None:
    nested = dict(given.take("linear_attn_config", None, dict | None) or {})
    for name, theirs in NESTED.items():
        ours[name] = nested.pop(theirs, ours[name])
        given.check(f"linear_attn_config: {theirs}", ours[name], int, 1)
    unknown = set(nested) - {"full_attn_layers", "kda_layers"}  # each layer is in one of the two
    if unknown:
        given.fail("linear_attn_config", f"{sorted(unknown)} not known here, so it may change what the model computes")
    ours["shared_expert_intermediate_size"] = given.take("num_shared_experts", 1, int) * ours["moe_intermediate_size"]
    ours["head_dim"] = ours["qk_rope_head_dim"]
    given.pass_over("head_dim", "qk_head_dim")  # follow from the others
    first_are_dense(given, ours, 1)


def _write(config: HybridConfig, theirs: dict) -> None:
    theirs["num_shared_experts"] = config.shared_expert_intermediate_size // config.moe_intermediate_size
    kinds = ["sparse" if config.is_sparse(n) else "dense" for n in range(config.num_hidden_layers)]
    theirs["mlp_layer_types"] = kinds


KIMI_LINEAR = Family(
    name="kimi_linear",
    architecture="KimiLinearForCausalLM",
    published=Published(
        model="moonshotai/Kimi-Linear-48B-A3B-Instruct",
        year=2025,
        licence="MIT",
        after="Kimi K3: decay bounded from below, gated MLA",
        billions=48,
        fields={
            "vocab_size": 163840,
            "hidden_size": 2304,
            "intermediate_size": 9216,
            "num_hidden_layers": 27,
            "num_attention_heads": 32,
            "linear_attn_config": {"full_attn_layers": [4, 8, 12, 16, 20, 24, 27]},
        },
    ),
    tiny=TINY_LATENT
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
    fields={name: entry for name, entry in TRUNK.items() if name != "head_dim"}
    | {
        "max_position_embeddings": Field("model_max_length", 1_048_576),
        "rms_norm_eps": Field("rms_norm_eps", 1e-5),
        "num_experts": Field("num_experts", 256),
        "num_experts_per_tok": Field("num_experts_per_token", 8),
        "norm_topk_prob": Field("moe_renormalize", True),
        "n_group": Field("num_expert_group", 1),
        "linear_num_value_heads": Field("linear_num_heads", 32),
        "linear_key_head_dim": Field("linear_head_dim", 128),
    }
    | same(
        moe_intermediate_size=1024,
        topk_group=1,
        routed_scaling_factor=2.446,
        linear_conv_kernel_dim=4,
        q_lora_rank=None,
        kv_lora_rank=512,
        qk_nope_head_dim=128,
        qk_rope_head_dim=64,
        v_head_dim=128,
        attention_bias=False,
    ),
    always={"latent_rotary": False, "router": "sigmoid", "shared_expert_gate": False, "qk_norm": None},
    only={
        "hidden_act": ("silu",),
        "mla_use_nope": (True,),
        "moe_layer_freq": (1,),
        "moe_router_activation_func": ("sigmoid",),
        "use_grouped_topk": (True, False),  # with one group, the same
    },
    mixers={"full_attention": "latent_attention", "linear_attention": "kda"},
    default_layers=_layers,
    spellings=((".block_sparse_moe.", ".mlp."),),
    names=(
        ("mixer.forget_gate.", "self_attn."),
        ("mlp.gate.", "block_sparse_moe.gate."),
        ("mlp.e_score_correction_bias", "block_sparse_moe.gate.e_score_correction_bias"),
        ("mlp.shared_expert.", "block_sparse_moe.shared_experts."),
    ),
    layouts=(
        separate_experts("w1", "w3", "w2", "block_sparse_moe.experts."),
        apart("mixer.conv1d.weight", *(f"self_attn.{x}_conv1d.weight" for x in "qkv")),
    ),
    read=_read,
    write=_write,
)
