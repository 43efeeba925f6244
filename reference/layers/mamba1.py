"""Mamba-1 as a layer: a decay for every channel and every number of its state, all of them from the token."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reference.dtypes import inner_dtype
from reference.layers.batch import PLAIN, BatchLayout
from reference.layers.delta import convolve
from reference.layers.gates import initial_dt_bias
from reference.layers.mixer import Sizes, TextBefore
from reference.layers.norm import RMSNorm
from reference.layers.projection import Projection
from reference.layers.vector import VectorMixer, VectorState, last_states, scan_as_memory
from reference.ops.hgrn import chunk_hgrn

INNER_NORMS = (None, "plain", "weighted")
TOKENS_OF_A_PIECE = 64  # 8,192 channels of 16 numbers: 32 MiB of states


class Mamba1(nn.Module):
    """Project to x and z; convolve x; from it dt, B and C; scan; add D · x; gate; project back.

        h_t = e^{dt_t A} ⊙ h_{t-1} + dt_t x_t B_t^T        y_t = h_t C_t + D ⊙ x_t        h [d_inner, state_dim]

    d_model      channels of x and y
    d_inner      channels of the scan
    state_dim    numbers per channel: N of the paper
    step_rank    channels that dt passes between its two projections
    conv_width   tokens that the convolution reads
    conv_bias    bias of the convolution
    bias         biases of in_proj and out_proj
    inner_norms  RMSNorm of dt, B and C in front of the scan: None, "plain" (without weights: Falcon Mamba) or
                 "weighted" (Jamba)
    norm_eps     eps of those norms

    A decay per channel and number is more than Mamba-2 has: no product of matrices does the scan, and each step moves
    d_inner · state_dim numbers through memory (ops/hgrn.py).
    forward(x [B, T, d_model], state=None, layout=PLAIN) -> (y [B, T, d_model], VectorState). Raises ValueError that
    names the argument.
    Source: Gu and Dao 2024 (Mamba), algorithm 2; parameter names are those of transformers' mamba and jamba.
    """

    def __init__(
        self,
        d_model: int,
        d_inner: int,
        state_dim: int,
        step_rank: int,
        *,
        conv_width: int = 4,
        conv_bias: bool = True,
        bias: bool = False,
        inner_norms: str | None = None,
        norm_eps: float = 1e-6,
    ):
        super().__init__()
        if inner_norms not in INNER_NORMS:
            raise ValueError(f"inner_norms: expected one of {list(INNER_NORMS)}, got {inner_norms!r}")
        self.d_inner, self.inner_norms, self.norm_eps = d_inner, inner_norms, norm_eps
        self.parts = [step_rank, state_dim, state_dim]  # dt, B, C
        self.in_proj = Projection(d_model, 2 * d_inner, bias=bias)  # x, z
        self.conv1d = nn.Conv1d(d_inner, d_inner, conv_width, groups=d_inner, bias=conv_bias)
        self.x_proj = Projection(d_inner, sum(self.parts), bias=False)
        self.dt_proj = Projection(step_rank, d_inner, bias=False)
        self.dt_bias = nn.Parameter(initial_dt_bias(d_inner))
        self.A_log = nn.Parameter(torch.arange(1.0, state_dim + 1).log().repeat(d_inner, 1))
        self.D = nn.Parameter(torch.ones(d_inner))
        self.out_proj = Projection(d_inner, d_model, bias=bias)
        if inner_norms == "weighted":
            for name, size in zip(("dt", "b", "c"), self.parts, strict=True):
                setattr(self, f"{name}_layernorm", RMSNorm(size, eps=norm_eps))

    def forward(
        self, x: Tensor, state: VectorState | None = None, layout: BatchLayout = PLAIN
    ) -> tuple[Tensor, VectorState]:
        conv, h, seen = (None, None, 0) if state is None else state
        x, z = self.in_proj(x).chunk(2, -1)
        x, conv = self.convolved(layout.without_padding(x), conv, layout)
        x = layout.without_padding(x)  # again: a bias makes something of zeros
        step, B, C = self.steps(x)
        outputs, last = [], None if h is None else h[:, -1]
        for piece in self.pieces(x, layout):
            added, g = self.scanned(x[:, piece], step[:, piece], B[:, piece])
            keywords = {"initial_state": last, "output_final_state": True, "cu_seqlens": layout.cu_seqlens}
            o, last = chunk_hgrn(added, g, **keywords)
            h = last[:, None] if layout.cu_seqlens is not None else last_states(h, o, layout.rewind)
            outputs.append((o.unflatten(-1, (self.d_inner, -1)) @ C[:, piece, :, None])[..., 0])
        y = torch.cat(outputs, 1) + self.D.to(step.dtype) * x.to(step.dtype)
        y = (y * F.silu(z.to(step.dtype))).to(x.dtype)
        return self.out_proj(y), VectorState(conv, h, seen + x.shape[1])

    def pieces(self, x: Tensor, layout: BatchLayout) -> Iterator[slice]:
        """Tokens whose states are in memory together: all where texts are packed, or gradients keep them anyway."""
        T = x.shape[1]
        size = T if layout.cu_seqlens is not None or torch.is_grad_enabled() else TOKENS_OF_A_PIECE
        return (slice(t, min(t + size, T)) for t in range(0, T, size))

    def convolved(self, x: Tensor, conv: Tensor | None, layout: BatchLayout = PLAIN) -> tuple[Tensor, Tensor]:
        """silu of the convolution of x [B, T, d_inner], and its state behind x."""
        return convolve(x, self.conv1d.weight[:, 0], conv, layout, self.conv1d.bias)

    def steps(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """dt [B, T, d_inner], B and C [B, T, state_dim], in float32 at least."""
        parts = self.x_proj(x).split(self.parts, -1)
        if self.inner_norms == "plain":
            parts = [RMSNorm.plain(part, self.norm_eps) for part in parts]
        elif self.inner_norms == "weighted":
            norms = (self.dt_layernorm, self.b_layernorm, self.c_layernorm)
            parts = [norm(part) for norm, part in zip(norms, parts, strict=True)]
        wide = inner_dtype(x)
        dt = F.softplus(self.dt_proj(parts[0]).to(wide) + self.dt_bias.to(wide))
        return dt, parts[1].to(wide), parts[2].to(wide)

    def scanned(self, x: Tensor, step: Tensor, B: Tensor) -> tuple[Tensor, Tensor]:
        """What the scan adds, and the log decays: both [B, T, d_inner · state_dim]."""
        g = -self.A_log.to(step.dtype).exp() * step[..., None]
        return ((step * x.to(step.dtype))[..., None] * B[:, :, None]).flatten(2), g.flatten(2)


class Mamba1Mixer(VectorMixer):
    """mamba1: Mamba-1; linear_num_value_heads · linear_value_head_dim channels of linear_key_head_dim numbers."""

    kind, short = "mamba1", "Mamba-1"
    needs = (*VectorMixer.needs, "linear_key_head_dim", "linear_step_rank")

    def build(self, config: Sizes, index: int) -> Mamba1:
        return Mamba1(
            config.hidden_size,
            self.width(config),
            config.linear_key_head_dim,
            config.linear_step_rank,
            conv_width=config.linear_conv_kernel_dim,
            conv_bias=config.linear_conv_bias,
            bias=config.linear_bias,
            inner_norms=config.linear_inner_norms,
            norm_eps=config.rms_norm_eps if config.linear_norm_eps is None else config.linear_norm_eps,
        )

    def numbers(self, config: Sizes) -> int:
        return self.width(config) * config.linear_key_head_dim

    def flops(self, config: Sizes, position: int, *, chunked: bool) -> float:
        """The product that reads the state; the scan is done number by number."""
        return 2.0 * self.numbers(config)

    def state_before(self, layer: Mamba1, h: Tensor, before: TextBefore) -> VectorState:
        x, _ = layer.in_proj(h).chunk(2, -1)
        conv = before.tail(x, layer.conv1d.weight.shape[-1] - 1)
        x, _ = layer.convolved(x, conv)
        step, B, _ = layer.steps(x)
        added, g = layer.scanned(x, step, B)
        k = added.new_ones(*added.shape[:2], 1, 1)
        S = before.memory(scan_as_memory, k, added[..., None], g, None)[..., 0, 0]
        return VectorState(conv, S[:, None], before.count(h))
