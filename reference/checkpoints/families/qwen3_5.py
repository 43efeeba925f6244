"""Qwen3.5, its dense text models: Qwen3-Next's two blocks with a dense MLP; q, k, v in one matrix, z, b, a apart."""

from reference.checkpoints.families.qwen3_next import DELTA, TWO_BLOCKS, every_fourth
from reference.checkpoints.family import TRUNK, Family, same
from reference.checkpoints.given import Given


def _interval(given: Given, ours: dict) -> None:
    given.take("full_attention_interval", 4, int)


QWEN3_5 = Family(
    name="qwen3_5_text",
    architecture="Qwen3_5ForCausalLM",
    also=("qwen3_5",),
    fields=TRUNK | DELTA | same(attention_bias=False, head_dim=256, num_nextn_predict_layers=0),
    always=TWO_BLOCKS,
    only={"hidden_act": ("silu",), "attn_output_gate": (True,), "output_gate_type": ("silu", "swish")},
    mixers={"full_attention": "full_attention", "linear_attention": "linear_attention"},
    default_layers=every_fourth,
    partial_rotary=0.25,
    mixer={"linear_attention": "linear_attn."},
    prefixes=("model.", "model.language_model."),
    ignored=("rotary_emb.inv_freq", "mtp.", "model.visual."),
    read=_interval,
)
