"""One chunk of C tokens at once: the equations (4.3) to (4.6) of chapter 04, for every operator of the family.

Notation, the chapter's own. All tensors here are one chunk, heads first:
    N        independent memories: batch rows times value heads
    q, k     [N, C, Dk]      v, u [N, C, Dv]      S [N, Dk, Dv]      beta [N, C, 1]
    g        [N, C]     one log decay per token and head, or [N, C, Dk] one per key channel (KDA)
    G        its running sum inside the chunk; G_r - G_s is what fades between the tokens s and r
    u        the corrected value: what is really written. Additive rules have u = v

An additive rule and a delta rule differ in corrected_values alone; a scalar and a channel decay in
pair_decay alone. Everything is out of place unless told otherwise, with matrix products as large as one chunk allows.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

# exp(-1000) is exactly 0 in float32 and float64: a gate below the floor is a full reset either way, and
# unlike -inf it can be subtracted from itself.
FLOOR = -1000.0


class Decay(NamedTuple):
    """What fades inside one chunk. The last axis is 1 for a scalar decay, Dk for a channel decay."""

    since_start: Tensor  # e^{G_r}        [N, C, 1 or Dk]   from the chunk's first state to the token
    until_end: Tensor  #   e^{G_C - G_s}  [N, C, 1 or Dk]   from the token to the chunk's last state
    whole: Tensor  #       e^{G_C}        [N, 1 or Dk, 1]   from the first state to the last
    pairs: Tensor | None  # e^{G_r - G_s} [N, C, C] for s <= r, else 0; None for a channel decay,
    halves: tuple  #        whose pairs [N, C, C, Dk] are never built: see halve (4.8)


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
    return Decay(since_start, until_end, since_start[:, -1, :, None], None, tuple(_halve(g)))


def _sum_after(g: Tensor) -> Tensor:
    """The sum of g over the tokens after this one, on axis -2: only additions of one sign, no digit is lost."""
    later = torch.cat([g[..., 1:, :], torch.zeros_like(g[..., :1, :])], -2)
    return later.flip(-2).cumsum(-2).flip(-2)


def _halve(g: Tensor) -> list[tuple[int, Tensor, Tensor]]:
    """Cut the chunk in halves, quarters, ...: pairs (r, s) that lie on two sides of a cut m decay through it.

    e^{G_r - G_s} = e^{G_r - G_m} e^{G_m - G_s}, and both factors are at most 1: one goes with the reader,
    one with the key, and the pairs become a plain matrix product. e^{-G_s} alone would overflow. (4.8)
    Returns, for each half-length b, (b, decay from the cut to r, decay from s to the cut), [N, P, b, Dk].
    """
    levels, b = [], 1
    g = pad(g, (0, 0, 0, _next_power_of_two(g.shape[1]) - g.shape[1]))
    while b < g.shape[1]:
        left, right = g.unflatten(1, (-1, 2, b)).unbind(2)
        levels.append((b, right.cumsum(-2).exp_(), _sum_after(left).exp_()))
        b *= 2
    return levels


def _next_power_of_two(n: int) -> int:
    return 1 << (n - 1).bit_length()


def decayed_scores(x: Tensor, k: Tensor, decay: Decay) -> Tensor:
    """x_r · k_s, faded from s to r: [N, C, C], zero above the diagonal. x is q or k."""
    if decay.pairs is not None:
        return (x @ k.mT).mul_(decay.pairs)
    n, length = x.shape[0], _next_power_of_two(x.shape[1])
    scores = x.new_zeros(n, length, length)
    x_padded, k_padded = (pad(y, (0, 0, 0, length - y.shape[1])) for y in (x, k))
    scores.diagonal(dim1=1, dim2=2).copy_((x_padded * k_padded).sum(-1))
    for b, from_cut, to_cut in decay.halves:
        late = x_padded.unflatten(1, (-1, 2, b))[:, :, 1] * from_cut  # [N, P, b, Dk]
        early = k_padded.unflatten(1, (-1, 2, b))[:, :, 0] * to_cut
        _blocks(scores, b).copy_(late @ early.mT)  # (4.8)
    return scores[:, : x.shape[1], : x.shape[1]]


def _blocks(scores: Tensor, b: int) -> Tensor:
    """A view of the blocks below the diagonal whose pairs lie on two sides of a cut: [N, P, b, b]."""
    pairs = scores.unflatten(2, (-1, 2 * b)).unflatten(1, (-1, 2 * b)).diagonal(dim1=1, dim2=3)
    return pairs[:, b:, :b].movedim(-1, 1)


def corrected_values(k: Tensor, v: Tensor, beta: Tensor, decay: Decay, S: Tensor) -> Tensor:
    """What the delta rule really writes, for all tokens of the chunk: [N, C, Dv]. The only system solved."""
    error = torch.baddbmm(v, k * decay.since_start, S, alpha=-1)  # V - e^G ⊙ K S
    return chunk_inverse(decayed_scores(k, k, decay), beta) @ error.mul_(beta)  # (4.4)


def chunk_inverse(key_scores: Tensor, beta: Tensor) -> Tensor:
    """T = (I + A)^-1 with A = strict_lower(β ⊙ (K K^T ⊙ Γ)): [N, C, C], independent of v and S."""
    A = key_scores * beta
    if A.device.type == "mps":
        return inverse_by_products(A.tril_(-1))
    # solve_triangular reads only what lies below the diagonal: strict_lower is implied, and so is I.
    eye = torch.eye(A.shape[-1], dtype=A.dtype, device=A.device).expand_as(A)
    return torch.linalg.solve_triangular(A, eye, upper=False, unitriangular=True)


def inverse_by_products(A: Tensor) -> Tensor:
    """(I + A)^-1 for strictly lower triangular A [N, C, C], by matrix products alone: log2(C) rounds of two.

    Blocks of 1, 2, 4, ... on the diagonal are inverted already; two neighbours with A_21 between them have
    the inverse [[T_1, 0], [-T_2 A_21 T_1, T_2]]. For machines whose triangular solve is slow: on Apple's GPU
    products were 4 times faster (https://github.com/kshetrajna12/reflex/pull/1).
    """
    at = torch.arange(A.shape[-1], device=A.device)
    T, b = torch.eye(A.shape[-1], dtype=A.dtype, device=A.device).expand_as(A), 1
    while b < A.shape[-1]:
        siblings = (at[:, None] // (2 * b) == at // (2 * b)) & (at[:, None] // b != at // b)
        T = T - T @ (A * siblings) @ T
        b *= 2
    return T


def read_state(q: Tensor, k: Tensor, u: Tensor, decay: Decay, S: Tensor, scale: float) -> Tensor:
    """The outputs of the chunk, [N, C, Dv]: what the first state still holds, and what the chunk has written."""
    before = (q * decay.since_start) @ S
    return before.baddbmm_(decayed_scores(q, k, decay), u, beta=scale, alpha=scale)  # (4.5)


def carry_state(k: Tensor, u: Tensor, decay: Decay, S: Tensor, into: Tensor | None = None) -> Tensor:
    """The state after the chunk, [N, Dk, Dv]: a new tensor, or `into` (S itself, where nobody needs it any more)."""
    return torch.mul(decay.whole, S, out=into).baddbmm_((k * decay.until_end).mT, u)  # (4.6)
