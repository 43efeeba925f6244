"""The feed-forward half of a block: SwiGLU, and a mixture of such experts."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reference.layers.projection import Projection


class SwiGLU(nn.Module):
    """down(silu(gate(x)) · up(x)): x [..., d_model] -> [..., d_model]. Source: Shazeer 2020."""

    def __init__(self, d_model: int, d_hidden: int, *, bias: bool = False):
        super().__init__()
        self.gate_proj = Projection(d_model, d_hidden, bias=bias)
        self.up_proj = Projection(d_model, d_hidden, bias=bias)
        self.down_proj = Projection(d_hidden, d_model, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_proj(x), self.up_proj(x)
        if torch.is_grad_enabled():
            return self.down_proj(F.silu(gate) * up)
        return self.down_proj(F.silu(gate, inplace=True).mul_(up))  # nobody needs the two again


class Routing(NamedTuple):
    """Which experts each token goes to."""

    logits: Tensor  # [tokens, experts]
    experts: Tensor  # [tokens, top_k], int64
    weights: Tensor  # [tokens, top_k]


class MixtureOfExperts(nn.Module):
    """Each token visits top_k of n_experts SwiGLUs, and a shared one of width d_shared (0: none).

    router "softmax": the probabilities of the top_k, rescaled to sum to 1 if norm_top_k (Qwen3-Next, MiniMax; with
    biases gpt-oss). "sigmoid": each expert's own probability; the choice, and only the choice, adds a correction per
    expert that keeps the load even; experts in n_groups of which top_groups are looked at, a group being worth its two
    best (DeepSeek-V3, eq. 16 and section 2.1.2; Kimi Linear, MiniMax-M2). routed_scale multiplies the weights.
    shared_gate: the shared expert stands behind a sigmoid of its own (Qwen3-Next). clamp (limit, alpha) is gpt-oss's
    expert: (up + 1) · gate · sigmoid(alpha gate) with both held within limit; bias: biases in router and experts.

    x [B, T, d_model] -> the same shape; `routing` of the last call is kept for load_balancing_loss.
    Parameter names after Qwen3-Next's experts, stacked. Raises ValueError that names the argument.
    """

    def __init__(
        self,
        d_model: int,
        d_hidden: int,
        n_experts: int,
        top_k: int,
        *,
        d_shared: int = 0,
        shared_gate: bool = True,
        norm_top_k: bool = True,
        router: str = "softmax",
        n_groups: int = 1,
        top_groups: int = 1,
        routed_scale: float = 1.0,
        clamp: tuple[float, float] | None = None,
        bias: bool = False,
    ):
        super().__init__()
        if not 1 <= top_k <= n_experts:
            raise ValueError(f"top_k: expected 1 to n_experts = {n_experts}, got {top_k}")
        if router not in ("softmax", "sigmoid"):
            raise ValueError(f"router: expected 'softmax' or 'sigmoid', got {router!r}")
        if n_experts % n_groups or not 1 <= top_groups <= n_groups or top_k > n_experts // n_groups * top_groups:
            groups = f"{top_groups} of {n_groups}"
            raise ValueError(f"n_groups, top_groups: {groups} can't give {top_k} of {n_experts} experts")
        self.top_k, self.norm_top_k, self.routing, self.clamp = top_k, norm_top_k, None, clamp
        self.n_groups, self.top_groups, self.routed_scale = n_groups, top_groups, routed_scale
        self.gate = Projection(d_model, n_experts, bias=bias)
        if router == "sigmoid":
            self.register_buffer("e_score_correction_bias", torch.zeros(n_experts))
        else:
            self.e_score_correction_bias = None
        self.gate_up_proj = nn.Parameter(torch.empty(n_experts, 2 * d_hidden, d_model).normal_(std=d_model**-0.5))
        self.down_proj = nn.Parameter(torch.empty(n_experts, d_model, d_hidden).normal_(std=d_hidden**-0.5))
        self.gate_up_bias = nn.Parameter(torch.zeros(n_experts, 2 * d_hidden)) if bias else None
        self.down_bias = nn.Parameter(torch.zeros(n_experts, d_model)) if bias else None
        self.shared_expert = SwiGLU(d_model, d_shared) if d_shared else None
        self.shared_expert_gate = Projection(d_model, 1, bias=False) if d_shared and shared_gate else None

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(0, -2)
        self.routing = self.route(tokens)
        y = torch.zeros_like(tokens)
        for expert in self.routing.experts.unique().tolist():  # the experts that anybody chose
            token, rank = (self.routing.experts == expert).nonzero(as_tuple=True)
            out = self._visit(expert, tokens[token])
            y = y.index_add(0, token, (out * self.routing.weights[token, rank, None]).to(y.dtype))
        if self.shared_expert is not None:
            shared = self.shared_expert(tokens)
            if self.shared_expert_gate is not None:
                shared = self.shared_expert_gate(tokens).sigmoid() * shared
            y = y + shared
        return y.view_as(x)

    def _visit(self, expert: int, x: Tensor) -> Tensor:
        gate_up_bias = None if self.gate_up_bias is None else self.gate_up_bias[expert]
        down_bias = None if self.down_bias is None else self.down_bias[expert]
        gate, up = F.linear(x, self.gate_up_proj[expert], gate_up_bias).chunk(2, -1)
        if self.clamp is None:
            return F.linear(F.silu(gate) * up, self.down_proj[expert], down_bias)
        limit, alpha = self.clamp
        gate, up = gate.clamp(max=limit), up.clamp(-limit, limit)
        return F.linear((up + 1) * gate * torch.sigmoid(alpha * gate), self.down_proj[expert], down_bias)

    def route(self, tokens: Tensor) -> Routing:
        """The top_k experts of each token and their weights, from probabilities in float32."""
        if self.e_score_correction_bias is None:
            logits = self.gate(tokens)
            weights, experts = logits.float().softmax(-1).topk(self.top_k, dim=-1)
        else:
            logits = F.linear(tokens.float(), self.gate.weight.float())
            probability = logits.sigmoid()
            experts = self._within_groups(probability + self.e_score_correction_bias).topk(self.top_k, dim=-1).indices
            weights = probability.gather(-1, experts)
        if self.norm_top_k:
            weights = weights / weights.sum(-1, keepdim=True)
        return Routing(logits, experts, weights * self.routed_scale)

    def _within_groups(self, scores: Tensor) -> Tensor:
        """-inf for the experts of all groups but the best top_groups."""
        if self.n_groups == self.top_groups:
            return scores
        grouped = scores.unflatten(-1, (self.n_groups, -1))  # [tokens, groups, experts of a group]
        worth = grouped.topk(min(2, grouped.shape[-1]), dim=-1).values.sum(-1)
        best = worth.topk(self.top_groups, dim=-1).indices
        seen = torch.zeros_like(worth, dtype=torch.bool).scatter(-1, best, True)
        return grouped.masked_fill(~seen[..., None], -torch.inf).flatten(-2)


def load_balancing_loss(routing: Routing) -> Tensor:
    """n_experts · Σ_e f_e P_e, with f_e the share of choices that fell on expert e and P_e its mean probability.

    1 · top_k when all are equally loaded, larger otherwise. Source: Fedus et al. 2021 (Switch), eq. 4-6.
    """
    n = routing.logits.shape[-1]
    chosen = F.one_hot(routing.experts, n).float().sum(1).mean(0)  # [experts]
    return n * (chosen * routing.logits.float().softmax(-1).mean(0)).sum()
