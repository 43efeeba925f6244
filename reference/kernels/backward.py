"""The gradients of the chunked gated delta rule and KDA on a GPU: (4.9) to (4.14) of chapter 04, cut like the forward.

A chunk waits only for dS, the gradient of the state that it hands on. `ask_values` finds what the outputs ask of U, a
program per chunk; `carry_back` goes from the last chunk to the first, with two products per chunk; `chunk_gradients`
has everything else, a program per chunk again. Shapes as in forward.py; do, du like v; dq, dk [rows, HV, DK], one per
value head, which the caller sums; d_states like states: the gradient of the state that a chunk hands on.
"""

from reference.kernels.language import jit, tl
from reference.kernels.tiles import (
    chunk_fading,
    chunk_inverse_by_blocks,
    chunk_scores,
    fade_to_cut,
    is_late,
    load_log_decay,
    load_rows,
    rows_of_chunk,
    siblings,
    store_rows,
)


@jit
def ask_values(
    q, k, g, do, chunks, du, scale, H, HV,
    DK: tl.constexpr, DV: tl.constexpr, BV: tl.constexpr, C: tl.constexpr, ROUNDS: tl.constexpr,
    CHANNEL: tl.constexpr, PRECISION: tl.constexpr,
) -> None:  # fmt: skip
    """Grid (chunks, HV). The part of dU that needs no dS: P^T dO, the first half of (4.9)."""
    c, h = tl.program_id(0), tl.program_id(1)
    keys, head = tl.arange(0, DK), h // (HV // H)
    rows, stop, live = rows_of_chunk(chunks, c, C)
    Q, K = load_rows(q, rows, live, head, H, keys, DK), load_rows(k, rows, live, head, H, keys, DK)
    _, _, _, fading = chunk_fading(g, rows, stop, h, HV, C, DK, CHANNEL)
    P = chunk_scores(Q, K, fading, C, ROUNDS, CHANNEL, PRECISION)
    for j in range(0, DV, BV):
        values = j + tl.arange(0, BV)
        dO = scale * load_rows(do, rows, live, h, HV, values, DV)
        store_rows(du, rows, live, h, HV, values, DV, tl.dot(tl.trans(P), dO, input_precision=PRECISION))


@jit
def carry_back(
    q, k, g, w, do, d_last, bounds, firsts, du, d_states, d_first, scale, H, HV,
    DK: tl.constexpr, DV: tl.constexpr, BV: tl.constexpr, C: tl.constexpr,
    CHANNEL: tl.constexpr, PRECISION: tl.constexpr,
) -> None:  # fmt: skip
    """Grid (sequences, HV, DV / BV). dU complete in du, each chunk's dS in d_states, and the first state's gradient."""
    n, h, j = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    start, stop, c0 = tl.load(bounds + n), tl.load(bounds + n + 1), tl.load(firsts + n)
    keys, values, head = tl.arange(0, DK), j * BV + tl.arange(0, BV), h // (HV // H)
    own = keys[:, None] * DV + values[None, :]
    dS = tl.load(d_last + (n * HV + h) * DK * DV + own)
    count = tl.load(firsts + n + 1) - c0
    for i in range(count):
        c = count - 1 - i
        rows = start + c * C + tl.arange(0, C)
        live = rows < stop
        Q, K = load_rows(q, rows, live, head, H, keys, DK), load_rows(k, rows, live, head, H, keys, DK)
        W = load_rows(w, rows, live, h, HV, keys, DK)
        since, until, whole, _ = chunk_fading(g, rows, stop, h, HV, C, DK, CHANNEL)
        tl.store(d_states + ((c0 + c) * HV + h) * DK * DV + own, dS)
        dU = load_rows(du, rows, live, h, HV, values, DV) + tl.dot(K * until, dS, input_precision=PRECISION)  # (4.9)
        store_rows(du, rows, live, h, HV, values, DV, dU)
        dO = scale * load_rows(do, rows, live, h, HV, values, DV)
        asked = tl.dot(tl.trans(Q * since), dO, input_precision=PRECISION)
        # W^T dU is (e^G ⊙ K)^T dV: W = X (β ⊙ e^G ⊙ K), and dV = β ⊙ X^T dU by (4.10)
        dS = whole * dS + asked - tl.dot(tl.trans(W), dU, input_precision=PRECISION)  # (4.13)
    tl.store(d_first + (n * HV + h) * DK * DV + own, dS)


