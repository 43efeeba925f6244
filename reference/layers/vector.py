"""What the RG-LRU and Mamba-1 share: a memory of single numbers, each with a decay of its own, and no keys."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from reference.layers.mixer import STATE_BYTES, Draw, Mixer, Sizes
from reference.ops.hgrn import chunk_hgrn
from reference.ops.replay import without_last


class VectorState(NamedTuple):
    """What such a layer remembers, however long the text. A layer that must be able to take n tokens back keeps n more
    tokens of the convolution, and the n states before the last."""

    conv: Tensor  # [B, channels, W-1], or up to n more
    h: Tensor  # [B, 1, numbers], or up to n more, float32; the last one is the state
    seen: int  # tokens since the start: the position of the next


def last_states(h: Tensor | None, o: Tensor, rewind: int) -> Tensor:
    """The states behind x and the `rewind` before: h [B, n, numbers] before x, None at the start; o [B, T, numbers]
    those of its tokens."""
    if not rewind:
        return o[:, -1:].clone()
    kept = o if h is None else torch.cat([h, o], 1)
    return kept[:, max(kept.shape[1] - 1 - rewind, 0) :].clone()


def scan_as_memory(q, k, v, g, *, initial_state: Tensor | None = None, **_: bool) -> tuple[Tensor, Tensor]:
    """chunk_hgrn as an operator with a head for each number, Dk = Dv = 1: what one text split among processes asks."""
    h = None if initial_state is None else initial_state[..., 0, 0]
    o, h = chunk_hgrn(v[..., 0], g, initial_state=h, output_final_state=True)
    return o[..., None], h[..., None, None]


class VectorMixer(Mixer):
    """A linear kind whose state is a VectorState behind a short convolution."""

    softmax, grows = False, False
    needs = ("linear_num_value_heads", "linear_value_head_dim", "linear_conv_kernel_dim")

    def width(self, config: Sizes) -> int:
        """Channels of the convolution."""
        return config.linear_num_value_heads * config.linear_value_head_dim

    def numbers(self, config: Sizes) -> int:
        """How many the state has."""
        return self.width(config)

    def conv_channels(self, config: Sizes) -> tuple[int, ...]:
        """All of one kind: there are no keys."""
        return (self.width(config),)

    def cache_bytes(self, config: Sizes, tokens: int, element_bytes: int) -> int:
        """The numbers, and the convolution's last tokens: the same for every length."""
        tail = self.width(config) * (config.linear_conv_kernel_dim - 1) * element_bytes
        return tail + self.numbers(config) * STATE_BYTES

    def flops(self, config: Sizes, position: int, *, chunked: bool) -> float:
        """None beside the layer's weights: the scan is done number by number."""
        return 0.0

    def moved_bytes(self, config: Sizes, position: int, element_bytes: int) -> float:
        """The state, read and written."""
        return 2 * self.cache_bytes(config, position, element_bytes)

    def filled_state(self, config: Sizes, tokens: int, draw: Draw) -> VectorState:
        conv = draw(self.width(config), config.linear_conv_kernel_dim - 1)
        return VectorState(conv, draw(1, self.numbers(config)), tokens)

    def operator_step(self, config: Sizes, state: VectorState) -> Callable[[], Tensor]:
        h = state.h[:, -1]
        x, a = torch.randn_like(h), torch.rand_like(h)
        return lambda: h.mul_(a).add_(x)

    def rewind(self, config: Sizes, state: VectorState, n: int | Sequence[int]) -> VectorState:
        """The states before the last are kept, as many as were asked for; of rows, what the shortest one has."""
        conv, h, seen = state
        fewest, most = (n, n) if isinstance(n, int) else (min(n), max(n))
        if most > h.shape[1] - 1:
            raise self._too_far(n, h.shape[1] - 1)
        h = without_last(h, n, 1, h.shape[1] - most)
        return VectorState(self.shorter_tail(config, conv, n), h, seen - fewest)

    def trim(self, config: Sizes, state: VectorState, n: int) -> VectorState:
        """Padding has left nothing but its places."""
        return state._replace(seen=state.seen - n)
