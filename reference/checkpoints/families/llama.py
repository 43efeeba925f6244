"""Llama: the classic transformer, and the table that all others are a change of."""

from reference.checkpoints.family import TRUNK, Family, same

LLAMA = Family(
    name="llama",
    architecture="LlamaForCausalLM",
    fields=TRUNK | same(attention_bias=False, mlp_bias=False),
    always={"qk_norm": None},
    only={"hidden_act": ("silu",)},
    says_layers=False,
)
