"""Nemotron-H: Mamba-2, a few softmax layers without positions, and MLPs of squared ReLUs, each a layer of its own."""

from reference.arguments import cut_short
from reference.checkpoints.families.mamba2 import unlimited_steps
from reference.checkpoints.family import ABSENT, TRUNK, Family, Field, Published, same
from reference.checkpoints.given import Given
from reference.checkpoints.layouts import separate_plain_experts
from reference.model.config import HybridConfig

_SYMBOLS = {"M": "linear_attention", "*": "full_attention", "-": "mlp", "E": "moe"}
_OLDER = {"mamba": "linear_attention", "attention": "full_attention"}
_MLPS = {"mlp": "dense", "moe": "sparse"}
_DEFAULT = ["linear_attention", "moe", "full_attention", "mlp"]
_NO_EFFECT = ("chunk_size", "expand", "num_logits_to_keep", "use_mamba_kernels", "mamba_ssm_cache_dtype")
_NO_EFFECT += ("moe_shared_expert_overlap", "n_shared_experts", "residual_in_fp32", "rescale_prenorm_residual")
_NO_EFFECT += (
    "time_step_max",
    "time_step_floor",
    "mtp_layers_block_type",
    "mtp_hybrid_override_pattern",
    "mamba_expand",
)
_NO_EFFECT += ("attention_bias", "mamba_proj_bias", "sliding_window", "attention_head_dim")
_NO_EFFECT += ("rms_norm_eps", "norm_eps", "hidden_act", "time_step_rank")
_NO_EFFECT += ("rope_theta", "partial_rotary_factor")  # in published files; no layer has positions


def _restate(given: Given) -> None:
    """The file's layers, each a mixer or an MLP, as blocks of a mixer and the MLP that follows it, if one does."""
    pattern = given.take("hybrid_override_pattern", None, str | None)
    layers = given.take("layers_block_type", given.take("layer_types", None, list | None), list | None)
    if layers is None:
        layers = _DEFAULT if pattern is None else [_SYMBOLS.get(letter, letter) for letter in pattern]
    given.take("num_hidden_layers", None)  # the layers say it; transformers passes over it
    blocks: list[list[str]] = []
    for n, kind in enumerate(layers):
        kind = _OLDER.get(kind, kind) if isinstance(kind, str) else repr(kind)
        if kind in ("linear_attention", "full_attention"):
            blocks.append([kind, "none"])
        elif kind in _MLPS and blocks and blocks[-1][1] == "none":
            blocks[-1][1] = _MLPS[kind]
        elif kind in _MLPS:
            given.fail("layers_block_type", f"layer {n} is an MLP without a mixer in front: not implemented here")
        else:
            given.fail("layers_block_type", f"expected {list(_SYMBOLS.values())}, got {cut_short(kind)}")
    kinds, mlps = zip(*blocks, strict=True) if blocks else ((), ())
    given.values |= {"num_hidden_layers": len(kinds), "layer_types": list(kinds), "mlp_layer_types": list(mlps)}


def _read(given: Given, ours: dict) -> None:
    ours["mlp_layer_types"] = tuple(given.take("mlp_layer_types"))
    given.pass_over(*_NO_EFFECT)  # of kernels, of training, or fields that transformers doesn't read either
    unlimited_steps(given)
    for name in ("mamba_n_groups", "mamba_d_conv", "mamba_dt_limit", "mamba_dt_min", "mamba_conv_bias"):
        if given.take(name, None) is not None:
            given.fail(name, "an older spelling that is not read here")
    ours["moe_latent_size"] = given.take("moe_latent_size", None, int | None) or 0
    if "sparse" not in ours["mlp_layer_types"]:
        ours |= {"num_experts": 0, "num_experts_per_tok": 0, "moe_intermediate_size": 0, "moe_latent_size": 0}
        ours |= {"shared_expert_intermediate_size": 0, "n_group": 1, "topk_group": 1, "routed_scaling_factor": 1.0}
        ours["norm_topk_prob"] = True


def _write(config: HybridConfig, theirs: dict) -> None:
    names = {ours: name for name, ours in _MLPS.items()}
    layers = []
    for n, kind in enumerate(theirs.pop("layer_types")):
        mlp = "dense" if config.mlp_layer_types is None else config.mlp_layer_types[n]
        layers += [kind, names[mlp]] if mlp != "none" else [kind]
    theirs |= {"layers_block_type": layers, "num_hidden_layers": len(layers)}
    theirs["moe_latent_size"] = config.moe_latent_size or None


