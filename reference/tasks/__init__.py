"""Synthetic tasks: each draws token ids from a seed and knows the answers, or the best loss possible."""

from reference.tasks._questions import NOT_ASKED, PAD, Questions, accuracy, asked
from reference.tasks.backcopy import BEGIN, BigramBackcopy, Texts
from reference.tasks.combined import RecallAndParity, RecallByParity, batch_together
from reference.tasks.copying import Induction, SelectiveCopying
from reference.tasks.dialogue import MultiTurn
from reference.tasks.hops import MultiHop
from reference.tasks.recall import AssociativeRecall, Needle, Overwriting, Stream
from reference.tasks.tracking import Parity, Permutations

__all__ = [
    "BEGIN",
    "NOT_ASKED",
    "PAD",
    "AssociativeRecall",
    "BigramBackcopy",
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
    "accuracy",
    "asked",
    "batch_together",
]
