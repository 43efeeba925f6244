"""The smallest config.json of each family that still has all its parts: for transformers to build, and us to load."""

from reference.arguments import cut_short
from reference.checkpoints.families import FAMILIES, STORY
from reference.checkpoints.family import ABSENT

TINY_VOCAB = 97
BASE = {
    "vocab_size": TINY_VOCAB,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": None,
}
ALL_TINY = {family.name: family.tiny for family in FAMILIES}  # what differs from BASE
TINY = {family.name: family.tiny for family in STORY}  # those that chapter 12 builds


def tiny_fields(family: str, **more: object) -> dict[str, object]:
    """Fields for `AutoConfig.for_model(family, ...)`. Raises ValueError that names the families."""
    if family not in ALL_TINY:
        raise ValueError(f"family: expected one of {list(ALL_TINY)}, got {cut_short(family)}")
    return {name: x for name, x in (BASE | ALL_TINY[family] | more).items() if x is not ABSENT}
