"""One token at a time: the equations of chapters 02 and 03, for every operator of the family."""

from itertools import pairwise

import torch
from torch import Tensor

from reference.dtypes import inner_dtype


def token_step(
    S: Tensor, q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor | None, scale: float
) -> tuple[Tensor, Tensor]:
    """S [B, HV, Dk, Dv], q, k [B, HV, Dk], v [B, HV, Dv], g [B, HV, 1 or Dk], beta [B, HV] or None -> (o, S)."""
    S = g.exp()[..., None] * S  # (3.1)
    u = v if beta is None else beta[..., None] * (v - _read(S, k))  # (4.2)
    S = S + k[..., :, None] * u[..., None, :]  # (4.1)
    return scale * _read(S, q), S


def token_step_(
    S: Tensor, qk: Tensor, v: Tensor, g: Tensor, beta: Tensor | None, scale: float, into: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The same without gradients, with one read of the state and one write.

    S [N, Dk, Dv], N = B·HV; qk [N, 2, Dk], g [N, 1 or Dk]. The new state is written into `into` (S itself, say),
    or into a new tensor if that is None. It is (4.4) to (4.6) with one token in the chunk: q and k
    read the old state together, and what this token writes is added to o as (q · k) u.
    """
    decay = g.exp()[..., None]  # [N, 1 or Dk, 1]
    o, known = torch.bmm(qk * decay.mT, S).unbind(1)  # [N, Dv] each
    u = v if beta is None else beta[:, None] * (v - known)
    q, k = qk.unbind(1)
    S = torch.mul(S, decay, out=into).addcmul_(k[:, :, None], u[:, None])
    return torch.addcmul(o, (q * k).sum(-1, keepdim=True), u).mul_(scale), S


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
    o_dtype = v.dtype
    q, k = (repeat_heads(x.to(dtype), HV) for x in (q, k))
    g = g.to(dtype) if g.dim() == 4 else g.to(dtype)[..., None]
    if initial_state is None:
        states = torch.zeros(max(B, n_sequences), HV, Dk, Dv, dtype=dtype, device=v.device)
    else:
        states = initial_state.to(dtype)
    v, beta = v.to(dtype), None if beta is None else beta.to(dtype)
    tensors = (q, k, v, g, beta, states)
    scan = _scan_with_graph
    if not torch.is_grad_enabled() or not any(x is not None and x.requires_grad for x in tensors):
        scan = _scan_in_place
    outputs, final_states = [], []
    for n, (start, stop) in enumerate(pairwise(bounds)):
        S = states if n_sequences == 1 else states[n : n + 1]
        o, S = scan(q, k, v, g, beta, S, scale, range(start, stop))
        outputs += o
        final_states.append(S)
    o = outputs[0][:, None] if len(outputs) == 1 else torch.stack(outputs, 1)
    return o.to(o_dtype), S if n_sequences == 1 else torch.cat(final_states)


def _scan_with_graph(q, k, v, g, beta, S, scale, times: range) -> tuple[list[Tensor], Tensor]:
    """What autograd can go through: a new state for every token."""
    outputs = []
    for t in times:
        o, S = token_step(S, q[:, t], k[:, t], v[:, t], g[:, t], None if beta is None else beta[:, t], scale)
        outputs.append(o)
    return outputs, S


def _scan_in_place(q, k, v, g, beta, S, scale, times: range) -> tuple[list[Tensor], Tensor]:
    """The first token makes a new state, the others write into it."""
    B, HV, Dk, Dv = shape = S.shape
    S, into, outputs = S.reshape(-1, Dk, Dv), None, []
    for t in times:
        qk = torch.stack((q[:, t], k[:, t]), 2).view(-1, 2, Dk)
        b = None if beta is None else beta[:, t].reshape(-1)
        o, S = token_step_(S, qk, v[:, t].reshape(-1, Dv), g[:, t].reshape(B * HV, -1), b, scale, into)
        into = S
        outputs.append(o.view(B, HV, Dv))
    return outputs, S.view(shape)
