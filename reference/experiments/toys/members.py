"""Models that are trained side by side and never meet: every tensor has a first axis M of members.

A learning-rate sweep over several seeds is one training run whose parameters are [M, ...]: the arithmetic of M runs one
after the other, in matrix products that are M times as large. One small model leaves a processor idle.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

RISE = 100  # steps before a constant learning rate


class Linears(nn.Module):
    """M linear layers: x [M, ..., d_in] -> [M, ..., d_out]. Made with M = 1, with nn.Linear's initial weights."""

    def __init__(self, d_in: int, d_out: int, *, bias: bool = False):
        super().__init__()
        bound = d_in**-0.5
        self.weight = nn.Parameter(torch.empty(1, d_in, d_out).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(1, 1, d_out).uniform_(-bound, bound)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """x of each member through its own layer."""
        flat = x.flatten(1, -2)
        y = torch.bmm(flat, self.weight) if self.bias is None else torch.baddbmm(self.bias, flat, self.weight)
        return y.unflatten(1, x.shape[1:-1])


class RMSNorms(nn.Module):
    """M RMSNorms: x [M, ..., dim] -> the same shape."""

    def __init__(self, dim: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, dim))

    def forward(self, x: Tensor) -> Tensor:
        """x of each member, normed over its last axis."""
        normed = F.rms_norm(x, x.shape[-1:], eps=1e-6)
        return normed * self.weight.view(-1, *[1] * (x.dim() - 2), x.shape[-1])


class Embeddings(nn.Module):
    """M tables: ids [M, B, T] -> [M, B, T, dim]."""

    def __init__(self, vocab_size: int, dim: int, *, std: float = 0.02):
        super().__init__()
        self.weight = nn.Parameter(std * torch.randn(1, vocab_size, dim))

    def forward(self, ids: Tensor) -> Tensor:
        """ids of each member in its own table."""
        M, vocab_size, _ = self.weight.shape
        first = vocab_size * torch.arange(M, device=ids.device)[:, None, None]
        return F.embedding(ids + first, self.weight.flatten(0, 1))


def side_by_side_members(models: list[nn.Module]) -> nn.Module:
    """One model with all members of `models`, which must be built alike; the first is changed and returned."""
    first = models[0]
    for name, p in list(first.named_parameters()):
        owner, _, leaf = name.rpartition(".")
        stacked = torch.cat([model.get_parameter(name).detach() for model in models])
        setattr(first.get_submodule(owner), leaf, nn.Parameter(stacked, requires_grad=p.requires_grad))
    return first


class AdamWs:
    """AdamW with one learning rate per member, gradients of each member clipped at length 1.

    Betas (0.9, 0.98), weight decay 0.01, as torch.optim.AdamW; a tenth of `steps` warm-up, then a cosine to 0, or, if
    constant, RISE steps and no fall. A member whose rate in `lrs` is set to 0 keeps its weights.
    The parameters become views of one row per member, [M, P], so that a step is a dozen operations. A member whose
    gradient is not finite keeps its weights for that step.
    """

    def __init__(self, model: nn.Module, lrs: list[float], steps: int, *, constant: bool = False):
        self.parameters = list(model.parameters())
        sizes = [p[0].numel() for p in self.parameters]
        self.rows = torch.cat([p.detach().flatten(1) for p in self.parameters], 1)  # [M, P]
        for p, part in zip(self.parameters, self.rows.split(sizes, 1), strict=True):
            p.data = part.unflatten(1, p.shape[1:])
        self.lrs = self.rows.new_tensor(lrs)[:, None]
        self.mean, self.square = torch.zeros_like(self.rows), torch.zeros_like(self.rows)
        self.steps, self.taken, self.numbers = steps, 0, self.rows.new_zeros(3)
        self.constant = constant

    def advance(self) -> None:
        """Set what depends on the number of the step: the share of the learning rate, and Adam's two corrections."""
        share = min((self.taken + 1) / RISE, 1) if self.constant else schedule(self.taken, self.steps)
        self.taken += 1
        self.numbers.copy_(torch.tensor([share, 1 - 0.9**self.taken, 1 - 0.98**self.taken]))

    @torch.no_grad()
    def step(self) -> None:
        """Apply the gradients and drop them. Call advance() before."""
        share, mean_correction, square_correction = self.numbers
        grads = torch.cat([p.grad.flatten(1) for p in self.parameters], 1)
        grads *= (1 / (grads.norm(dim=1, keepdim=True) + 1e-6)).clamp(max=1)
        grads = torch.where(grads.sum(1, keepdim=True).isfinite(), grads, 0.0)
        lr = self.lrs * share
        self.mean.lerp_(grads, 1 - 0.9)
        self.square.mul_(0.98).addcmul_(grads, grads, value=1 - 0.98)
        self.rows.mul_(1 - lr * 0.01)
        size = (self.square / square_correction).sqrt_().add_(1e-8)
        self.rows.sub_(lr / mean_correction * self.mean / size)
        for p in self.parameters:
            p.grad = None


class Captured:
    """work(*tensors) -> tensor on a CUDA GPU, captured as a graph for each shape of its inputs and replayed: launching
    thousands of small operations takes longer than doing them. rehearse(*tensors) runs once before each capture."""

    def __init__(self, work: Callable[..., Tensor], rehearse: Callable[..., object]):
        self.work, self.rehearse, self.graphs, self.pool = work, rehearse, {}, None

    def __call__(self, *inputs: Tensor) -> Tensor:
        shapes = tuple(x.shape for x in inputs)
        if shapes not in self.graphs:
            self.graphs[shapes] = self._capture([x.clone() for x in inputs])
        graph, places, result = self.graphs[shapes]
        for place, x in zip(places, inputs, strict=True):
            place.copy_(x)
        graph.replay()
        return result.clone()

    def _capture(self, places: list[Tensor]) -> tuple[torch.cuda.CUDAGraph, list[Tensor], Tensor]:
        beside = torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            self.rehearse(*places)
        torch.cuda.current_stream().wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self.pool):
            result = self.work(*places)
        self.pool = graph.pool()
        return graph, places, result


def schedule(step: int, steps: int) -> float:
    """Share of the learning rate at `step` of 0 .. steps - 1."""
    warm_up = max(steps // 10, 1)
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(steps - warm_up, 1)))
