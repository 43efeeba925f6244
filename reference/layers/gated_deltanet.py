"""Gated DeltaNet and Kimi Delta Attention as layers."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from reference.layers.gated_norm import GatedRMSNorm
from reference.layers.gates import initial_A_log, initial_dt_bias, log_decay
from reference.layers.projection import Projection
from reference.ops.conv import causal_conv, causal_conv_step
from reference.ops.gated_delta import chunk_gated_delta_rule
from reference.ops.kda import chunk_kda
from reference.ops.step import decode_step


class DeltaState(NamedTuple):
    """What a delta layer remembers, however long the text: the convolution's last tokens and the memory."""

    conv: Tensor  # [B, channels, W-1]
    S: Tensor  # [B, HV, Dk, Dv], float32


class GatedDeltaNet(nn.Module):
    """Project, convolve, write and read the memory, norm and gate, project back.

    d_model; n_key_heads, n_value_heads (a multiple), key_dim and value_dim per head; conv_width W = 4.
    beta_max: 1, or 2 to allow negative eigenvalues (Olmo Hybrid). gate: "silu" (Qwen3-Next) or "sigmoid".

    forward(x [B, T, d_model], state=None) -> (y [B, T, d_model], DeltaState). With a state the tokens continue
    it; the state passed in is not changed. cu_seqlens packs sequences into B = 1, states then one per sequence.
    Source: Yang et al. 2025; parameter names are those of transformers' qwen3_5 (qwen3_next fuses some).
    """

    def __init__(
        self,
        d_model: int,
        n_key_heads: int,
        n_value_heads: int,
        key_dim: int,
        value_dim: int,
        *,
        conv_width: int = 4,
        beta_max: float = 1.0,
        gate: str = "silu",
        norm_eps: float = 1e-6,
    ):
        super().__init__()
        if n_value_heads % n_key_heads:
            raise ValueError(f"n_value_heads: expected a multiple of n_key_heads = {n_key_heads}, got {n_value_heads}")
        if not 0 < beta_max <= 2:
            raise ValueError(f"beta_max: the delta rule is stable up to 2, got {beta_max}")
        self.key_dim, self.value_dim, self.beta_max = key_dim, value_dim, beta_max
        self.channels = [n_key_heads * key_dim, n_key_heads * key_dim, n_value_heads * value_dim]  # q, k, v
        self.in_proj_qkv = Projection(d_model, sum(self.channels), bias=False)
        self.in_proj_z = Projection(d_model, self.channels[2], bias=False)
        self.in_proj_b = Projection(d_model, n_value_heads, bias=False)
        self.in_proj_a = Projection(d_model, n_value_heads, bias=False)
        self.conv1d = nn.Conv1d(
            sum(self.channels), sum(self.channels), conv_width, groups=sum(self.channels), bias=False
        )
        self.A_log = nn.Parameter(initial_A_log(n_value_heads))
        self.dt_bias = nn.Parameter(initial_dt_bias(n_value_heads))
        self.norm = GatedRMSNorm(value_dim, activation=gate, eps=norm_eps)
        self.out_proj = Projection(self.channels[2], d_model, bias=False)

    def forward(
        self, x: Tensor, state: DeltaState | None = None, *, cu_seqlens: Tensor | None = None
    ) -> tuple[Tensor, DeltaState]:
        q, k, v, g, beta, conv = self.project(x, None if state is None else state.conv, cu_seqlens)
        S = None if state is None else state.S
        o, S = mix(chunk_gated_delta_rule, q, k, v, g, beta, S, cu_seqlens)
        z = self.in_proj_z(x).unflatten(-1, (-1, self.value_dim))
        return self.out_proj(self.norm(o, z).flatten(2)), DeltaState(conv, S)

    def project(self, x: Tensor, conv: Tensor | None = None, cu_seqlens: Tensor | None = None) -> tuple[Tensor, ...]:
        """The operator's arguments q, k (not yet normalized), v, g, beta, and the convolution's state after x."""
        qkv, conv = convolve(self.project_qkv(x), self.conv1d.weight[:, 0], conv, cu_seqlens)
        q, k, v = qkv.split(self.channels, -1)
        q, k = (y.unflatten(-1, (-1, self.key_dim)) for y in (q, k))
        beta = self.beta_max * self.in_proj_b(x).sigmoid()
        g = log_decay(self.in_proj_a(x), self.A_log, self.dt_bias)
        return q, k, v.unflatten(-1, (-1, self.value_dim)), g, beta, conv

    def project_qkv(self, x: Tensor) -> Tensor:
        """q, k and v side by side, before the convolution: [B, T, channels]."""
        return self.in_proj_qkv(x)


