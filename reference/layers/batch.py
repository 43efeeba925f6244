"""How the texts of a batch lie in its rows: one in each, packed end to end, or padded on the left."""

from typing import NamedTuple

import torch
from torch import Tensor, nn


class BatchLayout(NamedTuple):
    """What a layer has to know of a batch x [B, T, d_model] whose rows are more than texts of one length.

    cu_seqlens    boundaries [0, ..., T] of the texts packed end to end into the one row of a batch B = 1
    left_padding  [B], places of padding at the start of each row, counted from the start of the text
    is_token      [B, T], False where a place of x is padding; given with left_padding, see `padded`
    rewind        so many tokens, the last ones, the state behind x must be able to take back (Cache.rewind)
    """

    cu_seqlens: Tensor | None = None
    left_padding: Tensor | None = None
    is_token: Tensor | None = None
    rewind: int = 0

    @classmethod
    def padded(cls, left_padding: Tensor, begin: int, T: int) -> "BatchLayout":
        """The layout of the places begin to begin + T - 1 of rows with padding on the left."""
        places = torch.arange(begin, begin + T, device=left_padding.device)
        return cls(left_padding=left_padding, is_token=places >= left_padding[:, None])

    def positions(self, begin: int, x: Tensor) -> Tensor:
        """Positions of the tokens of x, the first of which is in place `begin`: [T], or [B, T] behind padding, where a
        row's first token is at 0."""
        places = torch.arange(begin, begin + x.shape[1], device=x.device)
        return places if self.left_padding is None else (places - self.left_padding[:, None]).clamp(min=0)

    def padding_among(self, keys: Tensor, seen: int) -> Tensor | None:
        """Places of padding among the last keys [B, S, ...] of `seen` places: evicted padding doesn't count."""
        return None if self.left_padding is None else (self.left_padding - (seen - keys.shape[1])).clamp(min=0)

    def without_padding(self, x: Tensor) -> Tensor:
        """x with zeros for padding: a linear layer without biases writes nothing for a zero."""
        return x if self.is_token is None else x * self.is_token[..., None]


PLAIN = BatchLayout()  # one text in each row, all of one length


def read_packed(layer: nn.Module, x: Tensor, cu_seqlens: Tensor) -> Tensor:
    """y of a softmax layer for texts packed into one row: each is read by itself, so that none sees another."""
    return torch.cat([layer(text)[0] for text in x.split(cu_seqlens.diff().tolist(), 1)], 1)
