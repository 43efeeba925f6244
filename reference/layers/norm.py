"""Root-mean-square norms, plain and zero-centred."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reference.dtypes import inner_dtype


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
        wide = inner_dtype(x)
        factor = 1 + self.weight if self.zero_centered else self.weight
        return F.rms_norm(x.to(wide), factor.shape, factor.to(wide), self.eps).to(x.dtype)

    @staticmethod
    def plain(x: Tensor, eps: float = 1e-6) -> Tensor:
        """The norm without weights, of x [..., dim], as the layer computes it."""
        return F.rms_norm(x.to(inner_dtype(x)), x.shape[-1:], None, eps).to(x.dtype)

    def extra_repr(self) -> str:
        return f"{len(self.weight)}, eps={self.eps}, zero_centered={self.zero_centered}"
