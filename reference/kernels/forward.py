"""The chunked operators on a GPU, forward: (4.3) to (4.6) in one kernel, and cut in three.

`one_kernel` is chapter 04's loop: a program owns one sequence, one value head and BV channels of the values, keeps its
part of the state in registers, and goes from chunk to chunk. Only sequences x heads x DV / BV programs can run at once.
The other three are (4.7) in the order in which it may run: `solve_chunks` and `read_chunks` have a program per chunk
and head, as many as the text is long, and only `carry_states` goes from chunk to chunk, with two products where
`one_kernel` has all of them. The price is W, U and a state per chunk, which travel through memory. An additive rule
(linear and lightning attention) has U = V: no triangle, nothing to solve, and two kernels, `carry_sums` and
`read_chunks`.

Shapes, all contiguous: q, k [rows, H, DK]; v, o, u [rows, HV, DV]; w [rows, HV, DK]; g [rows, HV] or [rows, HV, DK];
beta [rows, HV]; first, last [sequences, HV, DK, DV]; states [chunks, HV, DK, DV], float32. The rows of all sequences
lie one after the other; bounds [sequences + 1] says where each begins, chunks [n, 2] where each chunk begins and its
sequence ends, firsts [sequences + 1] which chunk each sequence begins with (int64). C, DK, DV and BV are powers of two.
"""

from reference.kernels.language import jit, tl
from reference.kernels.tiles import (
    chunk_fading,
    chunk_inverse_by_blocks,
    chunk_scores,
    load_rows,
    rows_of_chunk,
    store_rows,
)


@jit
def one_kernel(
    q, k, v, g, beta, first, bounds, o, last, scale, H, HV,
    DK: tl.constexpr, DV: tl.constexpr, BV: tl.constexpr, C: tl.constexpr, ROUNDS: tl.constexpr,
    CHANNEL: tl.constexpr, PRECISION: tl.constexpr,
) -> None:  # fmt: skip
    """Grid (sequences, HV, DV / BV). Reads q, k, v, g, beta and the first state, writes o and the last state."""
    n, h, j = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    start, stop = tl.load(bounds + n), tl.load(bounds + n + 1)
    keys, values, head = tl.arange(0, DK), j * BV + tl.arange(0, BV), h // (HV // H)
    at = (n * HV + h) * DK * DV + keys[:, None] * DV + values[None, :]
    S = tl.load(first + at)
    for t in range(start, stop, C):
        rows = t + tl.arange(0, C)
        live = rows < stop
        Q, K = load_rows(q, rows, live, head, H, keys, DK), load_rows(k, rows, live, head, H, keys, DK)
        V = load_rows(v, rows, live, h, HV, values, DV)
        b = tl.load(beta + rows * HV + h, mask=live, other=0.0).to(tl.float32)[:, None]
        since, until, whole, fading = chunk_fading(g, rows, stop, h, HV, C, DK, CHANNEL)  # (4.3)
        A = b * chunk_scores(K, K, fading, C, ROUNDS, CHANNEL, PRECISION)
        X = chunk_inverse_by_blocks(A, C, ROUNDS, PRECISION)
        R = b * (V - tl.dot(K * since, S, input_precision=PRECISION))
        U = tl.dot(X, R, input_precision=PRECISION)  # (4.4)
        P = chunk_scores(Q, K, fading, C, ROUNDS, CHANNEL, PRECISION)
        O = tl.dot(Q * since, S, input_precision=PRECISION) + tl.dot(P, U, input_precision=PRECISION)
        store_rows(o, rows, live, h, HV, values, DV, scale * O)  # (4.5)
        S = whole * S + tl.dot(tl.trans(K * until), U, input_precision=PRECISION)  # (4.6)
    tl.store(last + at, S)


@jit
def solve_chunks(
    k, v, g, beta, chunks, u, w, H, HV,
    DK: tl.constexpr, DV: tl.constexpr, BV: tl.constexpr, C: tl.constexpr, ROUNDS: tl.constexpr,
    CHANNEL: tl.constexpr, PRECISION: tl.constexpr,
) -> None:  # fmt: skip
    """Grid (chunks, HV). What needs no state: U' into u, and W (4.7)."""
    c, h = tl.program_id(0), tl.program_id(1)
    keys, head = tl.arange(0, DK), h // (HV // H)
    rows, stop, live = rows_of_chunk(chunks, c, C)
    K = load_rows(k, rows, live, head, H, keys, DK)
    b = tl.load(beta + rows * HV + h, mask=live, other=0.0).to(tl.float32)[:, None]
    since, _, _, fading = chunk_fading(g, rows, stop, h, HV, C, DK, CHANNEL)  # (4.3)
    A = b * chunk_scores(K, K, fading, C, ROUNDS, CHANNEL, PRECISION)
    X = chunk_inverse_by_blocks(A, C, ROUNDS, PRECISION)
    store_rows(w, rows, live, h, HV, keys, DK, tl.dot(X, b * since * K, input_precision=PRECISION))
    for j in range(0, DV, BV):
        values = j + tl.arange(0, BV)
        V = load_rows(v, rows, live, h, HV, values, DV)
        store_rows(u, rows, live, h, HV, values, DV, tl.dot(X, b * V, input_precision=PRECISION))  # (4.7)


