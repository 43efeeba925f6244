"""The gradients of one chunk, by hand: (4.9) to (4.14) of chapter 04. Notation as in _chunk.py.

Nothing inside the chunk was kept by the forward pass: given the state S that entered it, scores and
corrected values are computed again. dX stands for the gradient of the loss with respect to X.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from reference.ops._chunk import (
    FLOOR,
    Decay,
    _blocks,
    _next_power_of_two,
    chunk_decay,
    chunk_inverse,
    decayed_scores,
)


class ChunkGradients(NamedTuple):
    q: Tensor
    k: Tensor
    v: Tensor
    g: Tensor
    beta: Tensor | None
    S: Tensor


def chunk_backward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    beta: Tensor | None,
    S: Tensor,
    do: Tensor,
    dS: Tensor,
    scale: float,
) -> ChunkGradients:
    """Gradients of one chunk from do [N, C, Dv] and dS [N, Dk, Dv], the gradient of the state it hands on.

    q, k [N, C, Dk], v [N, C, Dv], g [N, C] or [N, C, Dk], beta [N, C, 1] or None (additive rule: u = v),
    S [N, Dk, Dv] the state that entered the chunk.
    """
    decay = chunk_decay(g)
    do = scale * do
    q_seen, k_seen, k_kept = q * decay.since_start, k * decay.since_start, k * decay.until_end
    if beta is None:
        u = v
    else:
        M = decayed_scores(k, k, decay)
        T = chunk_inverse(M, beta)
        error = torch.baddbmm(v, k_seen, S, alpha=-1)
        u = T @ (beta * error)  # (4.4), once more

    # back through the output (4.5) and the state handed on (4.6)
    P = decayed_scores(q, k, decay)
    du = (P.mT @ do).baddbmm_(k_kept, dS)  # (4.9)
    dP = do @ u.mT
    own_pair = dP.diagonal(dim1=1, dim2=2)[..., None].clone()  # a token that reads what it wrote itself
    dq, dk_written = scores_backward(q, k, decay, dP.tril_(-1))
    dq.addcmul_(do @ S.mT, decay.since_start)
    dk_kept = decay.until_end * (u @ dS.mT)
    dS_before = (decay.whole * dS).baddbmm_(q_seen.mT, do)

    # back through the system (4.4)
    dv, dbeta, dk_reader = du, None, torch.zeros_like(k)
    if beta is not None:
        d_rhs = T.mT @ du  # (4.10): gradient of beta ⊙ error
        dA = (d_rhs @ u.mT).tril_(-1).neg_()
        dbeta = (d_rhs * error).sum(-1, keepdim=True) + (dA * M).sum(-1, keepdim=True)
        dv = beta * d_rhs
        dk_reader, dk_written_too = scores_backward(k, k, decay, dA.mul_(beta))
        dk_reader.addcmul_(dv @ S.mT, decay.since_start, value=-1)
        dk_written.add_(dk_written_too)
        dS_before.baddbmm_(k_seen.mT, dv, alpha=-1)  # (4.13)

    # Readers (q, and k in the error) fade with e^{G_r}, written keys with e^{-G_s}: their products say how much
    # passes each gate. A token's own pair passes no gate, and what it hands on passes only the gates behind it:
    # both are left out here and added where they belong, for a strong gate would have to subtract them again.
    passing = q * dq + k * (dk_reader - dk_written)
    handed_on = k * dk_kept
    all_the_way = (decay.whole * S * dS).sum(-1)[:, None]  # [N, 1, Dk]
    if g.dim() == 2:
        passing, handed_on, all_the_way = passing.sum(-1), handed_on.sum(-1), all_the_way.sum(-1)
    dg = passing.flip(1).cumsum(1).flip(1) + sum_before(handed_on) + all_the_way  # (4.14)
    dg = dg.masked_fill(g <= FLOOR, 0.0)  # nothing passes a full reset
    dq = dq.addcmul_(own_pair, k)  # (4.11)
    dk = (dk_reader + dk_written).add_(dk_kept).addcmul_(own_pair, q)  # (4.12)
    return ChunkGradients(dq, dk, dv, dg, dbeta, dS_before)


def sum_before(x: Tensor) -> Tensor:
    """The sum over the tokens before this one, on axis 1; cumsum(x) - x would lose what is small beside x."""
    return torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], 1).cumsum(1)


def scores_backward(x: Tensor, k: Tensor, decay: Decay, d_scores: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients (dx, dk), each [N, C, Dk], of decayed_scores(x, k, decay); d_scores is lower triangular."""
    if decay.pairs is not None:
        faded = d_scores * decay.pairs
        return faded @ k, faded.mT @ x
    length, missing = x.shape[1], _next_power_of_two(x.shape[1]) - x.shape[1]
    x, k = (pad(y, (0, 0, 0, missing)) for y in (x, k))
    d_scores = pad(d_scores, (0, missing, 0, missing))
    on_diagonal = d_scores.diagonal(dim1=1, dim2=2)[..., None]
    dx, dk = on_diagonal * k, on_diagonal * x
    for b, from_cut, to_cut in decay.halves:
        block = _blocks(d_scores, b)
        (_, x_late), (k_early, _) = (y.unflatten(1, (-1, 2, b)).unbind(2) for y in (x, k))
        dx.unflatten(1, (-1, 2, b))[:, :, 1].addcmul_(block @ (k_early * to_cut), from_cut)
        dk.unflatten(1, (-1, 2, b))[:, :, 0].addcmul_(block.mT @ (x_late * from_cut), to_cut)
    return dx[:, :length], dk[:, :length]
