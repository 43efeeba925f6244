"""Text of tokens."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from reference.arguments import cut_short


class StopStrings:
    """`generate`'s until: a row has ended when the text of its new tokens holds one of the strings.

    decode   from a list of ids to text
    strings  none of them empty
    """

    def __init__(self, decode: Callable[[list[int]], str], strings: Sequence[str]):
        if isinstance(strings, str) or not all(isinstance(s, str) and s for s in strings):
            raise ValueError(f"strings: expected a list of strings, none of them empty, got {cut_short(strings)}")
        self.decode, self.strings = decode, tuple(strings)
        self.longest = max((len(s.encode("utf-8", "surrogatepass")) for s in strings), default=0)

    def __call__(self, new: Tensor) -> Tensor:
        """new [B, T] -> bool [B]. Only the end is decoded: what ended earlier was said to have ended then."""
        tails = new[:, -(2 * self.longest + 16) :].tolist()
        found = [any(s in self.decode(tail) for s in self.strings) for tail in tails]
        return torch.tensor(found, device=new.device)
