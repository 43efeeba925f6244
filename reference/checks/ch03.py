"""Checks for the exercises of chapter 03."""

from collections.abc import Callable

import numpy as np

from reference.checks._verdict import Wrong, exercise, expect_choice, expect_close, expect_shape
from reference.equations import decayed_hebbian_step, delta_step, gated_delta_step, hebbian_step


@exercise("3.1", "Half-life and back")
def half_life(answer: Callable) -> str:
    for n in (3.0, 40.0):
        g = -np.log(2) / n
        expect_close(
            answer(n),
            g,
            f"g for a half-life of {n:.0f} tokens",
            mistakes={
                "That is alpha = exp(g). The task asks for its logarithm.": np.exp(g),
                "The sign is turned: a log decay is never positive.": -g,
                "exp(-1) = 1/e is left after n tokens then; one half is left with ln 2 / n.": -1 / n,
                "That is the inverse: n * ln 2. A long half-life needs a small |g|.": -n * np.log(2),
            },
        )
    return "The same line inverts itself: the half-life is -ln 2 / g."


@exercise("3.2", "The gated delta step")
def gated_step(answer: Callable) -> str:
    rng = np.random.default_rng(32)
    S, k, v, g, beta = rng.normal(size=(3, 2)), rng.normal(size=3), rng.normal(size=2), -0.7, 0.6
    k, kept, alpha = k / np.linalg.norm(k), S.copy(), np.exp(-0.7)
    got = answer(S, k, v, g, beta)
    if not np.array_equal(S, kept):
        raise Wrong("You changed the S that was passed in; return a new array (alpha * S, not S *= alpha).")
    u = beta * (v - S.T @ k)
    expect_close(
        got,
        gated_delta_step(S, k, v, g, beta),
        "the new state",
        mistakes={
            "The error is read from the state before it fades; read it from the faded one.": alpha * S + np.outer(k, u),
            "You decayed after the write: the new value has faded too. (3.8) fades first.": alpha
            * (S + np.outer(k, u)),
            "beta is missing: u = beta * (v - read).": gated_delta_step(S, k, v, g, 1.0),
            "The decay is missing: that is the delta step.": delta_step(S, k, v, beta),
            "No erase: you added beta * v without subtracting what the key retrieves.": decayed_hebbian_step(
                S, k, v, g, beta
            ),
            "You multiplied by g. It is a logarithm: exp(g) survives.": delta_step(g * S, k, v, beta),
            "That is exp(-g): the memory grows. g is negative already.": delta_step(S / alpha, k, v, beta),
            "Neither decay nor erase: that is Hebb's write.": hebbian_step(S, k, v, beta),
        },
    )
    return "The error compares v with what the memory still says, not with what it once said."


@exercise("3.3", "One half-life per channel")
def channel_decay(answer: Callable) -> str:
    S, lives = np.random.default_rng(33).normal(size=(4, 3)), np.array([1.0, 5.0, 20.0, np.inf])
    steps, left = 10, 0.5 ** (10 / lives)
    with np.errstate(divide="ignore"):
        inverse = 0.5 ** (1 / (10 * lives))
    expect_close(
        answer(S, lives, steps),
        left[:, None] * S,
        "the state after 10 steps",
        mistakes={
            "That is one step; after `steps` steps g is applied `steps` times.": (0.5 ** (1 / lives))[:, None] * S,
            "You divided by the number of steps instead of multiplying.": inverse[:, None] * S,
            "You used exp(-1 / life): after one half-life 1/e is left, not one half.": np.exp(-10 / lives)[:, None] * S,
            "You used one rate, the mean, for all rows.": left.mean() * S,
        },
    )
    return "An infinite half-life is g = 0: that row never fades on its own."


@exercise("3.4", "Keep a tenth")
def keep_a_tenth(answer: float) -> str:
    alpha, want = float(expect_shape(answer, (), "your answer")), 0.1 ** (1 / 200)
    sentences = (
        (np.log(0.1) / 200, "That is g, the logarithm. The task asks for alpha = exp(g)."),
        (0.5 ** (1 / 200), "With that alpha one half is left after 200 tokens; the task asks for a tenth."),
        (0.9 ** (1 / 200), "With that alpha nine tenths are left: you lose a tenth instead of keeping it."),
        (1 - 0.9 / 200, "Decay is not linear: solve alpha ** 200 = 0.1."),
        (1 - 0.1 / 200, "Decay is not linear: solve alpha ** 200 = 0.1."),
        (0.1**200, "Turn it round: alpha ** 200 = 0.1, not 0.1 ** 200."),
    )
    if abs(alpha - want) < 2e-5:
        return f"alpha is {want:.4f}. In bfloat16, whose steps below 1 are 1/256, it would become 0.9883."
    for value, sentence in sentences:
        if abs(alpha - value) < 2e-5:
            raise Wrong(sentence)
    if not 0 < alpha < 1:
        raise Wrong("alpha is what survives one token: it lies between 0 and 1.")
    raise Wrong(f"After 200 tokens that leaves {alpha**200:.3g}; solve alpha ** 200 = 0.1 (4 digits or more).")


@exercise("3.5", "Documents in one row")
def documents(answer: Callable) -> str:
    ids = np.array([4, 4, 4, 7, 7, 1, 1, 1, 1])
    got = expect_shape(answer(ids), ids.shape, "g")
    resets = np.flatnonzero(got < -30)
    if np.any(got > 0):
        raise Wrong("A log decay is never positive: 0 keeps everything, -inf clears. (Did you return alpha?)")
    wanted = np.array([3, 5])
    without_first = resets[resets > 0]
    if np.array_equal(without_first, wanted - 1) or np.array_equal(resets, wanted - 1):
        raise Wrong("One token early: fading comes before the write, so the *first* token of a document resets.")
    if np.array_equal(without_first, wanted + 1):
        raise Wrong("One token late: the first pair of each document would be cleared with the old one.")
    if len(without_first) < 2:
        raise Wrong("Some boundary has no reset: look wherever the id differs from the one before (it may go down).")
    if not np.array_equal(without_first, wanted):
        raise Wrong(f"You reset at tokens {resets.tolist()}; the boundaries are where the id changes.")
    kept = np.delete(got, resets)
    if np.any(kept != 0):
        raise Wrong("Inside a document nothing should fade: g is 0 there.")
    return "With that g, packed documents give the same outputs as separate runs."


@exercise("3.6", "A late gate")
def late_gate(answer: str) -> str:
    sentences = {
        "a": "Print the recall of pairs 0 to 7 of each segment beside that of the rest: one of them suffers.",
        "c": "Look at the pairs behind the first `late` ones: they are recalled as well as with a punctual gate.",
        "d": "Run without any gate (all zeros in g) and compare: a late reset still beats that.",
    }
    expect_choice(answer, "b", sentences)
    return "A reset can't tell the new context's first pairs from the old ones: it clears by age alone."
