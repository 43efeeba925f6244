"""The feed-forward half of a block: SwiGLU, and a mixture of such experts."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reference.layers.projection import Projection


class SwiGLU(nn.Module):
    """down(silu(gate(x)) · up(x)): x [..., d_model] -> [..., d_model]. Source: Shazeer 2020."""

    def __init__(self, d_model: int, d_hidden: int):
        super().__init__()
        self.gate_proj = Projection(d_model, d_hidden, bias=False)
        self.up_proj = Projection(d_model, d_hidden, bias=False)
        self.down_proj = Projection(d_hidden, d_model, bias=False)

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
    """Each token visits top_k of n_experts SwiGLUs, and a shared one behind its own sigmoid gate.

    The weights are the softmax over all experts, kept for the chosen ones and, if norm_top_k, rescaled to sum
    to 1. d_shared = 0 leaves the shared expert out. x [B, T, d_model] -> the same shape; `routing` of the last
    call is kept for load_balancing_loss. Source: Qwen3-Next; parameter names after its experts, stacked.
    """

    def __init__(
        self, d_model: int, d_hidden: int, n_experts: int, top_k: int, *, d_shared: int = 0, norm_top_k: bool = True
    ):
        super().__init__()
        if not 1 <= top_k <= n_experts:
            raise ValueError(f"top_k: expected 1 to n_experts = {n_experts}, got {top_k}")
        self.top_k, self.norm_top_k, self.routing = top_k, norm_top_k, None
        self.gate = Projection(d_model, n_experts, bias=False)
        self.gate_up_proj = nn.Parameter(torch.empty(n_experts, 2 * d_hidden, d_model).normal_(std=d_model**-0.5))
        self.down_proj = nn.Parameter(torch.empty(n_experts, d_model, d_hidden).normal_(std=d_hidden**-0.5))
        self.shared_expert = SwiGLU(d_model, d_shared) if d_shared else None
        self.shared_expert_gate = Projection(d_model, 1, bias=False) if d_shared else None

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(0, -2)
        self.routing = self.route(tokens)
        y = torch.zeros_like(tokens)
        for expert in self.routing.experts.unique().tolist():  # the experts that anybody chose
            token, rank = (self.routing.experts == expert).nonzero(as_tuple=True)
            gate, up = F.linear(tokens[token], self.gate_up_proj[expert]).chunk(2, -1)
            out = F.linear(F.silu(gate) * up, self.down_proj[expert])
            y = y.index_add(0, token, out * self.routing.weights[token, rank, None].to(out.dtype))
        if self.shared_expert is not None:
            y = y + self.shared_expert_gate(tokens).sigmoid() * self.shared_expert(tokens)
        return y.view_as(x)

    def route(self, tokens: Tensor) -> Routing:
        """Softmax over all experts in float32, then the best top_k of each token."""
        logits = self.gate(tokens)
        weights, experts = logits.float().softmax(-1).topk(self.top_k, dim=-1)
        if self.norm_top_k:
            weights = weights / weights.sum(-1, keepdim=True)
        return Routing(logits, experts, weights)


def load_balancing_loss(routing: Routing) -> Tensor:
    """n_experts · Σ_e f_e P_e, with f_e the share of choices that fell on expert e and P_e its mean probability.

    1 · top_k when all are equally loaded, larger otherwise. Source: Fedus et al. 2021 (Switch), eq. 4-6.
    """
    n = routing.logits.shape[-1]
    chosen = F.one_hot(routing.experts, n).float().sum(1).mean(0)  # [experts]
    return n * (chosen * routing.logits.float().softmax(-1).mean(0)).sum()
