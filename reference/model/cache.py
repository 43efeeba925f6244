"""What a model remembers between calls: one state per layer, each an immutable record of its mixer."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from reference.arguments import check_count, check_positive_int, cut_short, is_whole_number
from reference.layers.mixer import map_tensors, tensors_of
from reference.layers.mixers import mixer
from reference.model.config import HybridConfig


class Snapshot(NamedTuple):
    """A cache at one moment. States are never written in place, so a snapshot copies nothing."""

    states: tuple
    seen: int
    left_padding: Tensor | None
    unread: Tensor | None = None


class Cache:
    """Filled by `model(ids, cache=cache)`: softmax layers' states grow, linear layers' keep their size.

    config      the model's
    batch_size  rows of ids
    rewindable  tokens that `rewind` can take back at any time

    A recurrent state can't be computed backwards. Two ways lead back all the same. A snapshot, taken where a prefix
    may be used again, costs nothing to take and one state to keep. A cache made with rewindable = n keeps what the
    last tokens wrote beside a state from before them (ops/replay.py), and can go back by any number of tokens up to n.

    Each row has a cursor of its own. All rows end in the same place; a row that went back further than others moves
    towards the end, and so many more places in front of it are padding, as `left_padding` says.
    """

    def __init__(self, config: HybridConfig, batch_size: int, rewindable: int = 0):
        self.config, self.rewindable = config, rewindable
        self.states: list = [None] * config.num_hidden_layers
        self.batch_size, self.seen = batch_size, 0
        self.unread: Tensor | None = None  # [B, 1] the token that `generate` ended with: in the text, not in the states
        self.left_padding: Tensor | None = None  # [B] padding at the start of each row; `seen` counts it

    def snapshot(self) -> Snapshot:
        """The cache as it is now, without a copy."""
        return Snapshot(tuple(self.states), self.seen, self.left_padding, self.unread)

    def restore(self, snapshot: Snapshot) -> None:
        """Back to the moment of the snapshot; one of a single row is repeated for every row of the cache. Raises
        ValueError if the snapshot is of a model of other depth, or of another number of rows."""
        if len(snapshot.states) != len(self.states):
            raise ValueError(f"snapshot: expected {len(self.states)} layers, got {len(snapshot.states)}")
        rows = {x.shape[0] for state in snapshot.states for x in tensors_of(state)}
        if rows - {self.batch_size, 1}:
            raise ValueError(f"snapshot: expected {self.batch_size} batch row(s), or one to repeat, got {max(rows)}")
        self._put(snapshot)
        if rows == {1} and self.batch_size > 1:
            self._take([0] * self.batch_size)

    def select(self, rows: Sequence[int] | Tensor) -> None:
        """Keep these rows, in this order; a row may be taken several times: [0] * n makes n samples of one prompt,
        [2, 0, 0] lets the beams 2 and 0 live. Raises ValueError that names rows."""
        rows = rows.tolist() if isinstance(rows, Tensor) else list(rows)
        if not rows or not all(is_whole_number(row, 0, self.batch_size - 1) for row in rows):
            raise ValueError(f"rows: expected indices from 0 to {self.batch_size - 1}, got {rows}")
        self._take(rows)

    def rewind(self, n: int | Sequence[int] | Tensor) -> None:
        """Take the last n tokens that the model has read back, one number for every row or one for each: the cache is
        what it was before them, up to rounding. Going back to the start is always possible, else `rewindable` tokens
        are, and those only if they were read by this cache and not taken back. `unread` is dropped. Raises ValueError
        that names n, and changes nothing then."""
        padding = [0] * self.batch_size if self.left_padding is None else self.left_padding.tolist()
        rows = self._back_in_rows(n, padding)
        if all(back + skip == self.seen for back, skip in zip(rows, padding, strict=True)):
            self._put(Snapshot((None,) * len(self.states), 0, None))
        elif any(rows):
            fewest, uneven = min(rows), min(rows) < max(rows)
            states = self._ask("rewind", self.states, rows if uneven else fewest)
            seen, after = self.seen - fewest, self.left_padding
            if uneven:
                padding = [skip + back - fewest for back, skip in zip(rows, padding, strict=True)]
                spare = min(padding)  # padding in front of every row
                states = self._ask("trim", states, spare) if spare else states
                seen, device = seen - spare, tensors_of(states[0])[0].device
                after = torch.tensor(padding, device=device) - spare if max(padding) > spare else None
            self._put(Snapshot(tuple(states), seen, after))
        self.unread = None

    def nbytes(self) -> int:
        """Bytes that the states hold."""
        return sum(x.nbytes for state in self.states for x in tensors_of(state))

    def _back_in_rows(self, n: int | Sequence[int] | Tensor, padding: list[int]) -> list[int]:
        """How far each row goes back; ValueError where it doesn't hold so many tokens."""
        if not isinstance(n, Tensor | list | tuple):
            check_count("n", n, most=self.seen)
            if n == self.seen:
                return [n - skip for skip in padding]
        held = [self.seen - skip for skip in padding]
        rows = n.tolist() if isinstance(n, Tensor) else [n] * self.batch_size if isinstance(n, int) else list(n)
        fits = len(rows) == len(held) and all(is_whole_number(x, 0, y) for x, y in zip(rows, held, strict=True))
        if not fits:
            raise ValueError(f"n: the rows hold {cut_short(held)} tokens that can be taken back, got {cut_short(rows)}")
        return rows

    def _ask(self, question: str, states: Sequence, n: int | list[int]) -> list:
        """What each layer's record answers for its state."""
        kinds = self.config.layer_types
        return [getattr(mixer(kind), question)(self.config, x, n) for kind, x in zip(kinds, states, strict=True)]

    def _put(self, snapshot: Snapshot) -> None:
        self.states, self.seen, self.left_padding = list(snapshot.states), snapshot.seen, snapshot.left_padding
        self.unread = snapshot.unread

    def _take(self, rows: list[int]) -> None:
        def chosen(x: Tensor) -> Tensor:
            return x.index_select(0, torch.tensor(rows, device=x.device))

        self.states = [map_tensors(state, chosen) for state in self.states]
        self.left_padding, self.unread = map_tensors(self.left_padding, chosen), map_tensors(self.unread, chosen)
        self.batch_size = len(rows)


def new_cache(model: torch.nn.Module, batch_size: int = 1, *, rewind: int = 0) -> Cache:
    """An empty cache for a HybridLM and batch_size rows, which can take back its last `rewind` tokens at any time.
    Raises ValueError that names the argument."""
    check_positive_int("batch_size", batch_size)
    check_count("rewind", rewind)
    return Cache(model.config, batch_size, rewind)
