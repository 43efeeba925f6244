"""The models behind the families: what each is, as its config.json says it, and what came after it.

Fields that a config.json leaves to its family's defaults are left out here as well.
"""

from typing import NamedTuple

from reference.checkpoints.families import BY_TYPE
from reference.checkpoints.given import Given
from reference.model.config import HybridConfig


class Published(NamedTuple):
    model: str  # on huggingface.co
    year: int
    licence: str
    after: str  # what its makers did next
    fields: dict

    @property
    def source(self) -> str:
        return f"https://huggingface.co/{self.model}"


LLAMA3_ROPE = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
YARN = {"rope_type": "yarn", "beta_fast": 32, "beta_slow": 1, "original_max_position_embeddings": 4096}

PUBLISHED = {
    "llama": Published(
        "meta-llama/Llama-3.1-8B",
        2024,
        "Llama 3.1 Community",
        "the transformer that the others are a change of",
        {
            "vocab_size": 128256,
            "hidden_size": 4096,
            "intermediate_size": 14336,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "max_position_embeddings": 131072,
            "rms_norm_eps": 1e-5,
            "rope_theta": 500000.0,
            "rope_scaling": LLAMA3_ROPE,
        },
    ),
    "qwen3": Published(
        "Qwen/Qwen3-8B",
        2025,
        "Apache-2.0",
        "Qwen3-Next",
        {
            "vocab_size": 151936,
            "hidden_size": 4096,
            "intermediate_size": 12288,
            "num_hidden_layers": 36,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "max_position_embeddings": 40960,
            "rope_theta": 1000000,
        },
    ),
    "qwen3_next": Published(
        "Qwen/Qwen3-Next-80B-A3B-Instruct",
        2025,
        "Apache-2.0",
        "Qwen3.5 and 3.6 keep the two blocks; Qwen3.8-Flash-Next makes its softmax layers sparse",
        {
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
    "qwen3_5_text": Published(
        "Qwen/Qwen3.5-0.8B",
        2026,
        "Apache-2.0",
        "Qwen3.6",
        {
            "vocab_size": 248320,
            "hidden_size": 1024,
            "intermediate_size": 3584,
            "num_hidden_layers": 24,
            "num_attention_heads": 8,
            "num_key_value_heads": 2,
            "linear_num_value_heads": 16,
            "max_position_embeddings": 262144,
            "tie_word_embeddings": True,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000000, "partial_rotary_factor": 0.25},
        },
    ),
    "kimi_linear": Published(
        "moonshotai/Kimi-Linear-48B-A3B-Instruct",
        2025,
        "MIT",
        "Kimi K3: decay bounded from below, gated MLA",
        {
            "vocab_size": 163840,
            "hidden_size": 2304,
            "intermediate_size": 9216,
            "num_hidden_layers": 27,
            "num_attention_heads": 32,
            "linear_attn_config": {"full_attn_layers": [4, 8, 12, 16, 20, 24, 27]},
        },
    ),
    "minimax": Published(
        "MiniMaxAI/MiniMax-Text-01-hf",
        2025,
        "MiniMax Model License",
        "MiniMax-M1 reasons with it; M2 went back to full attention",
        {
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
    "minimax_m2": Published(
        "MiniMaxAI/MiniMax-M2",
        2025,
        "MIT",
        "MiniMax M3: block-sparse attention",
        {
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
    "deepseek_v32": Published(
        "deepseek-ai/DeepSeek-V3.2",
        2025,
        "MIT",
        "DeepSeek V4: compressed keys, sparse and dense",
        {
            "vocab_size": 129280,
            "hidden_size": 7168,
            "intermediate_size": 18432,
            "num_hidden_layers": 61,
            "num_attention_heads": 128,
            "max_position_embeddings": 163840,
            "rope_scaling": YARN | {"factor": 40, "mscale": 1.0, "mscale_all_dim": 1.0},
        },
    ),
    "gpt_oss": Published(
        "openai/gpt-oss-20b",
        2025,
        "Apache-2.0",
        "outside the story of this book",
        {
            "vocab_size": 201088,
            "hidden_size": 2880,
            "intermediate_size": 2880,
            "num_hidden_layers": 24,
            "num_attention_heads": 64,
            "num_key_value_heads": 8,
            "num_local_experts": 32,
            "max_position_embeddings": 131072,
            "rope_scaling": YARN | {"factor": 32.0, "truncate": False},
        },
    ),
    "olmo_hybrid": Published(
        "allenai/Olmo-Hybrid-7B",
        2026,
        "Apache-2.0",
        "outside the story of this book",
        {
            "vocab_size": 100352,
            "hidden_size": 3840,
            "intermediate_size": 11008,
            "num_hidden_layers": 32,
            "num_attention_heads": 30,
            "max_position_embeddings": 65536,
            "rope_theta": None,
        },
    ),
}


def published_config(family: str) -> HybridConfig:
    """The published model's config as ours. Raises ValueError that names the families."""
    if family not in PUBLISHED:
        raise ValueError(f"family: expected one of {list(PUBLISHED)}, got {family!r}")
    published = PUBLISHED[family]
    return BY_TYPE[family].to_config(Given(dict(published.fields), published.model))
