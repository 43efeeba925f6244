"""Tiny random models of every family, built by transformers with every parameter away from its initial value."""

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, Mistral4Config, Mistral4ForCausalLM

from reference.checkpoints.families import FAMILIES
from reference.checkpoints.families.qwen3_next import TINY_DELTA
from reference.checkpoints.family import ABSENT
from reference.checkpoints.tiny import TINY, TINY_VOCAB, tiny_fields

AutoModelForCausalLM.register(Mistral4Config, Mistral4ForCausalLM, exist_ok=True)  # 5.23 leaves it out
transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

DELTA, VOCAB = TINY_DELTA, TINY_VOCAB
MOE = {key: x for key, x in TINY["qwen3_next"].items() if not key.startswith("linear_")}
YARN = {"rope_type": "yarn", "rope_theta": 10_000.0, "factor": 4.0, "original_max_position_embeddings": 32}
FACTORS = {
    f"{kind}_{end}_factor": value
    for kind, alpha in (("full_attn", 3.5), ("linear_attn", 2.5), ("mlp", 1.5))
    for end, value in (("alpha", alpha), ("beta", 0.75))
}

# name of the variant: (model_type, fields); each family as it is, and what has a code path of its own
VARIANTS = {family.name: (family.name, {}) for family in FAMILIES} | {
    "llama, odd heads, biases, tied": (
        "llama",
        {
            "head_dim": 10,
            "num_key_value_heads": 1,
            "attention_bias": True,
            "mlp_bias": True,
            "tie_word_embeddings": True,
        },
    ),
    "qwen3, windows": ("qwen3", {"use_sliding_window": True, "sliding_window": 7, "max_window_layers": 2}),
    "qwen3_next, equal heads, some dense, odd sizes": (
        "qwen3_next",
        MOE
        | {
            "linear_num_key_heads": 3,
            "linear_num_value_heads": 3,
            "linear_key_head_dim": 11,
            "linear_value_head_dim": 13,
            "linear_conv_kernel_dim": 3,
            "mlp_only_layers": [1],
            "decoder_sparse_step": 2,
            "norm_topk_prob": False,
            "head_dim": 24,
            "attention_bias": True,
        },
    ),
    "qwen3_5_text, three values to a key, tied": (
        "qwen3_5_text",
        DELTA | {"linear_num_value_heads": 6, "tie_word_embeddings": True, "full_attention_interval": 2},
    ),
    "kimi_linear, query latent, two shared": (
        "kimi_linear",
        {
            "q_lora_rank": 20,
            "num_shared_experts": 2,
            "num_hidden_layers": 9,
            "moe_renormalize": False,
            "linear_head_dim": 13,
            "v_head_dim": 19,
        },
    ),
    "minimax, 7:1, scaled": (
        "minimax",
        FACTORS
        | {
            "num_hidden_layers": 8,
            "num_local_experts": 4,
            "layer_types": ["linear_attention"] * 7 + ["full_attention"],
            "head_dim": 18,
        },
    ),
    "minimax_m2, half turned": (
        "minimax_m2",
        {"num_local_experts": 8, "num_experts_per_tok": 3, "rotary_dim": 10, "head_dim": 20, "num_attention_heads": 6},
    ),
    "deepseek_v32, yarn, two shared, no groups": (
        "deepseek_v32",
        {
            "n_group": 1,
            "topk_group": 1,
            "n_shared_experts": 2,
            "norm_topk_prob": False,
            "attention_bias": True,
            "rope_parameters": YARN | {"mscale": 1.0, "mscale_all_dim": 0.7},
        },
    ),
    "deepseek_v32, all read": ("deepseek_v32", {"index_topk": 64}),
    "deepseek_v2, greedy": ("deepseek_v2", {"topk_method": "greedy", "q_lora_rank": None, "n_shared_experts": 1}),
    "deepseek_v3, no query latent, all dense, yarn": (
        "deepseek_v3",
        {
            "q_lora_rank": None,
            "first_k_dense_replace": 4,
            "attention_bias": True,
            "rope_parameters": YARN | {"mscale": 1.0, "mscale_all_dim": 1.0},
        },
    ),
    "granitemoehybrid, dense, turned": (
        "granitemoehybrid",
        {"num_local_experts": 0, "num_experts_per_tok": 0, "position_embedding_type": "rope", "head_dim": 16},
    ),
    "olmo3, yarn in full layers": (
        "olmo3",
        {
            "rope_parameters": {
                "full_attention": YARN,
                "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
            }
        },
    ),
    "gemma3_text, stretched, biases, untied": (
        "gemma3_text",
        {
            "attention_bias": True,
            "tie_word_embeddings": False,
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1_000_000.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 500.0},
            },
        },
    ),
    "falcon_h1, norm in front, biases": (
        "falcon_h1",
        {
            "mamba_rms_norm": True,
            "mamba_proj_bias": True,
            "projectors_bias": True,
            "attention_bias": True,
            "ssm_multipliers": None,
            "mlp_multipliers": None,
        },
    ),
    "nemotron_h, dense": (
        "nemotron_h",
        {
            "layers_block_type": ["linear_attention", "full_attention", "mlp", "linear_attention", "mlp"],
            "moe_latent_size": None,
        },
    ),
    "recurrent_gemma, odd heads, biases, a rounded factor": (
        "recurrent_gemma",
        {
            "hidden_size": 72,
            "num_attention_heads": 6,
            "num_key_value_heads": 3,
            "block_types": ["attention", "recurrent"],
            "attention_bias": True,
            "conv1d_width": 3,
            "head_dim": ABSENT,
        },
    ),
    "lfm2_moe, all sparse, biases": ("lfm2_moe", {"num_dense_layers": 0, "conv_bias": True, "norm_topk_prob": False}),
    "lfm3, no gates, the usual bases, untied": (
        "lfm3",
        {
            "use_attention_gate": False,
            "rope_parameters": None,
            "conv_bias": True,
            "tie_word_embeddings": False,
            "layer_types": ["full_attention", "conv", "sliding_attention", "conv", "full_attention"],
        },
    ),
    "jamba, dense, no softmax": ("jamba", {"num_experts": 1, "num_experts_per_tok": 1, "attn_layer_period": 9}),
    "mamba, no biases, untied": (
        "mamba",
        {"use_bias": False, "use_conv_bias": False, "time_step_rank": 3, "tie_word_embeddings": False},
    ),
    "granite, biases": ("granite", {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}),
    "granite_swa, one base": ("granite_swa", {"layer_rope_theta": None, "tie_word_embeddings": False}),
    "granitemoe_swa, none shared": ("granitemoe_swa", {"shared_intermediate_size": 0, "layer_rope_theta": [0] * 4}),
    "qwen3_moe, some dense": (
        "qwen3_moe",
        {"mlp_only_layers": [0], "decoder_sparse_step": 2, "norm_topk_prob": True, "attention_bias": True},
    ),
    "gpt_oss, yarn, clamped": (
        "gpt_oss",
        {
            "num_local_experts": 6,
            "num_experts_per_tok": 3,
            "sliding_window": 5,
            "swiglu_limit": 0.2,
            "rope_parameters": YARN | {"truncate": False},
        },
    ),
    "olmo_hybrid, no positions, beta below 1": (
        "olmo_hybrid",
        DELTA | {"linear_allow_neg_eigval": False, "rope_parameters": {"rope_type": "default", "rope_theta": None}},
    ),
}
PLAIN = [name for name, (kind, _) in VARIANTS.items() if name == kind]  # one of each family


def build(variant, **more):
    """transformers' model, in eval mode, float32."""
    kind, fields = VARIANTS[variant]
    torch.manual_seed(sorted(VARIANTS).index(variant))
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **tiny_fields(kind, **fields | more))).eval()
    return perturb(model)


@torch.no_grad()
def perturb(model):
    for p in model.parameters():
        p.add_(0.1 * torch.randn_like(p))
    for name, b in model.named_buffers():
        if name.endswith(("e_score_correction_bias", "expert_bias")):
            b.add_(0.3 * torch.randn_like(b))
    return model


def some_ids(batch=2, length=41, seed=0):
    return torch.randint(3, VOCAB, (batch, length), generator=torch.Generator().manual_seed(seed))


def difference(got, wanted):
    """Largest difference, in standard deviations of what was wanted."""
    return ((got.float() - wanted.float()).abs().max() / wanted.float().std()).item()
