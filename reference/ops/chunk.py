"""One chunk of C tokens at once: the equations (4.3) to (4.6) of chapter 04, for every operator of the family.

Notation, the chapter's own. All tensors here are one chunk, heads first:
    N        independent memories: batch rows times value heads
    q, k     [N, C, Dk]      v, u [N, C, Dv]      S [N, Dk, Dv]      beta [N, C, 1]
    g        [N, C]     one log decay per token and head, or [N, C, Dk] one per key channel (KDA)
    G        its running sum inside the chunk; G_r - G_s is what fades between the tokens s and r
    u        the corrected value: what is really written. Additive rules have u = v
    X        (I + A)^-1, the inverse of the triangular system (4.4)

An additive rule skips corrected_values. A scalar and a channel decay differ in chunk_decay and in decayed_scores.
In-place calls change only tensors that were made for them: a new one of a chunk's size costs page faults each time.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from reference.ops._pieces import at, chunk_spans, put

# exp(-1000) is exactly 0 in float32 and float64: a gate below the floor is a full reset either way, and
# unlike -inf it can be subtracted from itself.
FLOOR = -1000.0


class Cuts(NamedTuple):
    """One level of cuts (4.8): the chunk falls into P blocks of 2 x half tokens, each cut in its middle."""

    half: int
    from_cut: Tensor  # e^{G_r - G_m} [N, P, half, Dk], for the tokens behind the cut m
    to_cut: Tensor  #   e^{G_m - G_s} [N, P, half, Dk], for the tokens before it


class Decay(NamedTuple):
    """What fades inside one chunk. The last axis is 1 for a scalar decay, Dk for a channel decay."""

    since_start: Tensor  # e^{G_r}        [N, C, 1 or Dk]   from the chunk's first state to the token
    until_end: Tensor  #   e^{G_C - G_s}  [N, C, 1 or Dk]   from the token to the chunk's last state
    whole: Tensor  #       e^{G_C}        [N, 1 or Dk, 1]   from the first state to the last
    pairs: Tensor | None  # e^{G_r - G_s} [N, C, C] for s <= r, else 0; None for a channel decay
    cuts: tuple[Cuts, ...]  # what a channel decay has in the place of its pairs [N, C, C, Dk]; else empty


def chunk_by_chunk(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    beta: Tensor | None,
    S: Tensor,
    scale: float,
    chunk_size: int,
    o: Tensor,
    entering: list[Tensor] | None = None,
) -> Tensor:
    """The loop of chapter 04 over one piece: a chunk reads and writes, and hands its state to the next.

    q, k, v, g, beta: heads first, [N, T, ...]; S [N, Dk, Dv]. Returns the last state. Each chunk's outputs are
    written to o [rows, heads, T, Dv], since a list of them would hold all outputs a second time; `entering`, if
    given, collects the state that enters each chunk.
    """
    for time in chunk_spans(v.shape[1], chunk_size):
        Q, K, V, G, b = (at(x, time, S) for x in (q, k, v, g, beta))
        decay = chunk_decay(G)  # (4.3)
        U = V if b is None else corrected_values(K, V, b, decay, S)  # (4.4)
        put(o, time, read_state(Q, K, U, decay, S, scale))  # (4.5)
        if entering is not None:
            entering.append(S)
        S = carry_state(K, U, decay, S, into=S if entering is None else None)  # (4.6)
    return S


def corrected_values(k: Tensor, v: Tensor, beta: Tensor, decay: Decay, S: Tensor) -> Tensor:
    """What the delta rule really writes, for all tokens of the chunk: [N, C, Dv]. The only system solved."""
    error = plus_product(v, k * decay.since_start, S, sign=-1)  # V - e^G ⊙ K S
    return chunk_inverse(decayed_scores(k, k, decay), beta) @ (beta * error)  # (4.4)


def read_state(q: Tensor, k: Tensor, u: Tensor, decay: Decay, S: Tensor, scale: float) -> Tensor:
    """The outputs of the chunk, [N, C, Dv]: what the first state still holds, and what the chunk has written."""
    before = (q * decay.since_start) @ S
    return plus_product(before, decayed_scores(q, k, decay), u, scale=scale, into=before)  # (4.5)


def carry_state(k: Tensor, u: Tensor, decay: Decay, S: Tensor, into: Tensor | None = None) -> Tensor:
    """The state after the chunk, [N, Dk, Dv]: a new tensor, or `into`, which may be S where S isn't needed any more."""
    faded = torch.mul(decay.whole, S, out=into)
    return plus_product(faded, (k * decay.until_end).mT, u, into=faded)  # (4.6)


def plus_product(
    x: Tensor, a: Tensor, b: Tensor, *, sign: int = 1, scale: float = 1.0, into: Tensor | None = None
) -> Tensor:
    """scale · (x + sign · a @ b) with one batch axis, as a new tensor or written to `into`, which may be x.

    One operation in the place of three: (4.4) to (4.6) lose a tenth of their time by it, with 32 heads up to a
    third, where each new tensor costs page faults. (In torch's name for the factor of x, beta is no write strength.)
    """
    return torch.baddbmm(x, a, b, beta=scale, alpha=sign * scale, out=into)


