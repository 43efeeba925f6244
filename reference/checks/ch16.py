"""Checks for the exercises of chapter 16."""

from collections.abc import Callable

import numpy as np

from reference.checks._verdict import exercise, expect_choice, expect_close


@exercise("16.1", "Repeat the heads")
def repeated_heads(answer: Callable) -> str:
    rng = np.random.default_rng(161)
    for H, HK, D in ((4, 2, 3), (6, 2, 2), (3, 3, 2)):
        W = rng.normal(size=(HK * D, 5))
        heads = W.reshape(HK, D, 5)
        tiled = np.tile(heads, (H // HK, 1, 1)).reshape(H * D, 5)
        expect_close(
            answer(W, H, HK),
            np.repeat(heads, H // HK, axis=0).reshape(H * D, 5),
            f"the weights for {H} query heads on {HK} key heads",
            mistakes={
                "These heads go 0, 1, 0, 1. Neighbouring query heads share one: 0, 0, 1, 1.": tiled,
                "You repeated single rows. A head is D rows that stay together.": np.repeat(W, H // HK, axis=0),
            },
        )
    return "The new layer begins with what the old one had, and is free to let the twins differ."


@exercise("16.2", "The weights of a linear read")
def linear_weights(answer: Callable) -> str:
    rng = np.random.default_rng(162)
    keys, q = rng.normal(size=(5, 3)), rng.normal(size=3)
    for alpha in (0.5, 0.9, 1.0):
        age = 4.0 - np.arange(5)
        expect_close(
            answer(keys, q, alpha),
            alpha**age * (keys @ q),
            f"the weights for alpha = {alpha:g}",
            mistakes={
                "The memory forgets too.": keys @ q,
                "The last token hasn't faded yet: S fades first, then it is written.": alpha ** (age + 1) * (keys @ q),
                "The oldest token has faded most.": alpha ** age[::-1] * (keys @ q),
            },
        )
    return "Weights by likeness and by age, and none of them by what the other keys are."


@exercise("16.3", "Which layers stay")
def layers_that_stay(answer: Callable) -> str:
    recall, loss = np.array([0.9, 0.35, 0.5, 0.88, 0.2]), np.array([1.3, 1.6, 1.02, 1.0, 1.9])
    for n in (1, 2, 3):
        cost, elsewhere = 0.95 - recall, np.maximum(loss - 1.0, 1e-3)
        importance = cost / elsewhere
        expect_close(
            answer(recall, loss, 0.95, 1.0, n),
            np.sort(np.argsort(importance)[-n:]),
            f"the layers to keep, n = {n},",
            mistakes={
                "Those cost most recall. Divide by what is lost elsewhere.": np.sort(np.argsort(cost)[-n:]),
                "Those matter least.": np.sort(np.argsort(importance)[:n]),
                "The right layers; give them in rising order.": np.argsort(importance)[-n:],
                "Those are the right ones from the most important down; give them in rising order.": np.argsort(
                    -importance
                )[:n],
            },
        )
    return "A layer that costs everything when it goes is no recall layer: the quotient is small."


@exercise("16.4", "Read a report")
def what_choosing_tells(answer: object) -> str:
    sentences = {
        "a": "Choosing among four and writing are two exams. A word can win the first and lose the second.",
        "c": "A model that writes has every wrong word of the vocabulary against it, and not three answers.",
        "d": "25 % is the chance level of choosing among four. Written answers have another, near zero.",
    }
    expect_choice(answer, "b", sentences)
    return "The likeliest of four need not be the likeliest of all."
