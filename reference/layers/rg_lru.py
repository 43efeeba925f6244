"""The RG-LRU of Griffin as a layer: one number per channel is all that it remembers, beside a short convolution."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reference.dtypes import inner_dtype
from reference.layers.batch import PLAIN, BatchLayout
from reference.layers.delta import convolve
from reference.layers.mixer import Sizes, TextBefore
from reference.layers.projection import Projection
from reference.layers.vector import VectorMixer, VectorState, last_states, scan_as_memory
from reference.ops.hgrn import chunk_hgrn

SHARPNESS = 8.0  # c of the paper: the fastest decay of a channel is the slowest to this power
STEEPEST = 1000.0  # the derivative of sqrt(1 - a²) is held within it, as in Griffin


class RGLRU(nn.Module):
    """y = W_out (gelu(W_y x) ⊙ scan(conv(W_x x))), where the scan fades and adds by gates of the token.

        h_t = a_t h_{t-1} + sqrt(1 - a_t²) (i_t ⊙ u_t)        a_t = e^{-8 r_t softplus(Λ)}

    u = conv(W_x x) [d_rnn]; i and r are sigmoids of u, by a matrix for each block of channels. The text's first token
    finds nothing to fade and is not scaled: h_1 = i_1 ⊙ u_1.

    d_model     channels of x and y
    n_blocks    blocks of the gates' matrices
    block_dim   channels of a block; d_rnn = n_blocks · block_dim
    conv_width  tokens that the convolution reads

    forward(x [B, T, d_model], state=None, layout=PLAIN) -> (y [B, T, d_model], VectorState). Outputs at padding mean
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

    def forward(
        self, x: Tensor, state: VectorState | None = None, layout: BatchLayout = PLAIN
    ) -> tuple[Tensor, VectorState]:
        conv, h, seen = (None, None, 0) if state is None else state
        gate = F.gelu(self.linear_y(x), approximate="tanh")
        u, conv = self.convolved(layout.without_padding(self.linear_x(x)), conv, layout)
        last = None if h is None else h[:, -1]
        keywords = {"initial_state": last, "output_final_state": True, "cu_seqlens": layout.cu_seqlens}
        o, last = chunk_hgrn(*self.gated(u, first_tokens(x, seen, layout)), **keywords)
        kept = last[:, None] if layout.cu_seqlens is not None else last_states(h, o, layout.rewind)
        return self.linear_out(o.to(x.dtype) * gate), VectorState(conv, kept, seen + x.shape[1])

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


class RGLRUMixer(VectorMixer):
    """rg_lru: Griffin's RG-LRU, linear_num_value_heads blocks of linear_value_head_dim channels."""

    kind, short = "rg_lru", "RG-LRU"

    def build(self, config: Sizes, index: int) -> RGLRU:
        blocks, channels = config.linear_num_value_heads, config.linear_value_head_dim
        return RGLRU(config.hidden_size, blocks, channels, conv_width=config.linear_conv_kernel_dim)

    def state_before(self, layer: RGLRU, h: Tensor, before: TextBefore) -> VectorState:
        x, seen = layer.linear_x(h), before.count(h)
        conv = before.tail(x, layer.conv1d.weight.shape[-1] - 1)
        u, _ = layer.convolved(x, conv)
        added, g = layer.gated(u, first_tokens(h, seen, PLAIN))
        k = added.new_ones(*added.shape[:2], 1, 1)
        return VectorState(conv, before.memory(scan_as_memory, k, added[..., None], g, None)[..., 0, 0][:, None], seen)
