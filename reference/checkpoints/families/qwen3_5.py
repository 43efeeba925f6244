"""Qwen3.5, its dense text models: Qwen3-Next's two blocks with a dense MLP; q, k, v in one matrix, z, b, a apart."""

from reference.checkpoints.families.qwen3_next import DELTA, TINY_DELTA, TWO_BLOCKS, every_fourth
from reference.checkpoints.family import TRUNK, Family, Published, same
from reference.checkpoints.given import Given


def interval(given: Given, ours: dict) -> None:
    """full_attention_interval, which stands beside layer_types in some files."""
    given.take("full_attention_interval", 4, int)


QWEN3_5 = Family(
    name="qwen3_5_text",
    architecture="Qwen3_5ForCausalLM",
    also=("qwen3_5",),
    published=Published(
        model="Qwen/Qwen3.5-0.8B",
        year=2026,
        licence="Apache-2.0",
        after="Qwen3.6",
        billions=0.8,
        fields={
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
    tiny=TINY_DELTA,
    fields=TRUNK
    | DELTA
    | same(
        max_position_embeddings=32768,
        num_key_value_heads=4,
        attention_bias=False,
        head_dim=256,
        num_nextn_predict_layers=0,
    ),
    always=TWO_BLOCKS,
    only={"hidden_act": ("silu",), "attn_output_gate": (True,), "output_gate_type": ("silu", "swish")},
    mixers={"full_attention": "full_attention", "linear_attention": "linear_attention"},
    default_layers=every_fourth,
    partial_rotary=0.25,
    mixer={"linear_attention": "linear_attn."},
    prefixes=("model.", "model.language_model."),
    ignored=("rotary_emb.inv_freq", "mtp.", "model.visual."),
    read=interval,
)
