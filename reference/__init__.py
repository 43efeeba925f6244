"""The tested reference code of the book *From the delta rule to the hybrid LLM*.

`reference.equations` holds the update rules in NumPy, one token at a time; `reference.ops` the operators in
PyTorch; `reference.layers` what a model puts around them. The names below are loaded when they are used, so
that `python -m reference doctor` works where PyTorch doesn't.
"""

import importlib

__version__ = "0.1.0"

_HOMES = {
    "Cache": "reference.model.cache",
    "HybridConfig": "reference.model.config",
    "HybridLM": "reference.model.hybrid",
    "generate": "reference.model.generation",
    "load_pretrained": "reference.checkpoints",
    "new_cache": "reference.model.cache",
    "pad_left": "reference.model.generation",
    "preset": "reference.model.config",
    "save_pretrained": "reference.checkpoints",
    "stream_text": "reference.model.text",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'reference' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
