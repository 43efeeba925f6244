"""From the public layout [B, T, H, D] to the pieces that a loop over chunks works on, and back.

A piece is some heads of some batch rows over one sequence: N = rows x heads memories that are worked on together.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from torch import Tensor

# How many memories are worked on at a time on a CPU. Their states (64 KiB each at Dk = Dv = 128) and one
# chunk of everything else should stay in the cache; fewer leave the matrix products too small.
HEADS_IN_CACHE = 32


class Piece(NamedTuple):
    """Where a piece lies in tensors of the public layout."""

    rows: slice  #      of the batch
    heads: slice  #     value heads
    time: slice  #      the tokens of one sequence
    sequences: slice  # whose states these are: the rows, or the number of a packed sequence
    HV: int  #          value heads of the whole call

    def view(self, x: Tensor) -> Tensor:
        """x [B, T, H or HV, ...] -> [rows, heads, T, ...]: what is written there arrives in x."""
        group = self.HV // x.shape[2]  # value heads that share one of x's heads
        return x[self.rows, self.time, self.heads.start // group : self.heads.stop // group].transpose(1, 2)

    def heads_first(self, x: Tensor | None) -> Tensor | None:
        """x [B, T, H or HV, ...] -> [N or N / group, T, ...]: a view for one row, a copy for several."""
        return None if x is None else self.view(x).flatten(0, 1)

    def state(self, states: Tensor) -> Tensor:
        """states [B or packed sequences, HV, Dk, Dv] -> [rows, heads, Dk, Dv], a view."""
        return states[self.sequences, self.heads]


def pieces(q: Tensor, v: Tensor, bounds: list[int]) -> Iterator[Piece]:
    """Cut rows and value heads into blocks, and each block into its sequences. A GPU has room for all heads at once."""
    (B, _, HV), packed = v.shape[:3], len(bounds) > 2
    group = HV // q.shape[2]
    limit = HEADS_IN_CACHE if v.device.type == "cpu" else B * HV
    heads = HV if limit >= HV else max(limit // group, 1) * group
    rows = max(limit // HV, 1)
    for row in range(0, B, rows):
        for head in range(0, HV, heads):
            own_rows, own_heads = slice(row, min(row + rows, B)), slice(head, min(head + heads, HV))
            for n, (start, stop) in enumerate(pairwise(bounds)):
                yield Piece(own_rows, own_heads, slice(start, stop), slice(n, n + 1) if packed else own_rows, HV)


def chunk_spans(length: int, chunk_size: int) -> list[slice]:
    """Chunks of one sequence; the last is shorter rather than padded."""
    return [slice(t, min(t + chunk_size, length)) for t in range(0, length, chunk_size)]


def at(x: Tensor | None, time: slice, S: Tensor) -> Tensor | None:
    """One chunk of x [N or N / group, T, ...] in S's dtype; query/key heads are repeated for S's N memories."""
    if x is None:
        return None
    part, group = x[:, time].to(S.dtype), S.shape[0] // x.shape[0]
    return part.repeat_interleave(group, dim=0) if group > 1 else part


def put(out: Tensor, time: slice, part: Tensor) -> None:
    """Write part [N, C, ...] into one chunk of out [rows, heads, T, ...]; heads that were repeated are summed."""
    rows, heads = out.shape[:2]
    if part.shape[0] > rows * heads:
        part = part.unflatten(0, (rows * heads, -1)).sum(1)
    out[:, :, time] = part.view(rows, heads, *part.shape[1:])
