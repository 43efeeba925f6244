"""What a model remembers between calls: one state per layer, each an immutable record of its mixer."""

from typing import NamedTuple

import torch
from torch import Tensor

from reference.arguments import check_positive_int
from reference.layers.mixer import tensors_of


class Snapshot(NamedTuple):
    """A cache at one moment. States are never written in place, so a snapshot copies nothing."""

    states: tuple
    seen: int
    left_padding: Tensor | None
    unread: Tensor | None = None


class Cache:
    """Filled by `model(ids, cache=cache)`: softmax layers' states grow, linear layers' keep their size.

    n_layers    layers of the model
    batch_size  rows of ids

    A recurrent state can't be rewound, so there is no `crop`: take a snapshot where a prefix may be used
    again (the end of a system prompt, of a turn), and restore the snapshot.
    """

    def __init__(self, n_layers: int, batch_size: int):
        self.states: list = [None] * n_layers
        self.batch_size, self.seen = batch_size, 0
        self.unread: Tensor | None = None  # [B, 1] the token that `generate` ended with: in the text, not in the states
        self.left_padding: Tensor | None = None  # [B] padding at the start of each row

    def snapshot(self) -> Snapshot:
        """The cache as it is now, without a copy."""
        return Snapshot(tuple(self.states), self.seen, self.left_padding, self.unread)

    def restore(self, snapshot: Snapshot) -> None:
        """Back to the moment of the snapshot. Raises ValueError if the snapshot is of a model of other depth."""
        if len(snapshot.states) != len(self.states):
            raise ValueError(f"snapshot: expected {len(self.states)} layers, got {len(snapshot.states)}")
        rows = {x.shape[0] for state in snapshot.states for x in tensors_of(state)}
        if rows - {self.batch_size}:
            raise ValueError(f"snapshot: expected {self.batch_size} batch row(s), got {max(rows)}")
        self.states, self.seen, self.left_padding = list(snapshot.states), snapshot.seen, snapshot.left_padding
        self.unread = snapshot.unread

    def nbytes(self) -> int:
        """Bytes that the states hold."""
        return sum(x.nbytes for state in self.states for x in tensors_of(state))


def new_cache(model: torch.nn.Module, batch_size: int = 1) -> Cache:
    """An empty cache for a HybridLM and batch_size rows. Raises ValueError that names batch_size."""
    check_positive_int("batch_size", batch_size)
    return Cache(model.config.num_hidden_layers, batch_size)
