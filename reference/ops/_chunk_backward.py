"""The gradients of one chunk, by hand: (4.9) to (4.14) of chapter 04. Notation as in chunk.py.

Nothing inside the chunk was kept by the forward pass: given the state S that entered it, scores and
corrected values are computed again. dY stands for the gradient of the loss with respect to Y.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from reference.ops._pieces import at, put
from reference.ops.chunk import (
    FLOOR,
    Decay,
    chunk_decay,
    chunk_inverse,
    decayed_scores,
    padding,
    pairs_across,
    plus_product,
)


def back_chunk_by_chunk(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    beta: Tensor | None,
    p: Tensor | None,
    do: Tensor,
    dS: Tensor,
    entering: list[Tensor],
    scale: float,
    spans: list[slice],
    out: list[Tensor | None],
) -> Tensor:
    """The loop of chunk_by_chunk from its end: dS of the last state -> dS of the first.

    entering: the state that entered each of the chunks `spans`. Gradients of q, k, v, g, beta, p are written to `out`.
    """
    for time, S in reversed(list(zip(spans, entering, strict=True))):
        Q, K, V, G, b, P, dO = (at(x, time, S) for x in (q, k, v, g, beta, p, do))
        gradients = chunk_backward(Q, K, V, G, b, S, dO, dS, scale, P)
        for target, gradient in zip(out, gradients.inputs, strict=True):
            if target is not None:
                put(target, time, gradient)
        dS = gradients.S
    return dS


class ChunkGradients(NamedTuple):
    """Gradients of the loss with respect to what one chunk read."""

    inputs: tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None, Tensor | None]  # q, k, v, g, beta, p
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
    p: Tensor | None = None,
) -> ChunkGradients:
    """Gradients of one chunk from do [N, C, Dv] and dS [N, Dk, Dv], the gradient of the state it hands on.

    q, k [N, C, Dk], v [N, C, Dv], g [N, C] or [N, C, Dk], beta [N, C, 1] or None (additive rule: u = v),
    S [N, Dk, Dv] the state that entered the chunk; p [N, C, Dk] the keys that read what is erased, None for k itself.
    """
    decay = chunk_decay(g)
    do = scale * do
    reader = k if p is None else p
    reader_faded = reader * decay.since_start
    if beta is None:
        u = v
    else:
        key_scores = decayed_scores(reader, k, decay)
        X = chunk_inverse(key_scores, beta)
        error = plus_product(v, reader_faded, S, sign=-1)
        u = X @ (beta * error)  # (4.4), once more

    # back through the output (4.5) and the state handed on (4.6)
    du = decayed_scores(q, k, decay).mT @ do
    du = plus_product(du, k * decay.until_end, dS, into=du)  # (4.9)
    d_scores = do @ u.mT
    own_pair = d_scores.diagonal(dim1=1, dim2=2)[..., None].clone()  # a token that reads what it wrote itself
    dq, dk_written = scores_backward(q, k, decay, d_scores.tril_(-1))
    dq.addcmul_(do @ S.mT, decay.since_start)
    dk_handed_on = decay.until_end * (u @ dS.mT)
    dS_before = decay.whole * dS
    dS_before = plus_product(dS_before, (q * decay.since_start).mT, do, into=dS_before)

    # back through the system (4.4)
    dv, dbeta, d_reader = du, None, torch.zeros_like(k)
    if beta is not None:
        d_right_side = X.mT @ du  # (4.10)
        dA = (d_right_side @ u.mT).tril_(-1).neg_()
        dv = beta * d_right_side
        dbeta = (d_right_side * error).sum(-1, keepdim=True) + (dA * key_scores).sum(-1, keepdim=True)
        d_reader, dk_written_in_A = scores_backward(reader, k, decay, dA.mul_(beta))
        d_reader.addcmul_(dv @ S.mT, decay.since_start, value=-1)
        dk_written.add_(dk_written_in_A)
        dS_before = plus_product(dS_before, reader_faded.mT, dv, sign=-1, into=dS_before)  # (4.13)

    passing = q * dq + reader * d_reader - k * dk_written
    dg = gate_gradient(g, passing, k * dk_handed_on, decay.whole * S * dS)
    dq = dq.addcmul_(own_pair, k)  # (4.11)
    dk = dk_written if p is not None else d_reader + dk_written
    dk = dk.add_(dk_handed_on).addcmul_(own_pair, q)  # (4.12)
    return ChunkGradients((dq, dk, dv, dg, dbeta, None if p is None else d_reader), dS_before)


def gate_gradient(g: Tensor, passing: Tensor, handed_on: Tensor, all_the_way: Tensor) -> Tensor:
    """dg, [N, C] or [N, C, Dk], from what passes each gate: (4.14).

    Readers (q, and k in the error) fade with e^{G_r}, written keys with e^{-G_s}, so the products `passing`
    [N, C, Dk] of both with their gradients say how much passes a gate. Two things are left out there and
    added where they belong, since a strong gate would have to subtract them again: a token's own pair passes
    no gate, and what it hands on [N, C, Dk] passes only the gates behind it. all_the_way [N, Dk, Dv] is what
    the first state hands on to the last.
    """
    all_the_way = all_the_way.sum(-1)[:, None]  # [N, 1, Dk]
    if g.dim() == 2:
        passing, handed_on, all_the_way = passing.sum(-1), handed_on.sum(-1), all_the_way.sum(-1)
    dg = passing.flip(1).cumsum(1).flip(1) + sum_before(handed_on) + all_the_way  # (4.14)
    return dg.masked_fill(g <= FLOOR, 0.0)  # nothing passes a full reset


def sum_before(x: Tensor) -> Tensor:
    """The sum over the tokens before this one, on axis 1; cumsum(x) - x would lose what is small beside x."""
    return torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], 1).cumsum(1)


def scores_backward(x: Tensor, k: Tensor, decay: Decay, d_scores: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients (dx, dk), each [N, C, Dk], of decayed_scores(x, k, decay); d_scores is lower triangular."""
    if decay.pairs is not None:
        faded = d_scores * decay.pairs
        return faded @ k, faded.mT @ x
    C, missing = x.shape[1], padding(x.shape[1])
    x, k = (pad(y, (0, 0, 0, missing)) for y in (x, k))
    d_scores = pad(d_scores, (0, missing, 0, missing))
    on_diagonal = d_scores.diagonal(dim1=1, dim2=2)[..., None]
    dx, dk = on_diagonal * k, on_diagonal * x
    for half, from_cut, to_cut in decay.cuts:
        block = pairs_across(d_scores, half)
        (_, x_late), (k_early, _) = (y.unflatten(1, (-1, 2, half)).unbind(2) for y in (x, k))
        dx.unflatten(1, (-1, 2, half))[:, :, 1].addcmul_(block @ (k_early * to_cut), from_cut)
        dk.unflatten(1, (-1, 2, half))[:, :, 0].addcmul_(block.mT @ (x_late * from_cut), to_cut)
    return dx[:, :C], dk[:, :C]
