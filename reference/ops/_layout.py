"""From the public layout [B, T, H, D] to one chunk of some heads [N, C, D], and back."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from reference.dtypes import inner_dtype

# How many memories are worked on at a time on a CPU. Their states (64 KiB each at Dk = Dv = 128) and one
# chunk of everything else should stay in the cache; fewer leave the matrix products too small.
HEADS_IN_CACHE = 32


def full_precision(x: Tensor) -> torch.autocast:
    """Inside this context autocast leaves the operators' own choice of dtypes alone."""
    return torch.autocast(x.device.type, enabled=False)


def l2norm(x: Tensor, eps: float = 1e-6) -> Tensor:
    """x / sqrt(|x|^2 + eps) along the last axis, in float32 at least; its gradient at x = 0 is finite.

    Source: fla's l2norm, eps inside the root, as Qwen3-Next has it.
    """
    x = x.to(inner_dtype(x))
    return x * (x * x).sum(-1, keepdim=True).add_(eps).rsqrt_()


class HeadBlock(NamedTuple):
    """Rows of the batch and value heads that are worked on together: N = rows x heads memories."""

    rows: slice
    heads: slice

    def heads_first(self, x: Tensor, group: int = 1) -> Tensor:
        """x [B, T, heads, ...] -> [N, T, ...]: a view for one row, a copy for several.

        group > 1 marks a tensor of query/key heads, each of which serves `group` value heads.
        """
        return x[self.rows, :, self._own(group)].transpose(1, 2).flatten(0, 1)

    def put_back(self, out: Tensor, part: Tensor, time: slice, group: int = 1) -> None:
        """Write part [N, C, ...] into out [B, T, heads, ...]; heads that were repeated are summed."""
        part = part.unflatten(0, (self.rows.stop - self.rows.start, -1))
        if group > 1:
            part = part.unflatten(1, (-1, group)).sum(2)
        out[self.rows, time, self._own(group)] = part.transpose(1, 2)

    def _own(self, group: int) -> slice:
        return slice(self.heads.start // group, self.heads.stop // group)


def at(x: Tensor, time: slice, dtype: torch.dtype, group: int = 1) -> Tensor:
    """One chunk of x [N, T, ...] in the inner dtype; query/key heads are repeated for their value heads."""
    part = x[:, time].to(dtype)
    return part.repeat_interleave(group, dim=0) if group > 1 else part


def head_blocks(B: int, HV: int, group: int, device: torch.device) -> Iterator[HeadBlock]:
    """Cut batch x heads into blocks. A GPU has room for all of them at once."""
    limit = HEADS_IN_CACHE if device.type == "cpu" else B * HV
    heads = HV if limit >= HV else max(limit // group, 1) * group
    rows = max(limit // HV, 1)
    for row in range(0, B, rows):
        for head in range(0, HV, heads):
            yield HeadBlock(slice(row, min(row + rows, B)), slice(head, min(head + heads, HV)))


def chunk_spans(start: int, stop: int, chunk_size: int) -> list[slice]:
    """Chunks of one sequence; the last is shorter rather than padded."""
    return [slice(t, min(t + chunk_size, stop)) for t in range(start, stop, chunk_size)]
