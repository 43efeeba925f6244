"""Answers to the exercises of chapter 10: right ones, and wrong ones with a part of what the check says."""

import numpy as np
import torch


def third(bits, n):
    ones = np.cumsum(bits)
    return 2.0 * (bits * (ones % n == 0))


def rate(runs):
    by_rate = {}
    for run in runs:
        by_rate.setdefault(run["lr"], []).append(run)
    best = min(by_rate.values(), key=lambda x: np.mean([r["validation"] for r in x]))
    return np.mean([r["accuracy"] for r in best])


def moved(decay):
    x = torch.arange(128) / 128 + 1
    return ((x * decay).bfloat16() != x).float().mean().item()


def front(models):
    def beaten(a):
        return any(
            b != models[a] and b[0] <= models[a][0] and b[1] >= models[a][1] for n, b in models.items() if n != a
        )

    return [a for a in models if not beaten(a)]


RIGHT = {
    "10.1": lambda P, Dk: max(0.0, 1 - Dk / P),
    "10.2": third,
    "10.3": lambda R, n: 1 / R + (1 - 1 / R) / n,
    "10.4": rate,
    "10.5": moved,
    "10.6": front,
    "10.7": "c",
}

WRONG = [
    ("10.1", lambda P, Dk: 1 - Dk / P, "can't be negative"),
    ("10.1", lambda P, Dk: min(Dk / P, 1), "what *is* said"),
    ("10.1", lambda P, Dk: max(P - Dk, 0) / Dk, "divide by P"),
    ("10.2", lambda bits, n: 2 * bits, "That is parity"),
    ("10.2", lambda bits, n: third(bits, n) / 2, "erases"),
    ("10.2", lambda bits, n: third(bits, 2), "each third 1"),
    ("10.2", lambda bits, n: 2.0 * (np.cumsum(bits) % n == 0), "A 0 turns S"),
    ("10.2", lambda bits, n: np.ones(3), "One strength per bit"),
    ("10.2", lambda bits, n: -third(bits, n), "between 0 and 2"),
    ("10.3", lambda R, n: 1 / R, "may be the same"),
    ("10.3", lambda R, n: 1 / n, "stand out"),
    ("10.4", lambda runs: 0.96, "by the test itself, or by one lucky seed"),
    ("10.4", lambda runs: max(r["accuracy"] for r in runs), "luck of the seed"),
    ("10.4", lambda runs: np.mean([r["accuracy"] for r in runs]), "over all rates"),
    ("10.5", lambda decay: 1.0, "didn't round"),
    ("10.5", lambda decay: float(moved(decay) > 0.5), "took all or nothing"),
    ("10.6", lambda models: "abde", "b dominates"),
    ("10.6", lambda models: "abef", "a costs what f costs"),
    ("10.6", lambda models: "abce", "cheaper than c"),
    ("10.6", lambda models: "ae", "at least as cheap"),
    ("10.7", "a", "Equal parameters are fair"),
    ("10.7", "b", "chosen for each mixer"),
    ("10.7", "d", "three for all"),
]
