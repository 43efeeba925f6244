"""Checks for the exercises of chapter 00."""

from collections.abc import Callable

import numpy as np

from reference.checks._verdict import Wrong, exercise, expect_choice, expect_close, expect_shape


@exercise("0.1", "Bytes of a cache")
def kv_bytes(answer: Callable) -> str:
    for layers, kv_heads, head_dim, T, width in ((3, 5, 6, 11, 4), (32, 8, 128, 131072, 2)):
        want = 2 * layers * kv_heads * head_dim * T * width
        got = answer(layers, kv_heads, head_dim, T, width)
        expect_close(
            got if got is None or got is ... else got / want,
            1.0,
            "your number of bytes, divided by the right one,",
            mistakes={
                "Half is missing: keys *and* values are kept.": 0.5,
                "Every layer has its own cache; multiply by the number of layers.": 1 / layers,
                "You counted numbers. The task asks for bytes: multiply by width.": 1 / width,
                "You counted bits. A byte is 8 of them, and width is in bytes already.": 8.0,
                "That is one token's share; multiply by T.": 1 / T,
                "A cache grows in proportion to T, not to T squared: one key and one value per token.": float(T),
            },
        )
    return "For the model of the task: 17.2 GB for one sequence; a second conversation costs as much again."


@exercise("0.2", "Where MLA's cache passes KDA's state")
def mla_crossover(answer: float) -> str:
    expect_close(
        answer,
        32 * 128 * 128 * 4 / ((512 + 64) * 2),
        "the number of tokens",
        mistakes={
            "That is the inverse: divide the state by the bytes per token.": (512 + 64) * 2 / (32 * 128 * 128 * 4),
            "A factor of 2 is off. MLA keeps one latent vector, not a key and a value; "
            "its numbers take 2 bytes, the state's take 4.": 32 * 128 * 128 / (512 + 64),
            "You left out the 64 extra numbers that every token caches beside the latent vector.": 2048.0,
        },
        tol=1e-3,
    )
    return "MLA's cache is small, so a fixed-size state pays off later: at 1,820 tokens instead of 1,024."


@exercise("0.3", "One step with a cache")
def decode_step(answer: Callable) -> str:
    rng = np.random.default_rng(4)
    q, k, v = rng.normal(size=3), rng.normal(size=3), rng.normal(size=2)
    K, V = rng.normal(size=(4, 3)), rng.normal(size=(4, 2))
    kept = K.copy(), V.copy()
    got = answer(q, k, v, K, V)
    if got is None or got is ...:
        expect_shape(got, (2,), "o")
    if not isinstance(got, tuple) or len(got) != 3:
        raise Wrong("Return three things: o, the new K, the new V.")
    if not (np.array_equal(K, kept[0]) and np.array_equal(V, kept[1])):
        raise Wrong("You changed the caller's K or V in place; return new arrays.")
    K5, V5 = np.vstack([K, k]), np.vstack([V, v])
    expect_close(got[1], K5, "the new K", mistakes={"The new key belongs at the end of K.": np.vstack([k, K])})
    expect_close(got[2], V5, "the new V", mistakes={"The new value belongs at the end of V.": np.vstack([v, V])})
    plain = np.exp(K5 @ q / 3**0.5)
    expect_close(
        got[0],
        _read(q, K5, V5, 3**-0.5),
        "o",
        mistakes={
            "You read before you appended: a token must see itself.": _read(q, K, V, 3**-0.5),
            "The scale 1 / sqrt(Dk) is missing.": _read(q, K5, V5, 1.0),
            "You scaled by 1 / Dk; it is 1 / sqrt(Dk).": _read(q, K5, V5, 1 / 3),
            "The weights don't sum to 1: divide by the sum of the exponentials.": plain @ V5,
            "The exponential is missing: that is a linear read, not a softmax.": (K5 @ q / 3**0.5) @ V5,
        },
    )
    return "One step reads all of K and V: its cost grows with every token that came before."


@exercise("0.4", "Which of these stops growing?")
def bounded(answer: str) -> str:
    letters = set(str(answer).lower()) & set("abcdefghijklmnopqrstuvwxyz")
    if not letters or letters - set("abcde"):
        raise Wrong('Give the letters as one string, for instance "ac".')
    if "a" in letters:
        raise Wrong("a: sharing key/value heads makes each token's share smaller, but every token still adds one.")
    if "d" in letters:
        raise Wrong("d: sparse attention reads a selection, but the next query may select any token: all are kept.")
    if "e" in letters:
        raise Wrong("e: MLA compresses what a token adds; it still adds it.")
    if "c" not in letters:
        raise Wrong("c: a linear layer's state is Dk x Dv per head, whatever T is.")
    if "b" not in letters:
        raise Wrong("b: with a window of 128, older keys are never read again and can be dropped.")
    return "Only b and c are bounded: one forgets by position, the other by mixing everything into one matrix."


@exercise("0.5", "Longer keys")
def capacity(answer: str) -> str:
    sentences = {
        "a": "Not the same: run it again with the larger Dk and read off where the error reaches 1.",
        "b": "Fewer: longer keys give two random keys a *smaller* product, so each pair disturbs the others less.",
        "d": "More than that is not there: the squared error is (P - 1) / Dk, (0.8); set it to 1.",
    }
    expect_choice(answer, "c", sentences)
    return "The error reaches 1 at P = Dk + 1: four-fold key length, four-fold pairs, and a state four-fold as large."


def _read(q: np.ndarray, K: np.ndarray, V: np.ndarray, scale: float) -> np.ndarray:
    weights = np.exp(K @ q * scale)
    return weights / weights.sum() @ V
