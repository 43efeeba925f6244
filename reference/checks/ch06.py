"""Checks for the exercises of chapter 06."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from reference.checks._verdict import Wrong, exercise, expect_choice, expect_close, expect_shape


def _weights(rng: np.random.Generator, B: int, T: int) -> NDArray:
    P = rng.random((B, T, T)) * np.tri(T)
    return P / P.sum(2, keepdims=True)


@exercise("6.1", "The share of the sink")
def share_of_the_sink(answer: Callable) -> str:
    rng = np.random.default_rng(61)
    P, idle = _weights(rng, 3, 7), rng.random((3, 7)) < 0.6
    expect_close(
        answer(P, idle),
        P[:, :, 0][idle].mean(),
        "the share",
        mistakes={
            "All queries are in it. Only the idle ones were asked for.": P[:, :, 0].mean(),
            "You took the first row: the weights of query 0. The first *key* is a column.": P[:, 0][idle].mean(),
            "The asking queries are in it, the idle ones are not.": P[:, :, 0][~idle].mean(),
            "You averaged per text first. Texts with few idle queries then count as much as others.": np.mean(
                [P[b, :, 0][idle[b]].mean() for b in range(3)]
            ),
            "You divided by all queries instead of by the idle ones.": (P[:, :, 0] * idle).mean(),
        },
    )
    return "A mean over queries, not over texts: that is what `first_token_share` is."


@exercise("6.2", "Off by one")
def off_by_one(answer: Callable) -> str:
    s = np.array([0.3, -1.0, 2.0, 0.0])
    e = np.exp(s)
    expect_close(
        answer(s),
        e / (1 + e.sum()),
        "the weights",
        mistakes={
            "That is the ordinary softmax: the 1 is missing.": e / e.sum(),
            "The 1 was added to every numerator.": (e + 1) / (e + 1).sum(),
            "The 1 was added to every score's exponential in the denominator.": e / (1 + e).sum(),
            "After shifting by the maximum m, the 1 must become e^-m.": np.exp(s - 2) / (1 + np.exp(s - 2).sum()),
        },
    )
    with np.errstate(all="ignore"):
        large = np.asarray(answer(np.array([1000.0, 999.0])))
        if not np.allclose(large, [1 / (1 + np.exp(-1)), 1 / (1 + np.exp(1))]):
            raise Wrong("Right for small scores, but large ones overflow: shift by max(0, largest score).")
        small = np.asarray(answer(np.array([-1000.0, -999.0])))
    if not np.allclose(small, 0):
        raise Wrong("All scores far below zero: every weight should be 0. Is the 1 still there after the shift?")
    return "The last case is the point: a row of weights may now be all zeros."


@exercise("6.3", "Window and first tokens")
def window_and_first(answer: Callable) -> str:
    T, W, n = 9, 3, 2
    at = np.arange(T)
    t, s = at[:, None], at[None]
    right = (s <= t) & ((s > t - W) | (s < n))
    expect_close(
        answer(T, W, n),
        right.astype(float),
        "the mask",
        mistakes={
            "A token sees itself and window - 1 before it; yours sees window before it.": (
                (s <= t) & ((s >= t - W) | (s < n))
            ).astype(float),
            "The first tokens aren't kept.": ((s <= t) & (s > t - W)).astype(float),
            "The first tokens are visible to queries before them: the mask must stay causal.": (
                ((s <= t) & (s > t - W)) | (s < n)
            ).astype(float),
            "You kept one token too many: the first are s < keep_first.": ((s <= t) & ((s > t - W) | (s <= n))).astype(
                float
            ),
            "Rows are queries and columns are keys; yours is transposed.": right.T.astype(float),
        },
    )
    return "At most window + keep_first - 1 tokens have to stay in the cache for the next query."


@exercise("6.4", "What the score is told")
def score_gradient(answer: Callable) -> str:
    rng = np.random.default_rng(64)
    p, V, delta = rng.dirichlet(np.ones(5)), rng.normal(size=(5, 3)), rng.normal(size=3)
    o = p @ V
    expect_close(
        answer(p, V, delta),
        p * ((V - o) @ delta),
        "the gradient",
        mistakes={
            "The mean is missing: (6.2) has v_j - o_t, since raising one weight lowers the others.": p * (V @ delta),
            "The factor p_j is missing.": (V - o) @ delta,
            "The sign is turned round.": -p * ((V - o) @ delta),
            "You subtracted the plain mean of the values; o_t is the weighted one.": p * ((V - V.mean(0)) @ delta),
        },
    )
    return "It sums to zero: a softmax can move weight, not make it."


@exercise("6.5", "What the sink's value carries")
def value_of_the_sink(answer: object) -> str:
    expect_choice(
        answer,
        "b",
        {
            "a": "Asking queries put almost no weight on token 0: whatever its value is, they hardly read it.",
            "c": "Weight times value: the idle queries have most of their weight there, the asking ones almost none.",
            "d": "The weights stay as they are, and the value is many times longer: the outputs do change.",
        },
    )
    return "The sink's value is small because it is read all the time, by those who want nothing."


@exercise("6.6", "A place in the cache")
def place_in_the_cache(answer: Callable) -> str:
    W, n = 4, 2
    for t, j in ((3, 0), (5, 1), (20, 0), (20, 1), (20, 18), (20, 17), (20, 16), (20, 5)):
        kept = j < n or j > t - W
        want = None if not kept else (min(t, n + W - 1) - j if j < n else t - j)
        got = answer(t, j, W, n)
        if got is ...:
            expect_shape(got, (), "the distance")  # no answer yet
        if got == want and type(got is None) is type(want is None):
            continue
        case = f"t = {t}, j = {j}, window = {W}, keep_first = {n}"
        if want is None:
            raise Wrong(f"{case}: that token was evicted; expected None, got {got}.")
        if got is None:
            raise Wrong(f"{case}: that token is still in the cache; expected {want}.")
        if j < n and got == t - j:
            raise Wrong(
                f"{case}: you counted in the text. Far from the start, a kept token stands just before the window."
            )
        if j < n and got == n + W - j:
            raise Wrong(f"{case}: one too many: the query is the last of window + keep_first tokens, place n + W - 1.")
        raise Wrong(f"{case}: expected {want}, got {got}.")
    return "No distance exceeds window + keep_first - 1, in a text of any length."
