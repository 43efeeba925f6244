"""Llama: the classic transformer, and the table that all others are a change of."""

from reference.checkpoints.family import TRUNK, Family, Published, same

LLAMA = Family(
    name="llama",
    architecture="LlamaForCausalLM",
    published=Published(
        model="meta-llama/Llama-3.1-8B",
        year=2024,
        licence="Llama 3.1 Community",
        after="the transformer that the others are a change of",
        billions=8.03,
        fields={
            "vocab_size": 128256,
            "hidden_size": 4096,
            "intermediate_size": 14336,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "max_position_embeddings": 131072,
            "rms_norm_eps": 1e-5,
            "rope_theta": 500000.0,
            "rope_scaling": {
                "rope_type": "llama3",
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192,
            },
        },
    ),
    fields=TRUNK | same(attention_bias=False, mlp_bias=False),
    always={"qk_norm": None},
    only={"hidden_act": ("silu",)},
    says_layers=False,
)
