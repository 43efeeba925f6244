"""The published model of each family: what its config.json says, as ours."""

from reference.arguments import cut_short
from reference.checkpoints.families import BY_TYPE, FAMILIES, STORY
from reference.checkpoints.given import Given
from reference.checkpoints.translate import config_from_json
from reference.model.config import HybridConfig

ALL_PUBLISHED = {family.name: family.published for family in FAMILIES}
PUBLISHED = {family.name: family.published for family in STORY}  # those that the chapters put side by side


def published_config(family: str) -> HybridConfig:
    """The published model's config as ours. Raises ValueError that names the families."""
    if family not in ALL_PUBLISHED:
        raise ValueError(f"family: expected one of {list(ALL_PUBLISHED)}, got {cut_short(family)}")
    published = ALL_PUBLISHED[family]
    return config_from_json(BY_TYPE[family], Given(dict(published.fields), published.model))
