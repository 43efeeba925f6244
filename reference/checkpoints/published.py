"""The published model of each family: what its config.json says, as ours."""

from reference.checkpoints.families import BY_TYPE, FAMILIES
from reference.checkpoints.given import Given
from reference.checkpoints.translate import config_from_json
from reference.model.config import HybridConfig

PUBLISHED = {family.name: family.published for family in FAMILIES}


def published_config(family: str) -> HybridConfig:
    """The published model's config as ours. Raises ValueError that names the families."""
    if family not in PUBLISHED:
        raise ValueError(f"family: expected one of {list(PUBLISHED)}, got {family!r}")
    published = PUBLISHED[family]
    return config_from_json(BY_TYPE[family], Given(dict(published.fields), published.model))
