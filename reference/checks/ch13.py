"""Checks for the exercises of chapter 13."""

from collections.abc import Callable

import numpy as np

from reference.checks._verdict import Wrong, exercise, expect_choice, expect_close


@exercise("13.1", "Compose")
def compose_stretches(answer: Callable) -> str:
    rng = np.random.default_rng(131)
    earlier, later = ((rng.normal(size=(4, 4)), rng.normal(size=(4, 3))) for _ in range(2))
    got = answer(earlier, later)
    if got is not None and got is not ... and len(got) != 2:
        raise Wrong("Return a pair (M, N).")
    M, N = (None, None) if got is None or got is ... else got
    swapped = "The order is turned round: the later stretch acts last, so its M stands on the left."
    expect_close(M, later[0] @ earlier[0], "M", mistakes={swapped: earlier[0] @ later[0]})
    mistakes = {
        swapped: earlier[0] @ later[1] + earlier[1],
        "What the earlier stretch wrote has to pass the later one's M.": earlier[1] + later[1],
        "The later stretch's own N is missing.": later[0] @ earlier[1],
    }
    expect_close(N, later[0] @ earlier[1] + later[1], "N", mistakes=mistakes)
    return "Composing is associative and not commutative: a scan in any bracketing, in one order."


@exercise("13.2", "When gathering pays")
def break_even(answer: Callable) -> str:
    for extra, wanted in ((2.0, 4), (0.5, 2), (0.0, 2), (3.4, 5)):
        got = answer(extra)
        known = {}
        if extra == 2.0:
            known["At that number it takes exactly as long. It was to be quicker."] = 3
            known["The outputs need a pass of their own, beside the extra ones."] = 2
        expect_close(got, wanted, f"the number for extra = {extra:g}", mistakes=known)
    return "(1 + extra) / n < 1: what is gained from the third process on is small, at 64 it is a factor of 21."


@exercise("13.3", "The loss of one process")
def objective(answer: Callable) -> str:
    losses = np.array([1.0, 2.0, 4.0])
    expect_close(
        answer(losses, 10, 4),
        4 * losses.sum() / 10,
        "the objective",
        mistakes={
            "That is the mean over this share: shares with few targets would count too much.": losses.mean(),
            "The averaging divides by n once more: multiply by n.": losses.sum() / 10,
            "Divided by n twice in the end: multiply by n, don't divide.": losses.sum() / 10 / 4,
            "That is a sum. Divide by the targets of the whole batch.": losses.sum(),
        },
    )
    return "The sum over all processes divided by n is the mean over all tokens."


@exercise("13.4", "Which state can't be gathered")
def not_gathered(answer: object) -> str:
    sentences = {
        "a": "A fixed decay: M is a number per head, and the state is a matrix of fixed size.",
        "b": "Each token is a linear map of the state, with a decay and an erasure: M is their product.",
        "d": "As Gated DeltaNet, with a diagonal matrix in place of the scalar decay.",
    }
    expect_choice(answer, "c", sentences)
    return "Its state is the list of all keys and values: it grows, and nothing shorter stands for it."


@exercise("13.5", "M of a scalar decay")
def scalar_stretch(answer: Callable) -> str:
    rng = np.random.default_rng(135)
    k, v, g = rng.normal(size=(6, 4)), rng.normal(size=(6, 3)), -rng.random(6)
    got = answer(k, v, g)
    if got is not None and got is not ... and len(got) != 2:
        raise Wrong("Return a pair (m, N).")
    m, N = (None, None) if got is None or got is ... else got
    expect_close(
        m,
        np.exp(g.sum()),
        "m",
        mistakes={"g is the *log* of the decay: the sum has to be exponentiated.": g.sum()},
    )
    G = np.cumsum(g)
    expect_close(
        N,
        (np.exp(G[-1] - G)[:, None] * k).T @ v,
        "N",
        mistakes={
            "Nothing fades: each token's product has to fade from its own place to the end.": k.T @ v,
            "You faded from the start to the token. What counts is from the token to the end.": (
                np.exp(G)[:, None] * k
            ).T
            @ v,
            "A token's own decay acts before it is written: leave g_t itself out.": (
                np.exp(G[-1] - G + g)[:, None] * k
            ).T
            @ v,
        },
    )
    return "That is why lightning attention and Mamba-2 hand their states on for nothing."
