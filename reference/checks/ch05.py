"""Checks for the exercises of chapter 05."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from reference.checks._verdict import Wrong, exercise, expect_choice, expect_close, expect_shape


def _softmax(scores: NDArray, axis: int = 1) -> NDArray:
    e = np.exp(scores - scores.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


@exercise("5.1", "Three lines")
def three_lines(answer: Callable) -> str:
    rng = np.random.default_rng(51)
    Q, K, V = rng.normal(size=(5, 4)), rng.normal(size=(5, 4)), rng.normal(size=(5, 3))
    bare, past = Q @ K.T, np.tri(5)
    scores = bare / 2
    masked = np.where(past, scores, -np.inf)
    late = _softmax(scores) * past
    expect_close(
        answer(Q, K, V),
        _softmax(masked) @ V,
        "the output",
        mistakes={
            "The scale is missing: divide the scores by the square root of D.": _softmax(masked * 2) @ V,
            "You divided by D. The scores' spread is the square root of D.": _softmax(masked / 2) @ V,
            "You multiplied by the square root of D instead of dividing.": _softmax(masked * 4) @ V,
            "The scale takes D, the width of Q and K, not the number of tokens.": _softmax(masked * 2 / np.sqrt(5)) @ V,
            "The scale takes D, the width of Q and K, not that of V.": _softmax(masked * 2 / np.sqrt(3)) @ V,
            "The mask came after the softmax: rows no longer sum to 1, and the normalizer has seen the future.": late
            @ V,
            "The mask is missing: every token sees its future.": _softmax(scores) @ V,
            "You set masked scores to 0. e^0 is 1: those tokens take part. Use -inf.": _softmax(scores * past) @ V,
            "The mask is turned round: tokens see their future and not their past.": _softmax(
                np.where(past.T, scores, -np.inf)
            )
            @ V,
            "You took the softmax down the columns: each *query's* row must sum to 1.": _softmax(masked, 0) @ V,
            "Q and K changed places: row t of the scores belongs to query t.": _softmax(
                np.where(past, scores.T, -np.inf)
            )
            @ V,
        },
    )
    big = 1000 * np.eye(2)
    with np.errstate(all="ignore"):
        if not np.allclose(answer(big, big, big), big):
            raise Wrong("Right for small scores, but large ones overflow: subtract each row's maximum first.")
    return "Subtracting a row's maximum changes nothing on paper: numerator and denominator shrink alike."


@exercise("5.2", "One head for several")
def one_for_several(answer: Callable) -> str:
    K = np.random.default_rng(52).normal(size=(3, 2, 4))
    expect_close(
        answer(K, 6),
        np.repeat(K, 3, axis=1),
        "the keys",
        mistakes={
            "You tiled: 1 2 1 2. Neighboring query heads share a key head, 1 1 2 2: np.repeat.": np.tile(K, (1, 3, 1)),
            "All query heads read the first key head: that is multi-query attention.": np.repeat(K[:, :1], 6, axis=1),
        },
    )
    return "softmax_attention does this by head counts, so that no repeated copy lands in the cache."


@exercise("5.3", "Two halves of a softmax")
def merge_halves(answer: Callable) -> str:
    rng = np.random.default_rng(53)
    s, V = np.array([2.0, -1.0, 0.5, 4.0, 1.0, 3.0, -2.0]), rng.normal(size=(7, 3))
    parts = []
    for half in (slice(0, 3), slice(3, 7)):
        e = np.exp(s[half] - s[half].max())
        parts.append((s[half].max(), e.sum(), e @ V[half]))
    (m1, l1, a1), (m2, l2, a2) = parts
    f1, f2 = np.exp(m1 - max(m1, m2)), np.exp(m2 - max(m1, m2))
    merged = f1 * a1 + f2 * a2
    expect_close(
        answer(m1, l1, a1, m2, l2, a2),
        _softmax(s[None])[0] @ V,
        "the output",
        mistakes={
            "That is the mean of the two halves' outputs; the half with the larger scores should count more.": (
                a1 / l1 + a2 / l2
            )
            / 2,
            "You added as if both had the same maximum: bring both to the larger one first.": (a1 + a2) / (l1 + l2),
            "You rescaled a but not l.": merged / (l1 + l2),
            "You rescaled l but not a.": (a1 + a2) / (f1 * l1 + f2 * l2),
            "The division by the sum is missing.": merged,
            "The exponent has the wrong sign: the half with the smaller maximum shrinks.": (a1 / f1 + a2 / f2)
            / (l1 / f1 + l2 / f2),
            "You weighted the halves by l alone; their maxima count too.": (a1 + a2) / (l1 + l2),
        },
    )
    with np.errstate(all="ignore"):
        if not np.allclose(answer(900.0, 2.0, 2 * np.ones(3), -900.0, 1.0, np.zeros(3)), 1):
            raise Wrong("Right here, but e^m overflows for large scores: only differences of maxima are safe.")
    return "Any split, in any order: that is how keys spread over several machines are read."


@exercise("5.4", "Turn")
def turned_vector(answer: Callable) -> str:
    x, f, t = np.random.default_rng(54).normal(size=10), np.array([1.0, 0.2, 0.04]), 3

    def rotated(a: NDArray, b: NDArray, sign: float = 1.0, t: float = t) -> tuple[NDArray, NDArray]:
        cos, sin = np.cos(t * f), sign * np.sin(t * f)
        return a * cos - b * sin, b * cos + a * sin

    a, b, rest = x[:3], x[3:6], x[6:]
    neighbors = np.stack(rotated(x[0:6:2], x[1:6:2]), 1).ravel()
    new_a = rotated(a, b)[0]
    expect_close(
        answer(x, t, f),
        np.concatenate([*rotated(a, b), rest]),
        "the turned vector",
        mistakes={
            "You paired neighbors, 2i with 2i + 1. Half-split pairs i with i + n.": np.concatenate([neighbors, rest]),
            "You turned the other way: check the signs of the two sines.": np.concatenate([*rotated(a, b, -1), rest]),
            "The second line used the new a. Compute both from the old pair.": np.concatenate(
                [new_a, b * np.cos(t * f) + new_a * np.sin(t * f), rest]
            ),
            "That is position t + 1: the first token has position 0 and isn't turned.": np.concatenate(
                [*rotated(a, b, t=t + 1), rest]
            ),
            "The position is missing: the angle is t times the frequency.": np.concatenate([*rotated(a, b, t=1), rest]),
            "You paired the halves of the whole vector; only the first 2n channels turn, i with i + n.": np.concatenate(
                [rotated(x[:3], x[5:8])[0], x[3:5], rotated(x[:3], x[5:8])[1], x[8:]]
            ),
        },
    )
    return "The length of x hasn't changed: a rotation moves weight within a pair only."


@exercise("5.5", "The bill of a mixed model")
def mixed_bill(answer: Callable) -> str:
    layers, T, b = [("full", 8, 128), ("window", 4, 64, 100), ("latent", 512, 64)], 1000, 2

    def bill(twice: int = 2, twice_latent: int = 1, seen: int = 100, latent: int = 576) -> float:
        return twice * 8 * 128 * T * b + twice * 4 * 64 * seen * b + twice_latent * latent * T * b

    expect_close(
        answer(layers, T, b),
        bill(),
        "the bill in bytes",
        mistakes={
            "Keys *and* values: full and window layers need the factor 2.": bill(twice=1),
            "The latent serves keys and values at once: no factor 2 there.": bill(twice_latent=2),
            "Half of it is missing or doubled in the wrong place: 2 for k and v, 1 for the latent.": bill(1, 2),
            "A window keeps min(T, W) tokens.": bill(seen=T),
            "The rotary key is cached beside the latent: r + D_R.": bill(latent=512),
            "D_R belongs beside r, not times it.": bill(latent=512 * 64),
            "You forgot the bytes per number.": bill() / b,
            "That is per token: multiply by T (or by W).": bill() / T,
        },
        tol=1e-9,
    )
    if not np.isclose(float(expect_shape(answer(layers, 50, b), (), "the bill")), bill() / 20 + 4 * 64 * 2 * b * 45):
        raise Wrong("Right for long texts. A text shorter than the window keeps its T tokens only: min(T, W).")
    return "Only the window's part stops growing."


@exercise("5.6", "State against latent")
def state_against_latent(answer: float) -> str:
    tokens = float(expect_shape(answer, (), "your answer"))
    sentences: Sequence[tuple[float, str]] = (
        (
            1024,
            "Half of it: the latent counted twice, or both with the same bytes? Latents: 2 bytes a number; states: 4.",
        ),
        (64, "Count the heads: 32 states, but one latent for all heads."),
        (32, "Count the heads: 32 states, but one latent for all heads, and no factor 2 for keys and values."),
        (512, "That is a cache of 8 key heads of 128. Here a token costs 448 + 64 numbers."),
        (16384 / 7, "The rotary key is cached too: 448 + 64 numbers."),
        (16384, "The rotary key is one for all heads and the latent too: 448 + 64 numbers, not 64."),
    )
    if tokens == 2048:
        return (
            "The latent puts off the crossing: its line is flatter than that of 8 key heads of 128, which cross at 512."
        )
    for value, sentence in sentences:
        if abs(tokens - value) < 0.5:
            raise Wrong(sentence)
    raise Wrong(
        f"The states have 32 * 128 * 128 numbers of 4 bytes; after {tokens:.0f} tokens the cache has other bytes."
    )


@exercise("5.7", "Far away, but together")
def far_away(answer: str) -> str:
    sentences = {
        "a": "Print the share at 0 and at 5000 side by side. RoPE never shows a head a position, only distances.",
        "b": "Slow pairs turn further, but query and key turn together: compare the logits, not only the share.",
        "d": "Both layers see distances alone: compare the logits at 0 and at 5000.",
    }
    expect_choice(answer, "c", sentences)
    return "Absolute position is nowhere in a RoPE model; new *distances* are what it hasn't learned."
