"""Checks for the exercises of chapter 02."""

from collections.abc import Callable

import numpy as np

from reference.checks._verdict import Wrong, exercise, expect_choice, expect_close, expect_shape


def _pairs(seed: int, P: int, Dk: int, Dv: int) -> tuple[np.ndarray, np.ndarray]:
    """Keys of differing lengths, so that |k| = 1 can't hide a mistake, and values."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(P, Dk)), rng.normal(size=(P, Dv))


@exercise("2.1", "All writes at once")
def write_all(answer: Callable) -> str:
    K, V = _pairs(1, 5, 3, 2)
    beta = np.array([0.1, 0.4, 0.9, 1.0, 0.3])
    expect_close(
        answer(K, V, beta),
        K.T @ (beta[:, None] * V),
        "the state",
        mistakes={
            "The strengths are missing: pair s is written with beta[s].": K.T @ V,
            "beta is in there twice: scale the keys or the values, not both.": (beta[:, None] * K).T
            @ (beta[:, None] * V),
            "That is the mean over the pairs; writing adds.": K.T @ (beta[:, None] * V) / 5,
            "You added the strengths up; each belongs to its own pair.": beta.sum() * K.T @ V,
        },
    )
    return "One matrix product. The delta rule has no such line, since each write reads the one before (chapter 04)."


@exercise("2.2", "A delta step")
def delta_write(answer: Callable) -> str:
    S, (K, V), beta = _pairs(2, 3, 3, 2)[1], _pairs(3, 1, 3, 2), 0.6
    k, v, kept = K[0] / np.linalg.norm(K[0]), V[0], S.copy()
    got = answer(S, k, v, beta)
    if not np.array_equal(S, kept):
        raise Wrong("You changed the S that was passed in; return a new array (S + ..., not S += ...).")
    error = v - S.T @ k
    expect_close(
        got,
        S + np.outer(k, beta * error),
        "the new state",
        mistakes={
            "beta is missing: u = beta * (v - S.T @ k).": S + np.outer(k, error),
            "That is Hebb's write: subtract what the key already retrieves, S.T @ k, from v.": S
            + beta * np.outer(k, v),
            "The sign of the error is turned: it is v minus what was read.": S - beta * np.outer(k, error),
            "beta scales only v; it belongs to the whole difference.": S + np.outer(k, beta * v - S.T @ k),
            "beta scales only what was read; it belongs to the whole difference.": S
            + np.outer(k, v - beta * (S.T @ k)),
            "You returned what is to be added. The new state is S plus that.": np.outer(k, beta * error),
            "beta is in there twice.": S + np.outer(k, beta**2 * error),
        },
    )
    return "With beta = 0.6 the answer to this key moved 60 % of the way to v."


@exercise("2.3", "Crosstalk")
def crosstalk(answer: Callable) -> str:
    K, V = _pairs(4, 4, 3, 2)
    products = K @ K.T
    own = np.diag(np.diag(products))
    expect_close(
        answer(K, V),
        (products - own) @ V,
        "the crosstalk",
        mistakes={
            "That is the whole answer. Leave out the term j = i.": products @ V,
            "You subtracted v_i. Pair i itself answers |k_i|^2 v_i, and |k_i| isn't 1 here.": products @ V - V,
            "That is the signal, the term j = i. The task asks for all the others.": own @ V,
            "You counted only the pairs after i; those before it disturb as well.": np.triu(products, 1) @ V,
            "You counted only the pairs before i. The memory is asked after all writes.": np.tril(products, -1) @ V,
        },
    )
    return "Only products between different keys are in it: make them 0 and every value comes back exactly."


@exercise("2.4", "Erase on purpose")
def erase(answer: Callable) -> str:
    (K, S), rng = _pairs(5, 4, 4, 3), np.random.default_rng(6)
    for length in (1.0, 2.5):
        k = length * K[0] / np.linalg.norm(K[0])
        got = expect_shape(answer(S.copy(), k), S.shape, "the new state")
        want = S - np.outer(k, S.T @ k) / (k @ k)
        aside = rng.normal(size=4)
        aside = aside - (aside @ k) / (k @ k) * k
        if np.allclose(got, 0):
            raise Wrong("You emptied the memory. Other keys should be answered as before.")
        if np.allclose(got, S):
            raise Wrong("Nothing changed: the key still gets its answer.")
        if not np.allclose(got.T @ aside, S.T @ aside):
            raise Wrong("A query at a right angle to the key gets another answer than before.")
        if length != 1.0 and not np.allclose(got.T @ k, 0):
            raise Wrong("Right for |k| = 1 only. Divide by k @ k: the projection on k is k k^T / |k|^2.")
        expect_close(
            got,
            want,
            "the new state",
            mistakes={"The sign is turned: you doubled the answer instead of removing it.": 2 * S - want},
        )
    return "It is the delta write of v = 0 with beta = 1. What other pairs had stored along this key is gone too."


@exercise("2.5", "How many pairs?")
def pairs_at_half(answer: tuple[float, float]) -> str:
    hebb, best = expect_shape(answer, (2,), "your answer (hebb, best)")
    if (round(hebb), round(best)) == (96, 25):
        raise Wrong("Both numbers are right, in the other order: (hebb, best).")
    sentences = {
        24: "Hebb: the error is (P - 1) / Dk, not P / Dk: a pair doesn't disturb itself.",
        49: "Hebb: at P = Dk + 1 the error is 1; the task asks for one half.",
        23: "Hebb: solve (P - 1) / Dk = 1/2 for P; the 1 goes to the other side.",
    }
    if abs(hebb - 25) > 0.01:
        raise Wrong(sentences.get(round(hebb), "Hebb: solve (P - 1) / Dk = 1/2 for P, with Dk = 48."))
    if abs(best - 48) < 0.01:
        raise Wrong("Least squares: up to P = Dk = 48 its error is 0; one half comes later.")
    if abs(best - 96) > 0.01:
        raise Wrong("Least squares: solve 1 - Dk / P = 1/2 for P, with Dk = 48.")
    return "The best linear memory bears about four times as many pairs as Hebb's at this error; neither is free of Dk."


@exercise("2.6", "Which write strength?")
def which_strength(answer: str) -> str:
    sentences = {
        "a": "Look at R = 1 again: with beta = 1 every write erases a part of the pairs before it.",
        "c": "Look at R = 8 again: a small strength leaves old values in place, and they win the vote.",
        "d": "Compare the shares at R = 1 for beta = 0.2 and beta = 1: the picks differ.",
    }
    expect_choice(answer, "b", sentences)
    return "No constant is best for both, so models compute beta from the token: each decides how hard it writes."
