"""A mixer that reads the best possible matrix: how much of a linear layer's loss is its rule, how much its size.

After each token it solves for the matrix that fits all pairs so far, so that only the number of channels limits it.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

PENALTY = 0.02  # of |S|^2, beside unit keys; without one the first tokens have no single best matrix


def least_squares_attention(
    q: Tensor, k: Tensor, v: Tensor, beta: Tensor, *, use_qk_l2norm_in_kernel: bool = False
) -> tuple[Tensor, None]:
    """equations.least_squares_scan for a batch, with gradients; the arguments are those of the operators.

    q, k [B, T, H, Dk], v [B, T, H, Dv], beta [B, T, H] -> (o [B, T, H, Dv], None): there is no single state to hand
    on. It holds T matrices at once: for short texts.
    """
    if use_qk_l2norm_in_kernel:
        q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
    written = (beta[..., None] * k)[..., None]  # [B, T, H, Dk, 1]
    pairs, values = (written * x[..., None, :] for x in (k, v))
    penalty = PENALTY * torch.eye(k.shape[-1], dtype=k.dtype, device=k.device)
    # S_t^T q_t = G_t^T (H_t + penalty)^-1 q_t: one right side per token, and not Dv
    found = torch.linalg.solve(pairs.cumsum(1) + penalty, q)
    return torch.einsum("bthkv,bthk->bthv", values.cumsum(1), found), None
