"""Root-mean-square norms, plain and zero-centred."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reference.derivatives import is_differentiated
from reference.dtypes import inner_dtype


def divide_by_rms(x: Tensor, weight: Tensor | None, eps: float) -> Tensor:
    """x / sqrt(mean(x^2) + eps) over the last axis, times weight [dim] if there is one: in float32 at least.

    On a CPU without gradients in place, with the same numbers: PyTorch's has no single kernel there, and needs two
    tensors of x's size more.
    """
    wide = inner_dtype(x)
    x, weight = x.to(wide), None if weight is None else weight.to(wide)
    if not x.is_cpu or is_differentiated(x, weight):
        return F.rms_norm(x, x.shape[-1:], weight, eps)
    y = x * x.square().mean(-1, keepdim=True).add_(eps).rsqrt_()
    return y if weight is None else y.mul_(weight)


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps), times a learned weight per channel.

    dim            channels
    eps            added to the mean
    zero_centered  the factor is 1 + weight with weight starting at 0, so that weight decay pulls the factor towards 1
                   and not towards 0

    forward(x [..., dim]) -> the same shape in x's dtype; the mean is taken in float32 at least.
    Source: Zhang and Sennrich 2019; zero-centred as in Qwen3-Next.
    """

    def __init__(self, dim: int, *, eps: float = 1e-6, zero_centered: bool = False):
        super().__init__()
        self.eps, self.zero_centered = eps, zero_centered
        self.weight = nn.Parameter(torch.zeros(dim) if zero_centered else torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        factor = 1 + self.weight if self.zero_centered else self.weight
        return divide_by_rms(x, factor, self.eps).to(x.dtype)

    @staticmethod
    def plain(x: Tensor, eps: float = 1e-6) -> Tensor:
        """The norm without weights, of x [..., dim], as the layer computes it."""
        return divide_by_rms(x, None, eps).to(x.dtype)

    def extra_repr(self) -> str:
        return f"{len(self.weight)}, eps={self.eps}, zero_centered={self.zero_centered}"
