"""One token at a time: the equations of chapters 02 and 03, for every operator of the family."""

from itertools import pairwise

import torch
from torch import Tensor

from reference.ops._layout import inner_dtype


def token_step(
    S: Tensor, q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor | None, scale: float
) -> tuple[Tensor, Tensor]:
    """S [B, HV, Dk, Dv], q, k [B, HV, Dk], v [B, HV, Dv], g [B, HV, 1 or Dk], beta [B, HV] or None -> (o, S)."""
    S = g.exp()[..., None] * S  # (3.1)
    u = v if beta is None else beta[..., None] * (v - _read(S, k))  # (4.2)
    S = S + k[..., :, None] * u[..., None, :]  # (4.1)
    return scale * _read(S, q), S


def token_step_(S: Tensor, qk: Tensor, v: Tensor, g: Tensor, beta: Tensor | None, scale: float) -> Tensor:
    """The same, writing into S [N, Dk, Dv] and reading it once. N = B·HV; qk [N, 2, Dk], g [N, 1 or Dk]. Returns o.

    It is (4.4) to (4.6) with one token in the chunk: q and k read the old state together, and what this
    token writes is added to o as (q · k) u.
    """
    decay = g.exp()[..., None]  # [N, 1 or Dk, 1]
    o, known = torch.bmm(qk * decay.mT, S).unbind(1)  # [N, Dv] each
    u = v if beta is None else beta[:, None] * (v - known)
    q, k = qk.unbind(1)
    S.mul_(decay).addcmul_(k[:, :, None], u[:, None])
    return torch.addcmul(o, (q * k).sum(-1, keepdim=True), u).mul_(scale)


def _read(S: Tensor, q: Tensor) -> Tensor:
    return (q[..., None, :] @ S)[..., 0, :]  # (2.2)


def repeat_heads(x: Tensor, HV: int) -> Tensor:
    """Query/key heads [B, ..., H, Dk] -> [B, ..., HV, Dk]: each serves HV / H neighbouring value heads."""
    return x if x.shape[-2] == HV else x.repeat_interleave(HV // x.shape[-2], dim=-2)


def recurrent_scan(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    beta: Tensor | None,
    initial_state: Tensor | None,
    scale: float,
    bounds: list[int],
) -> tuple[Tensor, Tensor]:
    """All tokens of checked arguments: (o [B, T, HV, Dv], final state [B, HV, Dk, Dv])."""
    (B, _, HV, Dv), Dk, dtype, n_sequences = v.shape, q.shape[-1], inner_dtype(v), len(bounds) - 1
    q, k = (repeat_heads(x.to(dtype), HV) for x in (q, k))
    g = g.to(dtype) if g.dim() == 4 else g.to(dtype)[..., None]
    zeros = torch.zeros(max(B, n_sequences), HV, Dk, Dv, dtype=dtype, device=v.device)
    states = zeros if initial_state is None else initial_state.to(dtype)
    outputs, final_states = [], []
    for n, (start, stop) in enumerate(pairwise(bounds)):
        S = states if n_sequences == 1 else states[n : n + 1]
        for t in range(start, stop):
            b = None if beta is None else beta[:, t].to(dtype)
            o, S = token_step(S, q[:, t], k[:, t], v[:, t].to(dtype), g[:, t], b, scale)
            outputs.append(o)
        final_states.append(S)
    return torch.stack(outputs, 1).to(v.dtype), torch.cat(final_states)
