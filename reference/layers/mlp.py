"""The feed-forward half of a block: SwiGLU, and a mixture of such experts."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from queue import SimpleQueue
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reference.layers.projection import Projection


def _gelu_tanh(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


GATES_OF_MLP = {"silu": F.silu, "gelu_tanh": _gelu_tanh}
ACTIVATIONS_OF_MLP = (*GATES_OF_MLP, "relu2")  # the last without a gate


class SwiGLU(nn.Module):
    """down(act(gate(x)) · up(x)).

    d_model     channels of x and y
    d_hidden    channels of gate and up
    bias        biases in the three projections
    activation  act: "silu", or "gelu_tanh" (then it is a GeGLU: Gemma)

    forward(x [..., d_model]) -> the same shape. Source: Shazeer 2020.
    """

    def __init__(self, d_model: int, d_hidden: int, *, bias: bool = False, activation: str = "silu"):
        super().__init__()
        self.activation = activation
        self.gate_proj = Projection(d_model, d_hidden, bias=bias)
        self.up_proj = Projection(d_model, d_hidden, bias=bias)
        self.down_proj = Projection(d_hidden, d_model, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_proj(x), self.up_proj(x)
        if self.activation != "silu":
            return self.down_proj(GATES_OF_MLP[self.activation](gate) * up)
        if torch.is_grad_enabled():
            return self.down_proj(F.silu(gate) * up)
        return self.down_proj(F.silu(gate, inplace=True).mul_(up))  # the two aren't needed again


class SquaredReLUMLP(nn.Module):
    """down(relu(up(x))²): two projections and no gate.

    d_model     channels of x and y
    d_hidden    channels of up
    bias        biases in the two projections

    forward(x [..., d_model]) -> the same shape. Source: So et al. 2021 (Primer); Nemotron-H.
    """

    def __init__(self, d_model: int, d_hidden: int, *, bias: bool = False):
        super().__init__()
        self.up_proj = Projection(d_model, d_hidden, bias=bias)
        self.down_proj = Projection(d_hidden, d_model, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.relu(self.up_proj(x)).square())


class Routing(NamedTuple):
    """Which experts each token goes to."""

    logits: Tensor  # [tokens, experts]
    experts: Tensor  # [tokens, top_k], int64
    weights: Tensor  # [tokens, top_k]


# A queue and not a list: torch.compile leaves the queue to Python, and would compile anew for every length of a list.
_collected: ContextVar[SimpleQueue | None] = ContextVar("collected", default=None)


@contextmanager
def collect_routing() -> Iterator[list[Routing]]:
    """The Routing of every call of a mixture of experts within the block, for load_balancing_loss: the list is filled
    when the block ends."""
    found, queue = [], SimpleQueue()
    token = _collected.set(queue)
    try:
        yield found
    finally:
        _collected.reset(token)
        while not queue.empty():
            found.append(queue.get())


class MixtureOfExperts(nn.Module):
    """Each token visits top_k of n_experts SwiGLUs, and a shared one.

    d_model       channels of x and y
    d_hidden      width of an expert
    n_experts     experts
    top_k         experts that a token visits
    d_shared      width of the expert that every token visits; 0: there is none
    shared_gate   whether what the shared expert returns passes a sigmoid gate (Qwen3-Next)
    norm_top_k    whether the weights of the top_k are rescaled to sum to 1
    router        "softmax": the weights are the probabilities of the top_k (Qwen3-Next, MiniMax, gpt-oss). "sigmoid":
                  each expert's own probability; the choice, and only the choice, adds a correction per expert that
                  keeps the load even (DeepSeek-V3, Kimi Linear, MiniMax-M2)
    n_groups      groups of experts
    top_groups    groups that a token may choose from, a group being worth its two best experts ("sigmoid") or its best
                  one ("softmax": DeepSeek-V2)
    routed_scale  factor of the weights
    clamp         (limit, alpha) of gpt-oss's expert: (up + 1) · gate · sigmoid(alpha gate), both held within limit
    bias          biases in router and experts
    gated         False: the experts are SquaredReLUMLPs, the shared one too (Nemotron-H)
    d_latent      channels that the experts read and write, behind a projection down and before one up, which the
                  shared one does without; 0: d_model (Nemotron 3 Super)
    shared_bias   biases in the shared expert, if not gated, and in the two projections

    forward(x [B, T, d_model]) -> the same shape. `collect_routing` collects which experts were chosen.
    Parameter names after Qwen3-Next's experts, stacked; `gate` is the router's projection there and here. Raises
    ValueError that names the argument. Source of the groups: DeepSeek-V3, eq. 16 and section 2.1.2.
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
        gated: bool = True,
        d_latent: int = 0,
        shared_bias: bool = False,
    ):
        super().__init__()
        if not 1 <= top_k <= n_experts:
            raise ValueError(f"top_k: expected 1 to n_experts = {n_experts}, got {top_k}")
        if router not in ("softmax", "sigmoid"):
            raise ValueError(f"router: expected 'softmax' or 'sigmoid', got {router!r}")
        if n_experts % n_groups or not 1 <= top_groups <= n_groups or top_k > n_experts // n_groups * top_groups:
            groups = f"{top_groups} of {n_groups}"
            raise ValueError(f"n_groups, top_groups: {groups} can't give {top_k} of {n_experts} experts")
        self.top_k, self.norm_top_k, self.clamp, self.gated = top_k, norm_top_k, clamp, gated
        self.n_groups, self.top_groups, self.routed_scale = n_groups, top_groups, routed_scale
        self.gate = Projection(d_model, n_experts, bias=bias)
        if router == "sigmoid":
            self.register_buffer("e_score_correction_bias", torch.zeros(n_experts))
        else:
            self.e_score_correction_bias = None
        d_in = d_latent or d_model
        up = torch.empty(n_experts, (2 if gated else 1) * d_hidden, d_in).normal_(std=d_in**-0.5)
        self.register_parameter("gate_up_proj" if gated else "up_proj", nn.Parameter(up))
        self.down_proj = nn.Parameter(torch.empty(n_experts, d_in, d_hidden).normal_(std=d_hidden**-0.5))
        self.gate_up_bias = nn.Parameter(torch.zeros(n_experts, 2 * d_hidden)) if bias else None
        self.down_bias = nn.Parameter(torch.zeros(n_experts, d_in)) if bias else None
        self.shared_expert = None
        if d_shared:
            plain = {"bias": shared_bias}
            self.shared_expert = SwiGLU(d_model, d_shared) if gated else SquaredReLUMLP(d_model, d_shared, **plain)
        self.to_latent = Projection(d_model, d_latent, bias=shared_bias) if d_latent else None
        self.from_latent = Projection(d_latent, d_model, bias=shared_bias) if d_latent else None
        self.shared_expert_gate = Projection(d_model, 1, bias=False) if d_shared and shared_gate else None

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(0, -2)
        routing = self.route(tokens)
        collected = _collected.get()
        if collected is not None:
            collected.put(routing)
        read = tokens if self.to_latent is None else self.to_latent(tokens)
        y = torch.zeros_like(read)
        for expert in routing.experts.unique().tolist():  # the experts that some token chose
            token, rank = (routing.experts == expert).nonzero(as_tuple=True)
            out = self._visit(expert, read[token])
            y = y.index_add(0, token, (out * routing.weights[token, rank, None]).to(y.dtype))
        if self.from_latent is not None:
            y = self.from_latent(y)
        if self.shared_expert is not None:
            shared = self.shared_expert(tokens)
            if self.shared_expert_gate is not None:
                shared = self.shared_expert_gate(tokens).sigmoid() * shared
            y = y + shared
        return y.view_as(x)

    def _visit(self, expert: int, x: Tensor) -> Tensor:
        if not self.gated:
            return F.linear(F.relu(F.linear(x, self.up_proj[expert])).square(), self.down_proj[expert])
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
            weights, experts = self._within_groups(logits.float().softmax(-1), best=1).topk(self.top_k, dim=-1)
        else:
            logits = F.linear(tokens.float(), self.gate.weight.float())
            probability = logits.sigmoid()
            experts = self._within_groups(probability + self.e_score_correction_bias).topk(self.top_k, dim=-1).indices
            weights = probability.gather(-1, experts)
        if self.norm_top_k:
            weights = weights / weights.sum(-1, keepdim=True)
        return Routing(logits, experts, weights * self.routed_scale)

    def _within_groups(self, scores: Tensor, best: int = 2) -> Tensor:
        """-inf for the experts of all groups but the top_groups whose `best` best experts have the largest sum."""
        if self.n_groups == self.top_groups:
            return scores
        grouped = scores.unflatten(-1, (self.n_groups, -1))  # [tokens, groups, experts of a group]
        worth = grouped.topk(min(best, grouped.shape[-1]), dim=-1).values.sum(-1)
        chosen = worth.topk(self.top_groups, dim=-1).indices
        seen = torch.zeros_like(worth, dtype=torch.bool).scatter(-1, chosen, True)
        return grouped.masked_fill(~seen[..., None], -torch.inf).flatten(-2)


def load_balancing_loss(routing: Routing) -> Tensor:
    """n_experts · Σ_e f_e P_e, with f_e the share of choices that fell on expert e and P_e its mean probability.

    1 · top_k when all are equally loaded, larger otherwise. Source: Fedus et al. 2021 (Switch), eq. 4-6.
    """
    n = routing.logits.shape[-1]
    chosen = F.one_hot(routing.experts, n).float().sum(1).mean(0)  # [experts]
    return n * (chosen * routing.logits.float().softmax(-1).mean(0)).sum()
