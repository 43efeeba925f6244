"""The norm and gate between a linear-attention operator and its output projection, in either order."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reference.dtypes import inner_dtype
from reference.layers.norm import divide_by_rms

ACTIVATIONS = {"silu": F.silu, "sigmoid": torch.sigmoid}


class GatedRMSNorm(nn.Module):
    """RMSNorm of each head, *then* the gate: weight · x / rms(x) · act(z). Mamba-2 has the opposite order.

    dim         channels of a head
    activation  of the gate: "silu" (Gated DeltaNet) or "sigmoid" (KDA)
    eps         added to the mean

    forward(x, z [..., dim]) -> [..., dim] in x's dtype, computed in float32 at least. Raises ValueError that names the
    argument. Source: Qwen3-Next, Kimi Linear.
    """

    def __init__(self, dim: int, *, activation: str = "silu", eps: float = 1e-6):
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation: expected one of {list(ACTIVATIONS)}, got {activation!r}")
        self.eps, self.activation = eps, activation
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        gate = ACTIVATIONS[self.activation](z.to(inner_dtype(x)))
        return (divide_by_rms(x, self.weight, self.eps) * gate).to(x.dtype)


class GateThenRMSNorm(nn.Module):
    """The gate, *then* an RMSNorm over all heads or over groups of them: weight · y / rms(y), y = x · silu(z).

    dim         channels of all heads together
    groups      parts of the channels that are normed by themselves; 0: no norm, the gate alone
    eps         added to the mean
    norm_first  weight · x / rms(x) · silu(z) instead

    forward(x, z [..., dim]) -> [..., dim] in x's dtype, computed in float32 at least.
    Source: Dao and Gu 2024 (Mamba-2); groups as in its tensor-parallel form.
    """

    def __init__(self, dim: int, *, groups: int = 1, eps: float = 1e-5, norm_first: bool = False):
        super().__init__()
        self.groups, self.eps, self.norm_first = groups, eps, norm_first
        self.weight = nn.Parameter(torch.ones(dim)) if groups else None

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        wide = inner_dtype(x)
        y, gate = x.to(wide), F.silu(z.to(wide))
        if self.groups == 0:
            return (y * gate).to(x.dtype)
        y = y if self.norm_first else y * gate
        y = y.unflatten(-1, (self.groups, -1))
        y = divide_by_rms(y, None, self.eps).flatten(-2) * self.weight.to(wide)
        return (y * gate if self.norm_first else y).to(x.dtype)
