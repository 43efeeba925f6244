"""A gated short convolution as a layer of its own: it remembers its last tokens, and nothing else."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from reference.layers.batch import PLAIN, BatchLayout
from reference.layers.delta import longer_tail
from reference.layers.mixer import Draw, Mixer, Sizes, TextBefore
from reference.layers.projection import Projection
from reference.ops.conv import causal_conv, causal_conv_step


class GatedShortConv(nn.Module):
    """y = W (C ⊙ conv(B ⊙ x)), where B, C and x are projections of the token.

    d_model     channels of x and y
    conv_width  tokens that the convolution reads
    bias        biases of projections and convolution

    forward(x [B, T, d_model], state=None, layout=PLAIN) -> (y [B, T, d_model], state); the state is the convolution's
    last tokens, [B, d_model, conv_width - 1], and more where layout.rewind asks for them.
    Source: Amini et al. 2025 (LFM2); parameter names are those of transformers' lfm2.
    """

    def __init__(self, d_model: int, *, conv_width: int = 3, bias: bool = False):
        super().__init__()
        self.in_proj = Projection(d_model, 3 * d_model, bias=bias)  # B, C, x
        self.conv = nn.Conv1d(d_model, d_model, conv_width, groups=d_model, bias=bias)
        self.out_proj = Projection(d_model, d_model, bias=bias)

    def forward(self, x: Tensor, state: Tensor | None = None, layout: BatchLayout = PLAIN) -> tuple[Tensor, Tensor]:
        gated, gate = self.project(x)
        gated = layout.without_padding(gated)
        tail = self.conv.weight.shape[-1] - 1
        before, state = state, None if state is None else state[..., state.shape[-1] - tail :]
        keywords = {"initial_state": state, "output_final_state": True, "cu_seqlens": layout.cu_seqlens}
        y, state = causal_conv(gated, self.conv.weight[:, 0], self.conv.bias, **keywords)
        if layout.rewind:
            state = longer_tail(before, gated, tail, tail + layout.rewind)
        return self.out_proj(gate * y), state

    def project(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What the convolution reads, B ⊙ x, and the gate C behind it: both [B, T, d_model]."""
        B, C, x = self.in_proj(x).chunk(3, -1)
        return B * x, C


class ShortConvMixer(Mixer):
    """short_conv: a gated convolution over linear_conv_kernel_dim tokens (LFM2)."""

    kind, short = "short_conv", "conv"
    softmax, grows = False, False
    needs = ("linear_conv_kernel_dim",)

    def build(self, config: Sizes, index: int) -> GatedShortConv:
        return GatedShortConv(config.hidden_size, conv_width=config.linear_conv_kernel_dim, bias=config.linear_bias)

    def cache_bytes(self, config: Sizes, tokens: int, element_bytes: int) -> int:
        """The convolution's last tokens: the same for every length."""
        return config.hidden_size * (config.linear_conv_kernel_dim - 1) * element_bytes

    def flops(self, config: Sizes, position: int, *, chunked: bool) -> float:
        """None beside the layer's weights, the convolution's among them."""
        return 0.0

    def moved_bytes(self, config: Sizes, position: int, element_bytes: int) -> float:
        """The state, read and written."""
        return 2 * self.cache_bytes(config, position, element_bytes)

    def filled_state(self, config: Sizes, tokens: int, draw: Draw) -> Tensor:
        return draw(config.hidden_size, config.linear_conv_kernel_dim - 1)

    def operator_step(self, config: Sizes, state: Tensor) -> Callable[[], Tensor]:
        B, D, tail = state.shape
        x, weight = torch.randn(B, D), torch.randn(D, tail + 1)
        return lambda: causal_conv_step(x, weight, None, state)

    def rewind(self, config: Sizes, state: Tensor, n: int | Sequence[int]) -> Tensor:
        return self.shorter_tail(config, state, n)

    def trim(self, config: Sizes, state: Tensor, n: int) -> Tensor:
        """Padding has left nothing."""
        return state

    def state_before(self, layer: GatedShortConv, h: Tensor, before: TextBefore) -> Tensor:
        gated, _ = layer.project(h)
        return before.tail(gated, layer.conv.weight.shape[-1] - 1)
