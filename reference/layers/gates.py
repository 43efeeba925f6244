"""The decay gate of Gated DeltaNet, KDA and Mamba-2: from a projection to a log decay <= 0."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from reference.dtypes import inner_dtype


def log_decay(a: Tensor, A_log: Tensor, dt_bias: Tensor) -> Tensor:
    """g = -e^{A_log} softplus(a + dt_bias), in float32 at least: never positive, whatever the weights.

    a [..., HV] with A_log and dt_bias [HV], or [..., HV, Dk] with A_log [HV, 1] and dt_bias [HV, Dk] (KDA).
    Source: Mamba-2 (Dao and Gu 2024); Qwen3-Next and Kimi Linear have the same formula.
    """
    wide = inner_dtype(a)
    return -A_log.to(wide).exp() * F.softplus(a.to(wide) + dt_bias.to(wide))


def bounded_log_decay(a: Tensor, A_log: Tensor, dt_bias: Tensor, lower: float) -> Tensor:
    """g = lower · sigmoid(e^{A_log} (a + dt_bias)), between lower < 0 and 0, in float32 at least; shapes as log_decay.

    No token fades a channel by more than e^lower: with lower = -5, e^{G_r - G_s} of 16 tokens stays within
    e^75 = 4e32, which float32 holds, and the quotient e^{G_r} / e^{G_s} may be taken apart.
    Source: Kimi K3, GLM-5.3-Flash and Ling 3.0 (transformers' bailing_hybrid), lower = -5.
    """
    wide = inner_dtype(a)
    return lower * torch.sigmoid(A_log.to(wide).exp() * (a.to(wide) + dt_bias.to(wide)))


def initial_A_log(*shape: int) -> Tensor:
    """ln of a rate that is uniform in (1, 16), as in Mamba-2 and in fla's KDA (fla's Gated DeltaNet: in (0, 16))."""
    return torch.empty(shape).uniform_(1, 16).log()


def initial_dt_bias(*shape: int, shortest: float = 1e-3, longest: float = 1e-1) -> Tensor:
    """softplus^-1 of steps spread evenly in log between 0.001 and 0.1, as in fla, Mamba-2 and Olmo Hybrid.

    With initial_A_log a memory's median half-life is some ten tokens. transformers' Qwen3-Next starts from
    dt_bias = 1 instead, a half-life of a fraction of a token: harmless if weights are loaded, useless for training.
    """
    dt = torch.empty(shape).uniform_(math.log(shortest), math.log(longest)).exp()
    return dt + torch.log(-torch.expm1(-dt))  # the inverse of softplus without overflow
