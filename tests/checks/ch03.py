"""Answers to the exercises of chapter 03: right ones, and wrong ones with a part of what the check says."""

import numpy as np


def step(S, k, v, g, beta):
    faded = np.exp(g) * S
    return faded + np.outer(k, beta * (v - faded.T @ k))


def in_place(S, k, v, g, beta):
    S *= np.exp(g)
    return S + np.outer(k, beta * (v - S.T @ k))


def stale(S, k, v, g, beta):
    return np.exp(g) * S + np.outer(k, beta * (v - S.T @ k))


def rows(S, lives, steps):
    return (0.5 ** (steps / lives))[:, None] * S


def boundaries(ids):
    g = np.zeros(len(ids))
    g[1:][ids[1:] != ids[:-1]] = -np.inf
    return g


RIGHT = {
    "3.1": lambda n: -np.log(2) / n,
    "3.2": step,
    "3.3": rows,
    "3.4": 0.1 ** (1 / 200),
    "3.5": boundaries,
    "3.6": "b",
}

WRONG = [
    ("3.1", lambda n: 0.5 ** (1 / n), "That is alpha"),
    ("3.1", lambda n: np.log(2) / n, "never positive"),
    ("3.1", lambda n: -1 / n, "1/e is left"),
    ("3.1", lambda n: -n * np.log(2), "the inverse"),
    ("3.2", stale, "before it fades"),
    ("3.2", lambda S, k, v, g, beta: np.exp(g) * (S + np.outer(k, beta * (v - S.T @ k))), "decayed after the write"),
    ("3.2", lambda S, k, v, g, beta: step(S, k, v, g, 1.0), "beta is missing"),
    ("3.2", lambda S, k, v, g, beta: step(S, k, v, 0.0, beta), "decay is missing"),
    ("3.2", lambda S, k, v, g, beta: np.exp(g) * S + beta * np.outer(k, v), "No erase"),
    ("3.2", lambda S, k, v, g, beta: S + beta * np.outer(k, v), "Hebb's write"),
    ("3.2", lambda S, k, v, g, beta: step(g * S, k, v, 0.0, beta), "multiplied by g"),
    ("3.2", lambda S, k, v, g, beta: step(S, k, v, -g, beta), "memory grows"),
    ("3.2", lambda S, k, v, g, beta: step(S, k, v, g, beta).T, "right shape transposed"),
    ("3.2", in_place, "You changed the S"),
    ("3.3", lambda S, lives, steps: rows(S, lives, 1), "That is one step"),
    ("3.3", lambda S, lives, steps: rows(S, lives, 1 / steps), "instead of multiplying"),
    ("3.3", lambda S, lives, steps: np.exp(-steps / lives)[:, None] * S, "1/e is left"),
    ("3.3", lambda S, lives, steps: np.mean(0.5 ** (steps / lives)) * S, "one rate"),
    ("3.3", lambda S, lives, steps: (0.5 ** (steps / lives)) * S, "raised ValueError"),
    ("3.4", np.log(0.1) / 200, "the logarithm"),
    ("3.4", 0.5 ** (1 / 200), "one half is left"),
    ("3.4", 0.9 ** (1 / 200), "nine tenths"),
    ("3.4", 1 - 0.9 / 200, "not linear"),
    ("3.4", 1 - 0.1 / 200, "not linear"),
    ("3.4", 0.0, "Turn it round"),
    ("3.4", 1.5, "between 0 and 1"),
    ("3.4", 0.95, "After 200 tokens"),
    ("3.5", lambda ids: np.where(boundaries(ids) == 0, 1.0, -0.0), "never positive"),
    ("3.5", lambda ids: np.roll(boundaries(ids), -1), "One token early"),
    ("3.5", lambda ids: np.roll(boundaries(ids), 1), "One token late"),
    ("3.5", lambda ids: np.zeros(len(ids)), "no reset"),
    ("3.5", lambda ids: np.where(np.diff(ids, prepend=ids[0]) > 0, -np.inf, 0), "no reset"),
    ("3.5", lambda ids: boundaries(ids) - 0.1, "g is 0 there"),
    ("3.5", lambda ids: np.where(np.arange(len(ids)) % 2 == 1, -np.inf, 0), "the boundaries are where"),
    ("3.5", lambda ids: boundaries(ids)[1:], "should have shape"),
    ("3.6", "a", "pairs 0 to 7"),
    ("3.6", "c", "as well as with a punctual gate"),
    ("3.6", "d", "without any gate"),
    ("3.6", "late", "one letter"),
]
