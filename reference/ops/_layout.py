"""From the public layout [B, T, H, D] to one chunk of some heads [N, C, D], and back."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

# How many memories are worked on at a time on a CPU. Their states (64 KiB each at Dk = Dv = 128) and one
# chunk of everything else should stay in the cache; fewer leave the matrix products too small.
HEADS_IN_CACHE = 32


def inner_dtype(v: Tensor) -> torch.dtype:
    """float64 for float64, float32 for everything shorter."""
    return torch.float64 if v.dtype == torch.float64 else torch.float32


def l2norm(x: Tensor, eps: float = 1e-6) -> Tensor:
    """x / sqrt(|x|^2 + eps) along the last axis, in float32 at least; its gradient at x = 0 is finite.

    Source: fla's l2norm, eps inside the root, as Qwen3-Next has it.
    """
    x = x.to(inner_dtype(x))
    return x * torch.rsqrt((x * x).sum(-1, keepdim=True) + eps)


class Block(NamedTuple):
    """Rows of the batch and value heads that are worked on together."""

    rows: slice
    heads: slice

    def key_heads(self, group: int) -> slice:
        return slice(self.heads.start // group, self.heads.stop // group)


def head_blocks(B: int, HV: int, group: int, device: torch.device) -> Iterator[Block]:
    """Cut batch x heads into blocks. A GPU has room for all of them at once."""
    limit = HEADS_IN_CACHE if device.type == "cpu" else B * HV
    heads = HV if limit >= HV else max(limit // group, 1) * group
    rows = max(limit // HV, 1)
    for row in range(0, B, rows):
        for head in range(0, HV, heads):
            yield Block(slice(row, min(row + rows, B)), slice(head, min(head + heads, HV)))


def chunk_spans(start: int, stop: int, chunk_size: int) -> list[slice]:
    """Chunks of one sequence; the last is shorter rather than padded."""
    return [slice(t, min(t + chunk_size, stop)) for t in range(start, stop, chunk_size)]


def heads_first(x: Tensor, block: Block, time: slice, group: int, dtype: torch.dtype) -> Tensor:
    """x [B, T, heads, ...] -> [N, C, ...], a view where the layout allows one.

    group > 1 marks a tensor of query/key heads: each is repeated for the value heads that it serves.
    """
    part = x[block.rows, time, block.key_heads(group)].transpose(1, 2)  # [rows, heads, C, ...]
    if group > 1:
        part = part.repeat_interleave(group, dim=1)
    return part.flatten(0, 1).to(dtype)


def put_back(out: Tensor, part: Tensor, block: Block, time: slice, group: int = 1) -> None:
    """Write part [N, C, ...] into out [B, T, heads, ...]; heads that were repeated are summed."""
    part = part.unflatten(0, (block.rows.stop - block.rows.start, -1))
    if group > 1:
        part = part.unflatten(1, (-1, group)).sum(2)
    out[block.rows, time, block.key_heads(group)] = part.transpose(1, 2)
