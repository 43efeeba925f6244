"""Synthetic tasks: each draws token ids from a seed and knows the answers, or the best loss possible.

Their names are imported when they are asked for: tables of them are read where PyTorch isn't installed.
"""

import importlib

_HOMES = {
    "_questions": ("NOT_ASKED", "PAD", "Questions", "accuracy", "asked"),
    "backcopy": ("BEGIN", "BigramBackcopy", "Texts"),
    "combined": ("RecallAndParity", "RecallByParity", "batch_together"),
    "copying": ("Induction", "SelectiveCopying"),
    "dialogue": ("MultiTurn",),
    "facts": ("FactQuestions", "FactTexts", "Facts"),
    "hops": ("MultiHop",),
    "recall": ("AssociativeRecall", "Needle", "Overwriting", "Stream"),
    "tracking": ("Parity", "Permutations"),
    "walk": ("WordsAndKeys",),
}

__all__ = [
    "BEGIN",
    "NOT_ASKED",
    "PAD",
    "AssociativeRecall",
    "BigramBackcopy",
    "FactQuestions",
    "FactTexts",
    "Facts",
    "Induction",
    "MultiHop",
    "MultiTurn",
    "Needle",
    "Overwriting",
    "Parity",
    "Permutations",
    "Questions",
    "RecallAndParity",
    "RecallByParity",
    "SelectiveCopying",
    "Stream",
    "Texts",
    "WordsAndKeys",
    "accuracy",
    "asked",
    "batch_together",
]


def __getattr__(name: str) -> object:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