@jit
def carry_states(
    k, g, w, first, bounds, firsts, u, states, last, H, HV,
    DK: tl.constexpr, DV: tl.constexpr, BV: tl.constexpr, C: tl.constexpr,
    CHANNEL: tl.constexpr, PRECISION: tl.constexpr,
) -> None:  # fmt: skip
    """Grid (sequences, HV, DV / BV). The only loop over chunks: U' becomes U in u; each chunk's S_0, and the last."""
    n, h, j = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    start, stop, c = tl.load(bounds + n), tl.load(bounds + n + 1), tl.load(firsts + n)
    keys, values, head = tl.arange(0, DK), j * BV + tl.arange(0, BV), h // (HV // H)
    own = keys[:, None] * DV + values[None, :]
    S = tl.load(first + (n * HV + h) * DK * DV + own)
    for t in range(start, stop, C):
        rows = t + tl.arange(0, C)
        live = rows < stop
        K, W = load_rows(k, rows, live, head, H, keys, DK), load_rows(w, rows, live, h, HV, keys, DK)
        _, until, whole, _ = chunk_fading(g, rows, stop, h, HV, C, DK, CHANNEL)
        tl.store(states + (c * HV + h) * DK * DV + own, S)
        U = load_rows(u, rows, live, h, HV, values, DV) - tl.dot(W, S, input_precision=PRECISION)  # (4.7)
        store_rows(u, rows, live, h, HV, values, DV, U)
        S = whole * S + tl.dot(tl.trans(K * until), U, input_precision=PRECISION)  # (4.6)
        c += 1
    tl.store(last + (n * HV + h) * DK * DV + own, S)


@jit
def carry_sums(
    k, v, g, first, bounds, firsts, states, last, H, HV,
    DK: tl.constexpr, DV: tl.constexpr, BV: tl.constexpr, C: tl.constexpr,
    CHANNEL: tl.constexpr, PRECISION: tl.constexpr,
) -> None:  # fmt: skip
    """Grid (sequences, HV, DV / BV). carry_states of an additive rule: one product per chunk."""
    n, h, j = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    start, stop, c = tl.load(bounds + n), tl.load(bounds + n + 1), tl.load(firsts + n)
    keys, values, head = tl.arange(0, DK), j * BV + tl.arange(0, BV), h // (HV // H)
    own = keys[:, None] * DV + values[None, :]
    S = tl.load(first + (n * HV + h) * DK * DV + own)
    for t in range(start, stop, C):
        rows = t + tl.arange(0, C)
        K = load_rows(k, rows, rows < stop, head, H, keys, DK)
        V = load_rows(v, rows, rows < stop, h, HV, values, DV)
        _, until, whole, _ = chunk_fading(g, rows, stop, h, HV, C, DK, CHANNEL)
        tl.store(states + (c * HV + h) * DK * DV + own, S)
        S = whole * S + tl.dot(tl.trans(K * until), V, input_precision=PRECISION)  # (4.6)
        c += 1
    tl.store(last + (n * HV + h) * DK * DV + own, S)


@jit
def read_chunks(
    q, k, g, u, states, chunks, o, scale, H, HV,
    DK: tl.constexpr, DV: tl.constexpr, BV: tl.constexpr, C: tl.constexpr, ROUNDS: tl.constexpr,
    CHANNEL: tl.constexpr, PRECISION: tl.constexpr,
) -> None:  # fmt: skip
    """Grid (chunks, HV). The outputs, from each chunk's own S_0 and U (4.5)."""
    c, h = tl.program_id(0), tl.program_id(1)
    keys, head = tl.arange(0, DK), h // (HV // H)
    rows, stop, live = rows_of_chunk(chunks, c, C)
    Q, K = load_rows(q, rows, live, head, H, keys, DK), load_rows(k, rows, live, head, H, keys, DK)
    since, _, _, fading = chunk_fading(g, rows, stop, h, HV, C, DK, CHANNEL)
    P = chunk_scores(Q, K, fading, C, ROUNDS, CHANNEL, PRECISION)
    for j in range(0, DV, BV):
        values = j + tl.arange(0, BV)
        S = tl.load(states + (c * HV + h) * DK * DV + keys[:, None] * DV + values[None, :])
        U = load_rows(u, rows, live, h, HV, values, DV)
        O = tl.dot(Q * since, S, input_precision=PRECISION) + tl.dot(P, U, input_precision=PRECISION)
        store_rows(o, rows, live, h, HV, values, DV, scale * O)  # (4.5)
