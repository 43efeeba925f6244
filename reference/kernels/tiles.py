"""What the kernels of this folder share: a tile of a tensor, the decays and scores of a chunk, the inverse by blocks.

Notation as in reference/ops/chunk.py: one chunk of C tokens, one value head. Tensors lie as [rows, heads, D], the rows
of all sequences one after the other. Chunks are always full: behind the end of a sequence `live` is False, and tokens
that don't live have k = 0, beta = 0 and g = 0, so that they write nothing and nothing fades.
"""

from reference.kernels.language import jit, tl


@jit
def rows_of_chunk(chunks, c, C: tl.constexpr) -> tl.tensor:
    """Chunk c of the list chunks [n, 2]: its rows [C], where its sequence ends, and which of the rows live."""
    rows = tl.load(chunks + 2 * c) + tl.arange(0, C)
    stop = tl.load(chunks + 2 * c + 1)
    return rows, stop, rows < stop


@jit
def load_rows(x, rows, live, head, heads, columns, D: tl.constexpr) -> tl.tensor:
    """[C, columns] of x [rows, heads, D], in float32; zeros where no token lives."""
    at = (rows[:, None] * heads + head) * D + columns[None, :]
    return tl.load(x + at, mask=live[:, None], other=0.0).to(tl.float32)


@jit
def store_rows(x, rows, live, head, heads, columns, D: tl.constexpr, value) -> None:
    """Write value [C, columns] into x [rows, heads, D], in x's format."""
    at = (rows[:, None] * heads + head) * D + columns[None, :]
    tl.store(x + at, value, mask=live[:, None])


@jit
def load_log_decay(g, rows, live, head, heads, DK: tl.constexpr, CHANNEL: tl.constexpr) -> tl.tensor:
    """g of a chunk, [C] or [C, DK]. exp(-1000) is 0, and unlike -inf it can be subtracted from itself."""
    if CHANNEL:
        return tl.maximum(load_rows(g, rows, live, head, heads, tl.arange(0, DK), DK), -1000.0)
    else:
        return tl.maximum(tl.load(g + rows * heads + head, mask=live, other=0.0).to(tl.float32), -1000.0)


@jit
def chunk_fading(g, rows, stop, head, heads, C: tl.constexpr, DK: tl.constexpr, CHANNEL: tl.constexpr) -> tl.tensor:
    """What fades inside a chunk, as the NamedTuple Decay of chunk.py has it, in four parts:

    since [C, 1 or DK], e^{G_r}; until [C, 1 or DK], e^{G_C - G_s}; whole (a number, or [DK, 1]), e^{G_C}; and what the
    scores need: pairs [C, C], e^{G_r - G_s} for s <= r, or for a channel decay g itself, [C, DK].
    """
    r = tl.arange(0, C)
    own = load_log_decay(g, rows, rows < stop, head, heads, DK, CHANNEL)
    if CHANNEL:
        has_next = (rows + 1 < stop) & (r < C - 1)
        later = load_log_decay(g, rows + 1, has_next, head, heads, DK, CHANNEL)
        since = tl.exp(tl.cumsum(own, 0))
        until = tl.exp(tl.cumsum(later, 0, reverse=True))  # additions of one sign: no digit is lost
        whole = tl.exp(tl.sum(own, 0))[:, None]
        return since, until, whole, own
    else:
        # The difference of two sums loses the digits of a mild gate behind a strong one; float64 has them to spare.
        G = tl.cumsum(own.to(tl.float64), 0)
        end = tl.sum(own.to(tl.float64), 0)
        lower = r[:, None] >= r[None, :]
        gap = tl.where(lower, G[:, None] - G[None, :], 0.0).to(tl.float32)
        pairs = tl.where(lower, tl.exp(gap), 0.0)  # Γ in (4.3)
        since = tl.exp(G.to(tl.float32))[:, None]
        until = tl.exp((end - G).to(tl.float32))[:, None]
        whole = tl.exp(end.to(tl.float32))
        return since, until, whole, pairs


@jit
def chunk_scores(
    x, k, fading, C: tl.constexpr, ROUNDS: tl.constexpr, CHANNEL: tl.constexpr, PRECISION: tl.constexpr
) -> tl.tensor:
    """x_r · k_s, faded from s to r: [C, C], zero above the diagonal; `fading` is the fourth part of chunk_fading."""
    if CHANNEL:
        r = tl.arange(0, C)
        found = tl.where(r[:, None] == r[None, :], tl.sum(x * k, 1)[:, None], 0.0)
        for i in tl.static_range(ROUNDS):
            to_cut = fade_to_cut(fading, 1 << i, C)
            late = is_late(1 << i, C)
            pairs = tl.dot(
                tl.where(late, x * to_cut, 0.0), tl.trans(tl.where(late, 0.0, k * to_cut)), input_precision=PRECISION
            )
            found += tl.where(siblings(1 << i, C), pairs, 0.0)  # (4.8)
        return found
    else:
        return tl.dot(x, tl.trans(k), input_precision=PRECISION) * fading


@jit
def chunk_inverse_by_blocks(A, C: tl.constexpr, ROUNDS: tl.constexpr, PRECISION: tl.constexpr) -> tl.tensor:
    """(I + A)^-1 of a strictly lower triangular A [C, C]: blocks of 1, 2, 4, ... on the diagonal are inverted already.

    Two neighbours with A_21 between them have the inverse [[X_1, 0], [-X_2 A_21 X_1, X_2]]. The series of the powers
    of A would need fewer products and loses all digits where keys are alike: the powers grow before they vanish.
    """
    r = tl.arange(0, C)
    X = tl.where(r[:, None] == r[None, :], 1.0, 0.0)
    for i in tl.static_range(ROUNDS):
        between = tl.where(siblings(1 << i, C), A, 0.0)
        X -= tl.dot(tl.dot(X, between, input_precision=PRECISION), X, input_precision=PRECISION)
    return X


@jit
def siblings(half: tl.constexpr, C: tl.constexpr) -> tl.tensor:
    """Pairs [C, C] in one block of 2 x half tokens, on two sides of its middle."""
    r = tl.arange(0, C)
    same_block = r[:, None] // (2 * half) == r[None, :] // (2 * half)
    return same_block & (r[:, None] // half != r[None, :] // half)


@jit
def is_late(half: tl.constexpr, C: tl.constexpr) -> tl.tensor:
    """[C, 1]: does a token lie in the second half of its block of 2 x half tokens?"""
    return ((tl.arange(0, C) // half) % 2 == 1)[:, None]


@jit
def fade_to_cut(g, half: tl.constexpr, C: tl.constexpr) -> tl.tensor:
    """Between a token and the middle m of its block: e^{G_r - G_m} behind it, e^{G_m - G_s} before it, [C, DK].

    Each exponent is a sum of g over the gates passed, as a product with zeros and ones, which must not be rounded.
    """
    r = tl.arange(0, C)
    passed = tl.where(is_late(half, C), r[None, :] <= r[:, None], r[None, :] > r[:, None])
    passed = passed & (r[:, None] // half == r[None, :] // half)
    return tl.exp(tl.dot(tl.where(passed, 1.0, 0.0), g, input_precision="ieee"))
