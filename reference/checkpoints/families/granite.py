"""Granite 3: Llama with four multipliers, of embeddings, scores, what a block adds, and logits."""

from reference.checkpoints.family import TRUNK, Family, Published, same

MULTIPLIERS = same(embedding_multiplier=1.0, attention_multiplier=1.0, residual_multiplier=1.0, logits_scaling=1.0)
TINY_MULTIPLIERS = {
    "embedding_multiplier": 3.0,
    "attention_multiplier": 0.4,
    "residual_multiplier": 0.7,
    "logits_scaling": 2.0,
}
GRANITE_TRUNK = TRUNK | MULTIPLIERS | same(attention_bias=False)

GRANITE = Family(
    name="granite",
    architecture="GraniteForCausalLM",
    published=Published(
        model="ibm-granite/granite-3.3-8b-instruct",
        year=2025,
        licence="Apache-2.0",
        after="Granite 4.0-H: Mamba-2 in nine layers of ten",
        billions=8.17,
        fields={
            "vocab_size": 49159,
            "hidden_size": 4096,
            "intermediate_size": 12800,
            "num_hidden_layers": 40,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "max_position_embeddings": 131072,
            "rope_theta": 10000000.0,
            "rms_norm_eps": 1e-5,
            "embedding_multiplier": 12.0,
            "attention_multiplier": 0.0078125,
            "residual_multiplier": 0.22,
            "logits_scaling": 16.0,
            "tie_word_embeddings": True,
        },
    ),
    tiny=TINY_MULTIPLIERS,
    fields=GRANITE_TRUNK | same(mlp_bias=False),
    always={"qk_norm": None},
    only={"hidden_act": ("silu",)},
    says_layers=False,
)
