"""Checks for the exercises of chapter 10."""

from collections.abc import Callable

import numpy as np
import torch

from reference.checks._verdict import Wrong, exercise, expect_choice, expect_close


@exercise("10.1", "What a full matrix leaves unsaid")
def left_unsaid(answer: Callable) -> str:
    for P, want in ((20, 0.2), (64, 0.75), (16, 0.0), (4, 0.0)):
        expect_close(
            answer(P, 16),
            want,
            f"the share for {P} pairs and Dk = 16",
            mistakes={
                "Up to Dk pairs nothing is left: a share can't be negative.": 1 - 16 / P,
                "That is what *is* said.": min(16 / P, 1),
                "The share is one of pairs, not of channels: divide by P.": max(P - 16, 0) / 16,
            },
        )
    return "It is the best that any linear memory can do. The rules of layers come close for few pairs alone."


@exercise("10.2", "The strengths that count")
def strengths(answer: Callable) -> str:
    bits = np.array([0, 1, 0, 1, 1, 0, 1])
    beta = np.asarray(answer(bits, 3))
    expect_close(0 if beta.shape else answer(bits, 3), 0, "the answer")
    if beta.shape != bits.shape:
        raise Wrong(f"One strength per bit, {bits.shape}; yours has shape {beta.shape}.")
    if (beta < 0).any() or (beta > 2).any():
        raise Wrong("Strengths lie between 0 and 2.")
    residue = np.prod(1 - beta)
    if np.isclose(residue, 0):
        raise Wrong("β = 1 erases: S is 0 from then on, and nothing turns it back.")
    if np.allclose(beta, 2 * bits):
        raise Wrong("That is parity, one turn for each 1. Here a turn is wanted at every third 1 alone.")
    ones = np.cumsum(bits)
    if np.allclose(beta, 2.0 * (ones % 3 == 0)):
        raise Wrong("A 0 turns S as well where the count stands at a multiple: a turn belongs to a 1.")
    if not np.allclose(np.cumprod(1 - beta), (-1.0) ** (ones // 3)):
        raise Wrong("S should change its sign at each third 1, and at nothing else.")
    return (
        "But these strengths look at the count themselves: somebody else has to know it. With one reflection per token "
        "a single layer can't count modulo 3 from the bits alone; two reflections make a rotation."
    )


@exercise("10.3", "A sum that was written again")
def right_by_luck(answer: Callable) -> str:
    for times, values in ((1, 64), (4, 64), (8, 2)):
        want = 1 / times + (1 - 1 / times) / values
        expect_close(
            answer(times, values),
            want,
            f"the accuracy for R = {times} and {values} values",
            mistakes={
                "Another of the R values may be the same as the last one.": 1 / times,
                "It isn't guessing among all values: the R that were written stand out.": 1 / values,
            },
        )
    return "With 64 values that is nearly 1 / R: the thin line in the picture."


@exercise("10.4", "Which rate?")
def which_rate(answer: Callable) -> str:
    runs = [
        {"lr": lr, "seed": seed, "validation": loss, "accuracy": x}
        for lr, seed, loss, x in (
            (1e-3, 0, 0.50, 0.60),
            (1e-3, 1, 0.52, 0.64),
            (3e-3, 0, 0.20, 0.97),
            (3e-3, 1, 0.90, 0.95),
            (1e-2, 0, 0.30, 0.80),
            (1e-2, 1, 0.40, 0.76),
        )
    ]
    expect_close(
        answer(runs),
        0.78,
        "the accuracy to print",
        mistakes={
            "You chose by the test itself, or by one lucky seed: compare the mean validation loss of each rate.": 0.96,
            "The best of all runs: that is luck of the seed, not the mixer.": 0.97,
            "You averaged over all rates: every mixer deserves its own.": np.mean([run["accuracy"] for run in runs]),
            "Right rate, but report all of its seeds and not the best one.": 0.80,
        },
    )
    return "The chosen rate isn't the one that tests best. That is the price of a test that may be believed."


@exercise("10.5", "The step that rounds away")
def share_that_moves(answer: Callable) -> str:
    x = torch.arange(128) / 128 + 1  # all numbers of bfloat16 from 1 to 2
    for decay in (0.9, 0.99, 0.997, 0.998, 0.999):
        moved = ((x * decay).bfloat16().float() != x).float().mean().item()
        exact = (x * decay != x).float().mean().item()
        expect_close(
            answer(decay),
            moved,
            f"the share for a decay of {decay}",
            mistakes={
                "You didn't round, or took all or nothing: store each product in bfloat16 and compare.": exact,
            },
        )
    return "At 0.997 a part moves and a part doesn't; at 0.999 none does, and the state stops fading."


@exercise("10.6", "On the front")
def on_the_front(answer: Callable) -> str:
    models = {"a": (10, 0.5), "b": (20, 0.9), "c": (30, 0.7), "d": (40, 0.9), "e": (80, 1.0), "f": (10, 0.4)}
    got = answer(models)
    expect_close(0 if got is not None and got is not ... else got, 0, "the answer")
    got = set(got)
    if got == {"a", "b", "d", "e"}:
        raise Wrong("d costs more than b and is no better: b dominates it.")
    if "f" in got:
        raise Wrong("a costs what f costs and is better.")
    if "c" in got:
        raise Wrong("b is cheaper than c and better.")
    if got != {"a", "b", "e"}:
        raise Wrong(
            f"A model is on the front unless another is at least as cheap and at least as good; got {sorted(got)}."
        )
    return "What isn't on the front needs another reason: speed, or a task that was not measured."


@exercise("10.7", "The unfair comparison")
def unfair(answer: object) -> str:
    sentences = {
        "a": "Equal parameters are fair: the MLP gives up what the mixer takes.",
        "b": "One rate chosen for each mixer by validation is what fairness asks for.",
        "d": "Three seeds are few, but they are three for all.",
    }
    expect_choice(answer, "c", sentences)
    return "Without the convolution softmax can't look one token back in one layer. It loses for another reason."
