"""Answers to the exercises of chapter 09: right ones, and wrong ones with a part of what the check says."""

import numpy as np


def types(layers, every, first=1):
    return tuple("full_attention" if n % every == 0 else "linear_attention" for n in range(first, layers + first))


def size(T, n_full, HK, D, n_linear, HV, Dk, Dv):
    return n_full * T * 2 * HK * D * 2 + n_linear * HV * Dk * Dv * 4


def shares(p, top_k):
    chosen = np.argsort(-p, axis=1)[:, :top_k]
    return np.array([(chosen == e).any(1).mean() for e in range(p.shape[1])])


RIGHT = {
    "9.1": types,
    "9.2": size,
    "9.3": lambda length, shared, every: length - min(shared, length - 1) // every * every,
    "9.4": lambda p, top_k: p.shape[1] * (shares(p, top_k) * p.mean(0)).sum(),
    "9.5": "b",
}

WRONG = [
    ("9.1", lambda layers, every: types(layers, every, 0), "counted from 0"),
    ("9.1", lambda layers, every: list(types(layers, every)), "Return a tuple"),
    ("9.1", lambda layers, every: types(layers - 1, every), "7 layers were asked for"),
    ("9.2", lambda T, n, HK, D, *rest: size(T, n, HK, D, *rest) - n * T * HK * D * 2, "keys *and* values"),
    ("9.2", lambda T, n, HK, D, *rest: n * T * 2 * HK * D * 2, "Only the softmax layers"),
    ("9.2", lambda T, n, HK, D, m, HV, Dk, Dv: n * T * 4 * HK * D + m * HV * Dk * Dv * 4 * T, "don't grow"),
    ("9.2", lambda T, n, HK, D, m, HV, Dk, Dv: n * T * 4 * HK * D + m * HV * Dk * Dv * 2, "4 bytes per number"),
    ("9.3", lambda length, shared, every: length - shared, "could be cut back"),
    ("9.3", lambda length, shared, every: length - shared // every * every, "at least that one"),
    ("9.4", lambda p, k: (shares(p, k) * p.mean(0)).sum(), "factor E"),
    ("9.4", lambda p, k: p.shape[1] * (shares(p, k) / k * p.mean(0)).sum(), "divided by top_k"),
    ("9.4", lambda p, k: p.shape[1] * (p.mean(0) ** 2).sum(), "probabilities twice"),
    ("9.4", lambda p, k: p.shape[1] * (shares(p, k) ** 2).sum(), "choices twice"),
    ("9.5", "a", "means silence"),
    ("9.5", "c", "high"),
    ("9.5", "d", "a phrase"),
]
