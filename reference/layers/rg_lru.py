"""The RG-LRU of Griffin as a layer: one number per channel is all that it remembers, beside a short convolution."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reference.dtypes import inner_dtype
from reference.layers.batch import PLAIN, BatchLayout
from reference.layers.delta import convolve
from reference.layers.mixer import STATE_BYTES, Draw, Mixer, Sizes, TextBefore
from reference.layers.projection import Projection
from reference.ops.hgrn import chunk_hgrn

SHARPNESS = 8.0  # c of the paper: the fastest decay of a channel is the slowest to this power
STEEPEST = 1000.0  # the derivative of sqrt(1 - a²) is held within it, as in Griffin


class LruState(NamedTuple):
    """What the layer remembers, however long the text. A layer that must be able to take n tokens back keeps n more
    tokens of the convolution, and the n states before the last: a state is no larger than a token."""

    conv: Tensor  # [B, d_rnn, W-1], or up to n more
    h: Tensor  # [B, 1, d_rnn], or up to n more, float32; the last one is the state
    seen: int  # tokens since the start: the position of the next


class RGLRU(nn.Module):
    """y = W_out (gelu(W_y x) ⊙ scan(conv(W_x x))), where the scan fades and adds by gates of the token.

        h_t = a_t h_{t-1} + sqrt(1 - a_t²) (i_t ⊙ u_t)        a_t = e^{-8 r_t softplus(Λ)}

    u = conv(W_x x) [d_rnn]; i and r are sigmoids of u, by a matrix for each block of channels. The text's first token
    finds nothing to fade and is not scaled: h_1 = i_1 ⊙ u_1.

    d_model     channels of x and y
    n_blocks    blocks of the gates' matrices
    block_dim   channels of a block; d_rnn = n_blocks · block_dim
    conv_width  tokens that the convolution reads

    forward(x [B, T, d_model], state=None, layout=PLAIN) -> (y [B, T, d_model], LruState). Outputs at padding mean
    nothing. Raises ValueError that names the argument.
    Source: De et al. 2024 (Griffin), section 2.4; parameter names are those of transformers' recurrent_gemma.
    """

    def __init__(self, d_model: int, n_blocks: int, block_dim: int, *, conv_width: int = 4):
        super().__init__()
        width, self.n_blocks = n_blocks * block_dim, n_blocks
        self.linear_y = Projection(d_model, width)
        self.linear_x = Projection(d_model, width)
        self.conv1d = nn.Conv1d(width, width, conv_width, groups=width)
        for gate in ("input", "recurrent"):
            weight = torch.empty(n_blocks, block_dim, block_dim).normal_(std=0.1 * block_dim**-0.5)
            self.register_parameter(f"{gate}_gate_weight", nn.Parameter(weight))
            self.register_parameter(f"{gate}_gate_bias", nn.Parameter(torch.zeros(n_blocks, block_dim)))
        slowest = torch.empty(width).uniform_(0.9, 0.999).log() / -SHARPNESS
        self.recurrent_param = nn.Parameter(slowest.expm1().log())  # the inverse of softplus
        self.linear_out = Projection(width, d_model)

    def forward(self, x: Tensor, state: LruState | None = None, layout: BatchLayout = PLAIN) -> tuple[Tensor, LruState]:
        conv, h, seen = (None, None, 0) if state is None else state
        gate = F.gelu(self.linear_y(x), approximate="tanh")
        u, conv = self.convolved(layout.without_padding(self.linear_x(x)), conv, layout)
        last = None if h is None else h[:, -1]
        keywords = {"initial_state": last, "output_final_state": True, "cu_seqlens": layout.cu_seqlens}
        o, last = chunk_hgrn(*self.gated(u, first_tokens(x, seen, layout)), **keywords)
        if layout.rewind:
            kept = o if h is None else torch.cat([h, o], 1)
            kept = kept[:, max(kept.shape[1] - 1 - layout.rewind, 0) :].clone()
        else:
            kept = last[:, None]
        return self.linear_out(o.to(x.dtype) * gate), LruState(conv, kept, seen + x.shape[1])

    def convolved(self, x: Tensor, conv: Tensor | None, layout: BatchLayout = PLAIN) -> tuple[Tensor, Tensor]:
        """u [B, T, d_rnn] of W_x x, and the convolution's state behind it."""
        return convolve(x, self.conv1d.weight[:, 0], conv, layout, self.conv1d.bias, activation=None)

    def gated(self, u: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
        """What the scan adds, and the log decays: both [B, T, d_rnn], in float32 at least. first [T] or [B, T]: where
        a text begins."""
        wide, parts = inner_dtype(u), u.unflatten(-1, (self.n_blocks, -1))
        i, r = (
            (torch.einsum("bthi,hij->bthj", parts, weight) + bias).sigmoid().flatten(2).to(wide)
            for weight, bias in (
                (self.input_gate_weight, self.input_gate_bias),
                (self.recurrent_gate_weight, self.recurrent_gate_bias),
            )
        )
        g = -SHARPNESS * r * F.softplus(self.recurrent_param.to(wide))
        # 1 - a², and no less than where its root is STEEPEST: 2.5e-7
        scale = (-torch.expm1(2 * g)).clamp(min=0.25 * STEEPEST**-2).sqrt()
        first = first[..., None]
        return i * u.to(wide) * scale.masked_fill(first, 1.0), g.masked_fill(first, -torch.inf)


def first_tokens(x: Tensor, seen: int, layout: BatchLayout) -> Tensor:
    """Where in x [B, T, ...], which begins at place `seen`, a text begins: [T], or [B, T] behind padding. Places of
    padding count: what they leave ends there."""
    if layout.cu_seqlens is None:
        return layout.positions(seen, x) == 0
    return (torch.arange(x.shape[1], device=x.device)[:, None] == layout.cu_seqlens.to(x.device)[:-1]).any(1)


def _scan_as_memory(q, k, v, g, *, initial_state: Tensor | None = None, **_: bool) -> tuple[Tensor, Tensor]:
    """chunk_hgrn as an operator with a head for each channel, Dk = Dv = 1: what one text split among processes asks."""
    h = None if initial_state is None else initial_state[..., 0, 0]
    o, h = chunk_hgrn(v[..., 0], g, initial_state=h, output_final_state=True)
    return o[..., None], h[..., None, None]


class RGLRUMixer(Mixer):
    """rg_lru: Griffin's RG-LRU, linear_num_value_heads blocks of linear_value_head_dim channels."""

    kind, short = "rg_lru", "RG-LRU"
    softmax, grows = False, False
    needs = ("linear_num_value_heads", "linear_value_head_dim", "linear_conv_kernel_dim")

    def width(self, config: Sizes) -> int:
        """Channels of the scan."""
        return config.linear_num_value_heads * config.linear_value_head_dim

    def build(self, config: Sizes, index: int) -> RGLRU:
        blocks, channels = config.linear_num_value_heads, config.linear_value_head_dim
        return RGLRU(config.hidden_size, blocks, channels, conv_width=config.linear_conv_kernel_dim)

    def conv_channels(self, config: Sizes) -> tuple[int, ...]:
        """Those of the scan: there are no keys."""
        return (self.width(config),)

    def cache_bytes(self, config: Sizes, tokens: int, element_bytes: int) -> int:
        """A number per channel, and the convolution's last tokens: the same for every length."""
        return self.width(config) * ((config.linear_conv_kernel_dim - 1) * element_bytes + STATE_BYTES)

    def flops(self, config: Sizes, position: int, *, chunked: bool) -> float:
        """One multiply-add per channel; chunks take two more to join, which are left out."""
        return 2.0 * self.width(config)

    def moved_bytes(self, config: Sizes, position: int, element_bytes: int) -> float:
        """The state, read and written."""
        return 2 * self.cache_bytes(config, position, element_bytes)

    def filled_state(self, config: Sizes, tokens: int, draw: Draw) -> LruState:
        width = self.width(config)
        return LruState(draw(width, config.linear_conv_kernel_dim - 1), draw(1, width), tokens)

    def operator_step(self, config: Sizes, state: LruState) -> Callable[[], Tensor]:
        h = state.h[:, -1]
        x, a = torch.randn_like(h), torch.rand_like(h)
        return lambda: h.mul_(a).add_(x)

    def rewind(self, config: Sizes, state: LruState, n: int) -> LruState:
        """The states before the last are kept, as many as were asked for."""
        conv, h, seen = state
        if n > h.shape[1] - 1:
            raise self._too_far(n, h.shape[1] - 1)
        return LruState(conv[..., : conv.shape[-1] - n], h[:, : h.shape[1] - n], seen - n)

    def state_before(self, layer: RGLRU, h: Tensor, before: TextBefore) -> LruState:
        x, seen = layer.linear_x(h), before.count(h)
        conv = before.tail(x, layer.conv1d.weight.shape[-1] - 1)
        u, _ = layer.convolved(x, conv)
        added, g = layer.gated(u, first_tokens(h, seen, PLAIN))
        k = added.new_ones(*added.shape[:2], 1, 1)
        return LruState(conv, before.memory(_scan_as_memory, k, added[..., None], g, None)[..., 0, 0][:, None], seen)