NEMOTRON_H = Family(
    name="nemotron_h",
    architecture="NemotronHForCausalLM",
    published=Published(
        model="nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16",
        year=2025,
        licence="NVIDIA Open Model License",
        after="Nemotron 3 Super: experts on a smaller latent",
        billions=31.6,
        fields={
            "vocab_size": 131072,
            "hidden_size": 2688,
            "hybrid_override_pattern": "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME",
            "num_key_value_heads": 2,
            "max_position_embeddings": 262144,
            "mamba_num_heads": 64,
            "n_routed_experts": 128,
            "num_experts_per_tok": 6,
            "moe_intermediate_size": 1856,
            "moe_shared_expert_intermediate_size": 3712,
            "intermediate_size": 1856,
            "routed_scaling_factor": 2.5,
        },
    ),
    tiny={
        "layers_block_type": ["linear_attention", "moe", "full_attention", "mlp", "linear_attention", "full_attention"],
        "num_hidden_layers": ABSENT,
        "ssm_state_size": 12,
        "mamba_num_heads": 8,
        "mamba_head_dim": 10,
        "n_groups": 2,
        "n_routed_experts": 8,
        "num_experts_per_tok": 3,
        "n_group": 4,
        "topk_group": 2,
        "moe_intermediate_size": 24,
        "moe_shared_expert_intermediate_size": 40,
        "moe_latent_size": 16,
        "routed_scaling_factor": 1.5,
        "mlp_bias": True,
        "use_bias": True,
    },
    restate=_restate,
    fields={name: entry for name, entry in TRUNK.items() if name != "rms_norm_eps"}
    | {
        "num_attention_heads": Field("num_attention_heads", 32),
        "num_key_value_heads": Field("num_key_value_heads", 8),
        "head_dim": Field("head_dim", 128),
        "intermediate_size": Field("intermediate_size", 21504),
        "max_position_embeddings": Field("max_position_embeddings", 4096),
        "rms_norm_eps": Field("layer_norm_epsilon", 1e-5),
        "linear_num_value_heads": Field("mamba_num_heads", 128),
        "linear_value_head_dim": Field("mamba_head_dim", 64),
        "linear_key_head_dim": Field("ssm_state_size", 128),
        "linear_num_key_heads": Field("n_groups", 8),
        "linear_conv_kernel_dim": Field("conv_kernel", 4),
        "linear_conv_bias": Field("use_conv_bias", True),
        "linear_bias": Field("use_bias", False),
        "linear_step_min": Field("time_step_min", 0.001),
        "num_experts": Field("n_routed_experts", 8),
        "shared_expert_intermediate_size": Field("moe_shared_expert_intermediate_size", 7688),
    }
    | same(
        mlp_bias=False,
        num_experts_per_tok=2,
        moe_intermediate_size=7688,
        norm_topk_prob=True,
        n_group=1,
        topk_group=1,
        routed_scaling_factor=1.0,
    ),
    always={"qk_norm": None, "mlp_activation": "relu2", "router": "sigmoid", "shared_expert_gate": False},
    only={"mlp_hidden_act": ("relu2",), "mamba_hidden_act": ("silu", "swish")},
    mixers={"full_attention": "full_attention", "linear_attention": "mamba2"},
    positions=False,
    mixer={"full_attention": "mixer.", "mamba2": "mixer."},
    names=(
        ("input_layernorm.", "norm."),
        ("post_attention_layernorm.", "norm."),
        ("mlp.e_score_correction_bias", "mixer.gate.e_score_correction_bias"),
        ("mlp.shared_expert.", "mixer.shared_experts."),
        ("mlp.to_latent.", "mixer.fc1_latent_proj."),
        ("mlp.from_latent.", "mixer.fc2_latent_proj."),
        ("mlp.", "mixer."),
    ),
    layouts=(separate_plain_experts("up_proj", "down_proj", "mixer.experts."),),
    embedding="embeddings",
    last_norm="norm_f",
    halves_apart=True,
    prefixes=("backbone.", "model."),
    ignored=("mtp.",),
    read=_read,
    write=_write,
)
