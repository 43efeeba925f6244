"""Answers to the exercises of chapter 06: right ones, and wrong ones with a part of what the check says."""

import numpy as np


def off_by_one(s):
    m = max(0.0, s.max())
    return np.exp(s - m) / (np.exp(-m) + np.exp(s - m).sum())


def mask(T, window, keep_first):
    t, s = np.arange(T)[:, None], np.arange(T)[None]
    return (s <= t) & ((s > t - window) | (s < keep_first))


def place(t, j, window, keep_first):
    if j < keep_first:
        return min(t, window + keep_first - 1) - j
    return t - j if j > t - window else None


RIGHT = {
    "6.1": lambda P, idle: P[:, :, 0][idle].mean(),
    "6.2": off_by_one,
    "6.3": mask,
    "6.4": lambda p, V, delta: p * ((V - p @ V) @ delta),
    "6.5": "b",
    "6.6": place,
}

WRONG = [
    ("6.1", lambda P, idle: P[:, :, 0].mean(), "All queries are in it"),
    ("6.1", lambda P, idle: P[:, 0][idle].mean(), "first row"),
    ("6.1", lambda P, idle: P[:, :, 0][~idle].mean(), "asking queries are in it"),
    ("6.1", lambda P, idle: (P[:, :, 0] * idle).mean(), "divided by all queries"),
    ("6.1", lambda P, idle: np.mean([P[b, :, 0][idle[b]].mean() for b in range(3)]), "averaged per text"),
    ("6.2", lambda s: np.exp(s) / np.exp(s).sum(), "ordinary softmax"),
    ("6.2", lambda s: (np.exp(s) + 1) / (np.exp(s) + 1).sum(), "every numerator"),
    ("6.2", lambda s: np.exp(s) / (1 + np.exp(s)).sum(), "every score's exponential"),
    ("6.2", lambda s: np.exp(s - s.max()) / (1 + np.exp(s - s.max()).sum()), "must become e^-m"),
    ("6.2", lambda s: np.exp(s) / (1 + np.exp(s).sum()), "large ones overflow"),
    ("6.3", lambda T, W, n: mask(T, W + 1, n), "yours sees window before it"),
    ("6.3", lambda T, W, n: mask(T, W, 0), "aren't kept"),
    ("6.3", lambda T, W, n: mask(T, W, n) | (np.arange(T)[None] < n), "must stay causal"),
    ("6.3", lambda T, W, n: mask(T, W, n + 1), "one token too many"),
    ("6.3", lambda T, W, n: mask(T, W, n).T, "transposed"),
    ("6.4", lambda p, V, d: p * (V @ d), "The mean is missing"),
    ("6.4", lambda p, V, d: (V - p @ V) @ d, "factor p_j is missing"),
    ("6.4", lambda p, V, d: -p * ((V - p @ V) @ d), "sign is turned"),
    ("6.4", lambda p, V, d: p * ((V - V.mean(0)) @ d), "plain mean"),
    ("6.5", "a", "hardly read it"),
    ("6.5", "c", "Weight times value"),
    ("6.5", "d", "outputs do change"),
    ("6.6", lambda t, j, W, n: t - j, "you counted in the text"),
    ("6.6", lambda t, j, W, n: min(t, W + n) - j if j < n else place(t, j, W, n), "one too many"),
    ("6.6", lambda t, j, W, n: place(t, j, 10**6, n) if j < n else None, "you counted in the text"),
    ("6.6", lambda t, j, W, n: min(t, n + W - 1) - j if j < n else t - j, "was evicted"),
]
