"""The norm and gate between a linear-attention operator and its output projection."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reference.dtypes import inner_dtype

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
        wide = inner_dtype(x)
        normed = F.rms_norm(x.to(wide), self.weight.shape, self.weight.to(wide), self.eps)
        return (normed * ACTIVATIONS[self.activation](z.to(wide))).to(x.dtype)
