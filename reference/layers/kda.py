"""Kimi Delta Attention as a layer."""

import torch
from torch import Tensor, nn

from reference.layers.batch import PLAIN, BatchLayout
from reference.layers.delta import DeltaInputs, DeltaMixer, DeltaState, convolve, mix
from reference.layers.gated_norm import GatedRMSNorm
from reference.layers.gates import bounded_log_decay, initial_A_log, initial_dt_bias, log_decay
from reference.layers.mixer import Sizes
from reference.layers.projection import Projection
from reference.ops.kda import chunk_kda


class ForgetGate(nn.Module):
    """One log decay per key channel, through a projection of rank head_dim, or of full rank.

    lower  the bound of bounded_log_decay; None: log_decay, which has none

    forward(x [B, T, d_model]) -> g [B, T, H, Dk].
    """

    def __init__(
        self, d_model: int, n_heads: int, head_dim: int, *, lower: float | None = None, full_rank: bool = False
    ):
        super().__init__()
        if lower is not None and not lower < 0:
            raise ValueError(f"lower: expected a bound below 0, got {lower}")
        self.heads, self.lower = (n_heads, head_dim), lower
        if full_rank:
            self.f_proj = Projection(d_model, n_heads * head_dim, bias=False)
        else:
            self.f_a_proj = Projection(d_model, head_dim, bias=False)
            self.f_b_proj = Projection(head_dim, n_heads * head_dim, bias=False)
        self.full_rank = full_rank
        self.A_log = nn.Parameter(initial_A_log(1, 1, n_heads, 1))
        self.dt_bias = nn.Parameter(initial_dt_bias(n_heads * head_dim))

    def forward(self, x: Tensor) -> Tensor:
        a = self.f_proj(x) if self.full_rank else self.f_b_proj(self.f_a_proj(x))
        a, dt_bias = a.unflatten(-1, self.heads), self.dt_bias.view(self.heads)
        if self.lower is None:
            return log_decay(a, self.A_log, dt_bias)
        return bounded_log_decay(a, self.A_log, dt_bias, self.lower)


class KimiDeltaAttention(nn.Module):
    """Gated DeltaNet with one decay per key channel, and gates of low rank.

    d_model          channels of x and y
    n_heads          heads
    head_dim         channels per head, of keys and values alike
    conv_width       tokens that the convolution of q, k and v reads
    norm_eps         eps of the norm behind the operator
    decay_bound      lower bound of the log decays, below 0 (Kimi K3, Ling 3.0: -5); None: there is none
    full_rank_gates  decay and output gate through one matrix each (Ling 3.0)

    forward as GatedDeltaNet. g_a_proj and g_b_proj (g_proj), names of the checkpoint, make the gate of that norm; the
    decay g comes from forget_gate. Raises ValueError that names the argument.
    Source: Kimi Team 2025; parameter names are those of transformers' kimi_linear and bailing_hybrid.
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        head_dim: int,
        *,
        conv_width: int = 4,
        norm_eps: float = 1e-6,
        decay_bound: float | None = None,
        full_rank_gates: bool = False,
    ):
        super().__init__()
        self.n_heads, self.head_dim, width = n_heads, head_dim, n_heads * head_dim
        self.q_proj, self.k_proj, self.v_proj = (Projection(d_model, width, bias=False) for _ in range(3))
        self.conv1d = nn.Conv1d(3 * width, 3 * width, conv_width, groups=3 * width, bias=False)
        self.forget_gate = ForgetGate(d_model, n_heads, head_dim, lower=decay_bound, full_rank=full_rank_gates)
        self.b_proj = Projection(d_model, n_heads, bias=False)
        self.full_rank_gates = full_rank_gates
        if full_rank_gates:
            self.g_proj = Projection(d_model, width, bias=False)
        else:
            self.g_a_proj = Projection(d_model, head_dim, bias=False)
            self.g_b_proj = Projection(head_dim, width, bias=False)
        self.o_norm = GatedRMSNorm(head_dim, activation="sigmoid", eps=norm_eps)
        self.o_proj = Projection(width, d_model, bias=False)

    def forward(
        self, x: Tensor, state: DeltaState | None = None, layout: BatchLayout = PLAIN
    ) -> tuple[Tensor, DeltaState]:
        x = layout.without_padding(x)
        conv, S = (None, None) if state is None else state
        inputs = self.project(x, conv, layout)
        o, S = mix(chunk_kda, inputs, S, layout)
        z = self.g_proj(x) if self.full_rank_gates else self.g_b_proj(self.g_a_proj(x))
        z = z.unflatten(-1, (self.n_heads, self.head_dim))
        return self.o_proj(self.o_norm(o, z).flatten(2)), DeltaState(inputs.conv, S)

    def project(self, x: Tensor, conv: Tensor | None = None, layout: BatchLayout = PLAIN) -> DeltaInputs:
        """As GatedDeltaNet.project, with g [B, T, H, Dk]."""
        qkv, conv = convolve(self.project_qkv(x), self.conv1d.weight[:, 0], conv, layout)
        q, k, v = (y.unflatten(-1, (self.n_heads, self.head_dim)) for y in qkv.chunk(3, -1))
        return DeltaInputs(q, k, v, self.forget_gate(x), self.b_proj(x).sigmoid(), conv)

    def project_qkv(self, x: Tensor) -> Tensor:
        """q, k and v side by side, before the convolution: [B, T, channels]."""
        return torch.cat([self.q_proj(x), self.k_proj(x), self.v_proj(x)], -1)


class KimiDeltaMixer(DeltaMixer):
    """kda: Kimi Delta Attention; keys and values of every head have linear_key_head_dim channels."""

    kind, short = "kda", "KDA"
    needs = ("linear_num_value_heads", "linear_key_head_dim", "linear_conv_kernel_dim")
    channel_decay = True
    op = staticmethod(chunk_kda)

    def build(self, config: Sizes, index: int) -> KimiDeltaAttention:
        return KimiDeltaAttention(
            config.hidden_size,
            config.linear_num_value_heads,
            config.linear_key_head_dim,
            conv_width=config.linear_conv_kernel_dim,
            norm_eps=self.norm_eps(config),
            decay_bound=config.linear_decay_bound,
            full_rank_gates=config.linear_full_rank_gates,
        )

    def sizes(self, config: Sizes) -> tuple[int, int, int]:
        return config.linear_num_value_heads, config.linear_key_head_dim, config.linear_key_head_dim

    def conv_channels(self, config: Sizes) -> tuple[int, ...]:
        return (config.linear_num_value_heads * config.linear_key_head_dim,) * 3
