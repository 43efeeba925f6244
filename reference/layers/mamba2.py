"""Mamba-2 as a layer: a decayed sum of products, the decay from the token, read by its queries.

The state-space model's letters are the attention's by another name (duality, Dao and Gu 2024): with C as queries, B as
keys, dt · x as values, one scalar decay e^{dt A} per head, no erase and no scale, its scan is lightning attention.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reference.dtypes import inner_dtype
from reference.layers.batch import PLAIN, BatchLayout
from reference.layers.delta import ConvolvedMixer, DeltaInputs, DeltaState, convolve, mix
from reference.layers.gated_norm import GateThenRMSNorm
from reference.layers.gates import initial_A_log, initial_dt_bias
from reference.layers.mixer import Sizes, TextBefore
from reference.layers.projection import Projection
from reference.ops.linear import chunk_lightning_attention


class Mamba2(nn.Module):
    """Project to z, x, B, C and dt; convolve x, B and C; scan; add D · x; gate, then norm; project back.

    d_model     channels of x and y
    n_heads     heads of values, decays and memories
    head_dim    channels per head: P of the paper, our Dv
    state_dim   channels of B and C: N of the paper, our Dk
    n_groups    heads of B and C, each for n_heads / n_groups heads
    conv_width  tokens that the convolution reads
    conv_bias   bias of the convolution
    bias        biases of in_proj and out_proj
    norm_eps    eps of the norm behind the scan
    norm_groups parts of the channels that the norm takes by themselves; 0: no norm, the gate alone
    step_min    dt is at least this. transformers 5.23 holds it so while it reads a prompt, and not in decoding
    norm_first  the norm stands before the gate (Falcon-H1 allows it)

    forward(x [B, T, d_model], state=None, layout=PLAIN) -> (y [B, T, d_model], DeltaState), as GatedDeltaNet.
    Raises ValueError that names the argument.
    Source: Dao and Gu 2024; parameter names are those of transformers' mamba2.
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        head_dim: int,
        state_dim: int,
        *,
        n_groups: int = 1,
        conv_width: int = 4,
        conv_bias: bool = True,
        bias: bool = False,
        norm_eps: float = 1e-5,
        norm_groups: int = 1,
        step_min: float = 0.0,
        norm_first: bool = False,
    ):
        super().__init__()
        if n_heads % n_groups:
            raise ValueError(f"n_heads: expected a multiple of n_groups = {n_groups}, got {n_heads}")
        width = n_heads * head_dim
        if norm_groups and width % norm_groups:
            raise ValueError(f"norm_groups: expected a divisor of n_heads · head_dim = {width}, got {norm_groups}")
        self.step_min = step_min
        self.n_heads, self.head_dim, self.state_dim = n_heads, head_dim, state_dim
        self.channels = [width, n_groups * state_dim, n_groups * state_dim]  # x, B, C
        self.in_proj = Projection(d_model, width + sum(self.channels) + n_heads, bias=bias)  # z, (x, B, C), dt
        self.conv1d = nn.Conv1d(
            sum(self.channels), sum(self.channels), conv_width, groups=sum(self.channels), bias=conv_bias
        )
        self.A_log = nn.Parameter(initial_A_log(n_heads))
        self.dt_bias = nn.Parameter(initial_dt_bias(n_heads))
        self.D = nn.Parameter(torch.ones(n_heads))
        self.norm = GateThenRMSNorm(width, groups=norm_groups, eps=norm_eps, norm_first=norm_first)
        self.out_proj = Projection(width, d_model, bias=bias)

    def forward(
        self, x: Tensor, state: DeltaState | None = None, layout: BatchLayout = PLAIN
    ) -> tuple[Tensor, DeltaState]:
        conv, S = (None, None) if state is None else state
        z, xbc, dt = self.split(x)
        inputs, skip = self.operands(layout.without_padding(xbc), dt, conv, layout)
        o, S = mix(chunk_lightning_attention, inputs, S, layout, scale=1.0, unit_length=False)
        y = self.norm((o + skip).flatten(2), z)
        return self.out_proj(y.to(x.dtype)), DeltaState(inputs.conv, S)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """z [B, T, width], x, B and C side by side before the convolution, and dt [B, T, n_heads] before its bias."""
        width = self.channels[0]
        return self.in_proj(x).split([width, sum(self.channels), self.n_heads], -1)

    def operands(
        self, xbc: Tensor, dt: Tensor, conv: Tensor | None = None, layout: BatchLayout = PLAIN
    ) -> tuple[DeltaInputs, Tensor]:
        """The operator's arguments, and D · x [B, T, n_heads, head_dim], which skips it."""
        xbc, conv = convolve(xbc, self.conv1d.weight[:, 0], conv, layout, self.conv1d.bias)
        x, B, C = layout.without_padding(xbc).split(self.channels, -1)  # again: a bias makes something of zeros
        x = x.unflatten(-1, (self.n_heads, self.head_dim))
        B, C = (y.unflatten(-1, (-1, self.state_dim)) for y in (B, C))
        wide = inner_dtype(x)
        x, B, C = x.to(wide), B.to(wide), C.to(wide)
        step = F.softplus(dt.to(wide) + self.dt_bias.to(wide)).clamp(min=self.step_min)
        g = -self.A_log.to(wide).exp() * step
        return DeltaInputs(C, B, x * step[..., None], g, None, conv), self.D.to(wide)[:, None] * x


