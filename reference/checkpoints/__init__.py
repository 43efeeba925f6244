"""Checkpoints of ten model families, read into and written from the book's own blocks; see `families`."""

from reference.checkpoints.loading import load_pretrained, read_config
from reference.checkpoints.saving import choose_family, save_pretrained
from reference.checkpoints.trained import load_model

__all__ = ["choose_family", "load_model", "load_pretrained", "read_config", "save_pretrained"]