@jit
def chunk_gradients(
    q, k, v, g, beta, do, states, d_states, du, chunks, dq, dk, dv, dg, dbeta, scale, H, HV,
    DK: tl.constexpr, DV: tl.constexpr, BV: tl.constexpr, C: tl.constexpr, ROUNDS: tl.constexpr,
    CHANNEL: tl.constexpr, PRECISION: tl.constexpr,
) -> None:  # fmt: skip
    """Grid (chunks, HV). The gradients of what one chunk reads, from its S_0, its dS and its dU."""
    c, h = tl.program_id(0), tl.program_id(1)
    r, keys, head = tl.arange(0, C), tl.arange(0, DK), h // (HV // H)
    rows, stop, live = rows_of_chunk(chunks, c, C)
    Q, K = load_rows(q, rows, live, head, H, keys, DK), load_rows(k, rows, live, head, H, keys, DK)
    b = tl.load(beta + rows * HV + h, mask=live, other=0.0).to(tl.float32)[:, None]
    since, until, whole, fading = chunk_fading(g, rows, stop, h, HV, C, DK, CHANNEL)
    key_scores = chunk_scores(K, K, fading, C, ROUNDS, CHANNEL, PRECISION)
    X = chunk_inverse_by_blocks(b * key_scores, C, ROUNDS, PRECISION)
    dP, dA = tl.zeros([C, C], tl.float32), tl.zeros([C, C], tl.float32)
    d_beta, own_pair, passes = tl.zeros([C], tl.float32), tl.zeros([C], tl.float32), tl.zeros([DK], tl.float32)
    q_reads, k_reads = tl.zeros([C, DK], tl.float32), tl.zeros([C, DK], tl.float32)
    hands_on = tl.zeros([C, DK], tl.float32)
    for j in range(0, DV, BV):
        values = j + tl.arange(0, BV)
        at = (c * HV + h) * DK * DV + keys[:, None] * DV + values[None, :]
        S, dS = tl.load(states + at), tl.load(d_states + at)
        E = load_rows(v, rows, live, h, HV, values, DV) - tl.dot(K * since, S, input_precision=PRECISION)
        U = tl.dot(X, b * E, input_precision=PRECISION)  # (4.4), once more
        dO = scale * load_rows(do, rows, live, h, HV, values, DV)
        dR = tl.dot(tl.trans(X), load_rows(du, rows, live, h, HV, values, DV), input_precision=PRECISION)  # (4.10)
        store_rows(dv, rows, live, h, HV, values, DV, b * dR)
        dP += tl.dot(dO, tl.trans(U), input_precision=PRECISION)
        dA -= tl.dot(dR, tl.trans(U), input_precision=PRECISION)
        q_reads += tl.dot(dO, tl.trans(S), input_precision=PRECISION)
        k_reads += tl.dot(b * dR, tl.trans(S), input_precision=PRECISION)
        hands_on += tl.dot(U, tl.trans(dS), input_precision=PRECISION)
        d_beta += tl.sum(dR * E, 1)
        own_pair += tl.sum(dO * U, 1)  # a token that reads what it wrote itself
        passes += tl.sum(S * dS, 1)
    earlier = r[:, None] > r[None, :]
    dP, dA = tl.where(earlier, dP, 0.0), tl.where(earlier, dA, 0.0)
    tl.store(dbeta + rows * HV + h, d_beta + tl.sum(dA * key_scores, 1), mask=live)
    d_query, d_written = scores_back(Q, K, fading, dP, C, DK, ROUNDS, CHANNEL, PRECISION)
    d_reader, d_in_A = scores_back(K, K, fading, b * dA, C, DK, ROUNDS, CHANNEL, PRECISION)
    d_query += since * q_reads
    d_reader -= since * k_reads
    d_written += d_in_A
    hands_on = until * hands_on
    own_pair = own_pair[:, None]
    store_rows(dq, rows, live, h, HV, keys, DK, d_query + own_pair * K)  # (4.11)
    store_rows(dk, rows, live, h, HV, keys, DK, d_reader + d_written + hands_on + own_pair * Q)  # (4.12)
    passing = Q * d_query + K * (d_reader - d_written)
    log_decay = load_log_decay(g, rows, live, h, HV, DK, CHANNEL)
    if CHANNEL:
        before = tl.dot(tl.where(earlier, 1.0, 0.0), K * hands_on, input_precision="ieee")
        through = tl.sum(whole, 1) * passes
        d_gate = tl.cumsum(passing, 0, reverse=True) + before + through[None, :]  # (4.14)
        d_gate = tl.where(log_decay > -1000.0, d_gate, 0.0)  # nothing passes a full reset
        store_rows(dg, rows, live, h, HV, keys, DK, d_gate)
    else:
        handed = tl.sum(K * hands_on, 1)
        before = tl.sum(tl.where(earlier, handed[None, :], 0.0), 1)
        d_gate = tl.cumsum(tl.sum(passing, 1), 0, reverse=True) + before + whole * tl.sum(passes, 0)  # (4.14)
        d_gate = tl.where(log_decay > -1000.0, d_gate, 0.0)
        tl.store(dg + rows * HV + h, d_gate, mask=live)


@jit
def scores_back(
    x, k, fading, d_scores, C: tl.constexpr, DK: tl.constexpr, ROUNDS: tl.constexpr,
    CHANNEL: tl.constexpr, PRECISION: tl.constexpr,
) -> tl.tensor:  # fmt: skip
    """Gradients (dx, dk), each [C, DK], of chunk_scores(x, k); d_scores [C, C] is zero on and above the diagonal."""
    if CHANNEL:
        dx, dk = tl.zeros([C, DK], tl.float32), tl.zeros([C, DK], tl.float32)
        for i in tl.static_range(ROUNDS):
            to_cut, late = fade_to_cut(fading, 1 << i, C), is_late(1 << i, C)
            block = tl.where(siblings(1 << i, C), d_scores, 0.0)
            early_k, late_x = tl.where(late, 0.0, k * to_cut), tl.where(late, x * to_cut, 0.0)
            dx += to_cut * tl.dot(block, early_k, input_precision=PRECISION)
            dk += to_cut * tl.dot(tl.trans(block), late_x, input_precision=PRECISION)
        return dx, dk
    else:
        faded = d_scores * fading
        return tl.dot(faded, k, input_precision=PRECISION), tl.dot(tl.trans(faded), x, input_precision=PRECISION)