class Mamba2Mixer(ConvolvedMixer):
    """mamba2: Mamba-2; linear_num_key_heads groups of linear_key_head_dim channels, linear_num_value_heads heads."""

    kind, short = "mamba2", "Mamba-2"
    needs = ("linear_num_key_heads", "linear_key_head_dim", "linear_value_head_dim")
    needs += ("linear_num_value_heads", "linear_conv_kernel_dim")

    def build(self, config: Sizes, index: int) -> Mamba2:
        return Mamba2(
            config.hidden_size,
            config.linear_num_value_heads,
            config.linear_value_head_dim,
            config.linear_key_head_dim,
            n_groups=config.linear_num_key_heads,
            conv_width=config.linear_conv_kernel_dim,
            conv_bias=config.linear_conv_bias,
            bias=config.linear_bias,
            norm_eps=self.norm_eps(config),
            step_min=config.linear_step_min,
            norm_groups=config.linear_num_key_heads if config.linear_norm_groups is None else config.linear_norm_groups,
        )

    def sizes(self, config: Sizes) -> tuple[int, int, int]:
        return config.linear_num_value_heads, config.linear_key_head_dim, config.linear_value_head_dim

    def conv_channels(self, config: Sizes) -> tuple[int, ...]:
        """x, B and C: what the attention calls v, k and q."""
        keys = config.linear_num_key_heads * config.linear_key_head_dim
        return config.linear_num_value_heads * config.linear_value_head_dim, keys, keys

    def state_before(self, layer: Mamba2, h: Tensor, before: TextBefore) -> DeltaState:
        _, xbc, dt = layer.split(h)
        conv = before.tail(xbc, layer.conv1d.weight.shape[-1] - 1)
        x, _ = layer.operands(xbc, dt, conv)
        return DeltaState(conv, before.memory(chunk_lightning_attention, x.k, x.v, x.g, None))

    def look(self, layer: Mamba2, h: Tensor) -> tuple[Tensor, Tensor]:
        """As a delta layer's: |c_ts| / sum_s |c_ts| with o_t = sum_s c_ts v_s; what skips the scan is left out."""
        _, xbc, dt = layer.split(h)
        q, k, v, g, _, _ = layer.operands(xbc, dt)[0]
        B, T, HV, _ = v.shape
        one_hot = torch.eye(T, dtype=v.dtype, device=v.device)[None, :, None].expand(B, T, HV, T)
        c, _ = chunk_lightning_attention(q, k, one_hot, g, scale=1.0)
        c = c.transpose(1, 2).abs()
        return c / c.sum(-1, keepdim=True).clamp(min=1e-30), v