def chunk_decay(g: Tensor) -> Decay:
    """All decays of a chunk from g [N, C] or [N, C, Dk]."""
    return _scalar_decay(g) if g.dim() == 2 else _channel_decay(g)


def _scalar_decay(g: Tensor) -> Decay:
    # The difference of two sums loses the digits of a mild gate that follows a strong one: in float64
    # it has digits to spare. (MPS has no float64; it keeps what float32 gives.)
    wide = g.dtype if g.device.type == "mps" else torch.float64
    G = g.clamp(min=FLOOR).cumsum(-1, dtype=wide)
    pairs = (G[:, :, None] - G[:, None, :]).tril_().to(g.dtype).exp_().tril_()  # Γ in (4.3)
    since_start = G.to(g.dtype).exp()[..., None]
    return Decay(since_start, pairs[:, -1, :, None], since_start[:, -1:], pairs, ())


def _channel_decay(g: Tensor) -> Decay:
    since_start = g.cumsum(1).exp_()
    until_end = _sum_after(g).exp_()
    return Decay(since_start, until_end, since_start[:, -1, :, None], None, _cut_in_halves(g))


def _sum_after(g: Tensor) -> Tensor:
    """The sum of g over the tokens after this one, on axis -2: only additions of one sign, no digit is lost."""
    later = torch.cat([g[..., 1:, :], torch.zeros_like(g[..., :1, :])], -2)
    return later.flip(-2).cumsum(-2).flip(-2)


def _cut_in_halves(g: Tensor) -> tuple[Cuts, ...]:
    """Cut the chunk in halves, quarters, ...: pairs (r, s) that lie on two sides of a cut m decay through it.

    e^{G_r - G_s} = e^{G_r - G_m} e^{G_m - G_s}, and both factors are at most 1: one goes with the reader,
    one with the key, and the pairs become a plain matrix product. e^{-G_s} alone would overflow. (4.8)
    """
    levels, half = [], 1
    g = pad(g, (0, 0, 0, padding(g.shape[1])))
    while half < g.shape[1]:
        left, right = g.unflatten(1, (-1, 2, half)).unbind(2)
        levels.append(Cuts(half, right.cumsum(-2).exp_(), _sum_after(left).exp_()))
        half *= 2
    return tuple(levels)


def padding(C: int) -> int:
    """How many tokens are missing to a power of two, so that every block has two halves."""
    return (1 << (C - 1).bit_length()) - C


def decayed_scores(x: Tensor, k: Tensor, decay: Decay) -> Tensor:
    """x_r · k_s, faded from s to r: [N, C, C], zero above the diagonal. x is q or k."""
    if decay.pairs is not None:
        return (x @ k.mT).mul_(decay.pairs)
    C, missing = x.shape[1], padding(x.shape[1])
    x, k = (pad(y, (0, 0, 0, missing)) for y in (x, k))
    scores = torch.diag_embed((x * k).sum(-1))
    for half, from_cut, to_cut in decay.cuts:
        late = x.unflatten(1, (-1, 2, half))[:, :, 1] * from_cut  # [N, P, half, Dk]
        early = k.unflatten(1, (-1, 2, half))[:, :, 0] * to_cut
        pairs_across(scores, half).copy_(late @ early.mT)  # (4.8)
    return scores[:, :C, :C]


def pairs_across(scores: Tensor, half: int) -> Tensor:
    """A view of the scores whose pairs lie on two sides of a cut: [N, P, half, half]."""
    blocks = scores.unflatten(2, (-1, 2 * half)).unflatten(1, (-1, 2 * half)).diagonal(dim1=1, dim2=3)
    return blocks[:, half:, :half].movedim(-1, 1)


def chunk_inverse(key_scores: Tensor, beta: Tensor) -> Tensor:
    """X = (I + A)^-1 with A = strict_lower(β ⊙ (K K^T ⊙ Γ)): [N, C, C], independent of v and S."""
    A = key_scores * beta
    if A.device.type == "mps":
        return inverse_by_products(A.tril(-1))
    # solve_triangular reads only what lies below the diagonal: strict_lower is implied, and so is I.
    eye = torch.eye(A.shape[-1], dtype=A.dtype, device=A.device).expand_as(A)
    return torch.linalg.solve_triangular(A, eye, upper=False, unitriangular=True)


def inverse_by_products(A: Tensor) -> Tensor:
    """(I + A)^-1 for strictly lower triangular A [N, C, C], in matrix products only: log2(C) rounds of two.

    Blocks of 1, 2, 4, ... on the diagonal are inverted already; two neighbours with A_21 between them have
    the inverse [[X_1, 0], [-X_2 A_21 X_1, X_2]]. For machines whose triangular solve is slow: on Apple's GPU
    products were 4 times faster (https://github.com/kshetrajna12/reflex/pull/1).
    """
    token = torch.arange(A.shape[-1], device=A.device)
    X, size = torch.eye(A.shape[-1], dtype=A.dtype, device=A.device).expand_as(A), 1
    while size < A.shape[-1]:
        siblings = (token[:, None] // (2 * size) == token // (2 * size)) & (token[:, None] // size != token // size)
        X = X - X @ (A * siblings) @ X
        size *= 2
    return X
