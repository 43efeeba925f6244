"""One token at a time: the equations of chapters 02 and 03, for every operator of the family."""

from itertools import pairwise

import torch
from torch import Tensor

from reference.derivatives import is_differentiated
from reference.dtypes import inner_dtype


def token_step(
    S: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    beta: Tensor | None,
    scale: float,
    into: Tensor | None = None,
    p: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """S [B, HV, Dk, Dv], q, k [B, HV, Dk], v [B, HV, Dv], g [B, HV, 1 or Dk], beta [B, HV] or None -> (o, S).

    p [B, HV, Dk]: the key that reads what is erased, None for k itself.
    The new state is written into `into` (S itself, say), or is a new tensor if that is None, as gradients need it.
    """
    S = torch.mul(S, g.exp()[..., None], out=into)  # (3.1)
    u = v if beta is None else beta[..., None] * (v - _read(S, k if p is None else p))  # (4.2)
    S = torch.addcmul(S, k[..., :, None], u[..., None, :], out=into)  # (4.1)
    return scale * _read(S, q), S


def _read(S: Tensor, q: Tensor) -> Tensor:
    return (q[..., None, :] @ S)[..., 0, :]  # (2.2)


def repeat_heads(x: Tensor, HV: int) -> Tensor:
    """Query/key heads [B, ..., H, Dk] -> [B, ..., HV, Dk]: each serves HV / H neighbouring value heads."""
    return x if x.shape[-2] == HV else x.repeat_interleave(HV // x.shape[-2], dim=-2)


def recurrent_form(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    beta: Tensor | None,
    p: Tensor | None,
    initial_state: Tensor | None,
    scale: float,
    bounds: list[int],
) -> tuple[Tensor, Tensor]:
    """Checked arguments -> (o [B, T, HV, Dv], final state [B, HV, Dk, Dv]), token by token."""
    (B, _, HV, Dv), dtype, n_sequences = v.shape, inner_dtype(v), len(bounds) - 1
    if initial_state is None:
        initial_state = v.new_zeros(max(B, n_sequences), HV, q.shape[-1], Dv, dtype=dtype)
    tensors = (q, k, v, g, beta, p, initial_state)
    with_graph = is_differentiated(*tensors)
    q, k, V, g, beta, p, states = (None if x is None else x.to(dtype) for x in tensors)
    q, k, p = (None if x is None else repeat_heads(x, HV) for x in (q, k, p))
    g = g if g.dim() == 4 else g[..., None]
    outputs, final_states = [], []
    for n, (start, stop) in enumerate(pairwise(bounds)):
        S, into = states if n_sequences == 1 else states[n : n + 1], None
        for t in range(start, stop):
            b, erases = (None if x is None else x[:, t] for x in (beta, p))
            o, S = token_step(S, q[:, t], k[:, t], V[:, t], g[:, t], b, scale, into, erases)
            into = None if with_graph else S  # the first token makes a new state, the others write into it
            outputs.append(o)
        final_states.append(S)
    return torch.stack(outputs, 1).to(v.dtype), S if n_sequences == 1 else torch.cat(final_states)
