"""Softmax attention that keeps the first tokens of a text beside a window: StreamingLLM, for chapter 06."""

import torch
from torch import Tensor, nn

from reference.arguments import check_count, check_positive_int
from reference.layers.attention import Attention, KVState, evict
from reference.layers.batch import PLAIN, BatchLayout, read_packed
from reference.ops.softmax import softmax_attention


class StreamingAttention(nn.Module):
    """A softmax layer's weights, read with a window and the first tokens of the text.

    attention   the layer; a window of its own is not used
    window      tokens that a query sees, its own among them
    keep_first  tokens at the start of the text that stay in cache and sight, at the distance that they have in the
                cache: RoPE never meets a distance beyond window + keep_first - 1, however long the text

    forward(x [B, T, d_model], state=None, layout=PLAIN) -> (y [B, T, d_model], KVState), as Attention; with keep_first
    no padding. Raises ValueError that names the argument. Source: Xiao et al. 2024, section 3.2.
    """

    def __init__(self, attention: Attention, *, window: int, keep_first: int):
        super().__init__()
        check_positive_int("window", window)
        check_count("keep_first", keep_first)
        self.attention, self.window, self.keep_first = attention, window, keep_first

    def forward(
        self, x: Tensor, state: KVState | None = None, layout: BatchLayout = PLAIN
    ) -> tuple[Tensor, KVState | None]:
        if layout.cu_seqlens is not None:
            return read_packed(self, x, layout.cu_seqlens), None
        if layout.left_padding is not None and self.keep_first:
            raise ValueError("left_padding: the first tokens of padded rows are not the ones that keep_first keeps")
        layer, begin = self.attention, 0 if state is None else state.seen
        seen, positions = begin + x.shape[1], layout.positions(begin, x)
        bare, k, v, gate = layer.heads(x)
        q, k = layer.turn(bare, positions), layer.turn(k, positions)
        if state is not None:
            k, v = torch.cat([state.k, k], 1), torch.cat([state.v, v], 1)
        keys = k
        if self.keep_first and layer.rope is not None:
            in_cache = positions.clamp(max=self.window + self.keep_first - 1)  # the query's place among what is kept
            q, keys = self._two_distances(q, layer.turn(bare, in_cache), k)
        limits = {"window": self.window, "keep_first": self.keep_first, "left_padding": layout.padding_among(k, seen)}
        o = softmax_attention(q, keys, v, scale=layer.scale, sinks=layer.sinks, **limits)
        kept = (evict(y, self.window, self.keep_first) for y in (k, v))
        return layer.output(o, gate), KVState(*kept, seen)

    def _two_distances(self, q: Tensor, q_in_cache: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """Queries and keys of twice the width: a key of the window meets the half of the query that was turned by its
        position, one of the first tokens the half that was turned by its place in the cache."""
        first = (torch.arange(k.shape[1], device=k.device) < self.keep_first)[:, None, None]
        return torch.cat([q, q_in_cache], -1), torch.cat([k.masked_fill(first, 0), k.masked_fill(~first, 0)], -1)