class ForgetGate(nn.Module):
    """One log decay per key channel, through a projection of rank head_dim: x [B, T, d_model] -> g [B, T, H, Dk]."""

    def __init__(self, d_model: int, n_heads: int, head_dim: int):
        super().__init__()
        self.heads = (n_heads, head_dim)
        self.f_a_proj = Projection(d_model, head_dim, bias=False)
        self.f_b_proj = Projection(head_dim, n_heads * head_dim, bias=False)
        self.A_log = nn.Parameter(initial_A_log(1, 1, n_heads, 1))
        self.dt_bias = nn.Parameter(initial_dt_bias(n_heads * head_dim))

    def forward(self, x: Tensor) -> Tensor:
        a = self.f_b_proj(self.f_a_proj(x)).unflatten(-1, self.heads)
        return log_decay(a, self.A_log, self.dt_bias.view(self.heads))


class KimiDeltaAttention(nn.Module):
    """Gated DeltaNet with one decay per key channel, and gates of low rank.

    d_model, n_heads, head_dim (keys and values alike); forward as GatedDeltaNet.
    Source: Kimi Team 2025; parameter names are those of transformers' kimi_linear.
    """

    def __init__(self, d_model: int, n_heads: int, head_dim: int, *, conv_width: int = 4, norm_eps: float = 1e-6):
        super().__init__()
        self.n_heads, self.head_dim, width = n_heads, head_dim, n_heads * head_dim
        self.q_proj, self.k_proj, self.v_proj = (Projection(d_model, width, bias=False) for _ in range(3))
        self.conv1d = nn.Conv1d(3 * width, 3 * width, conv_width, groups=3 * width, bias=False)
        self.forget_gate = ForgetGate(d_model, n_heads, head_dim)
        self.b_proj = Projection(d_model, n_heads, bias=False)
        self.g_a_proj = Projection(d_model, head_dim, bias=False)
        self.g_b_proj = Projection(head_dim, width, bias=False)
        self.o_norm = GatedRMSNorm(head_dim, activation="sigmoid", eps=norm_eps)
        self.o_proj = Projection(width, d_model, bias=False)

    def forward(
        self, x: Tensor, state: DeltaState | None = None, *, cu_seqlens: Tensor | None = None
    ) -> tuple[Tensor, DeltaState]:
        q, k, v, g, beta, conv = self.project(x, None if state is None else state.conv, cu_seqlens)
        o, S = mix(chunk_kda, q, k, v, g, beta, None if state is None else state.S, cu_seqlens)
        z = self.g_b_proj(self.g_a_proj(x)).unflatten(-1, (self.n_heads, self.head_dim))
        return self.o_proj(self.o_norm(o, z).flatten(2)), DeltaState(conv, S)

    def project(self, x: Tensor, conv: Tensor | None = None, cu_seqlens: Tensor | None = None) -> tuple[Tensor, ...]:
        """As GatedDeltaNet.project, with g [B, T, H, Dk]."""
        qkv, conv = convolve(self.project_qkv(x), self.conv1d.weight[:, 0], conv, cu_seqlens)
        q, k, v = (y.unflatten(-1, (self.n_heads, self.head_dim)) for y in qkv.chunk(3, -1))
        return q, k, v, self.forget_gate(x), self.b_proj(x).sigmoid(), conv

    def project_qkv(self, x: Tensor) -> Tensor:
        """q, k and v side by side, before the convolution: [B, T, channels]."""
        return torch.cat([self.q_proj(x), self.k_proj(x), self.v_proj(x)], -1)


def _decoding(x: Tensor, state: Tensor | None, cu_seqlens: Tensor | None) -> bool:
    return state is not None and x.shape[1] == 1 and cu_seqlens is None and not torch.is_grad_enabled()


def convolve(x: Tensor, weight: Tensor, conv: Tensor | None, cu_seqlens: Tensor | None) -> tuple[Tensor, Tensor]:
    """silu of the short convolution of x [B, T, channels], and its state; one token of decoding takes the short way."""
    if _decoding(x, conv, cu_seqlens):
        conv = conv.clone()  # the caller's state stays as it is
        return causal_conv_step(x[:, 0], weight, None, conv, activation="silu")[:, None], conv
    keywords = {"initial_state": conv, "output_final_state": True, "cu_seqlens": cu_seqlens}
    return causal_conv(x, weight, activation="silu", **keywords)


def mix(op, q, k, v, g, beta, S: Tensor | None, cu_seqlens: Tensor | None) -> tuple[Tensor, Tensor]:
    """The operator between the projections, with normalized q and k; one token of decoding takes the short way."""
    if _decoding(q, S, cu_seqlens):
        after = torch.empty_like(S)
        o = decode_step(q[:, 0], k[:, 0], v[:, 0], g[:, 0], beta[:, 0], S, use_qk_l2norm_in_kernel=True, out=after)
        return o[:, None], after
    keywords = {"initial_state": S, "output_final_state": True, "cu_seqlens": cu_seqlens}
    return op(q, k, v, g, beta, use_qk_l2norm_in_kernel=True, **keywords)
