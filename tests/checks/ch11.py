"""Answers to the exercises of chapter 11: right ones, and wrong ones with a part of what the check says."""

import numpy as np


def cross(HV, Dk, Dv, HK, D, b, bS, tail):
    return (HV * Dk * Dv * bS + tail) / (2 * HK * D * b)


def shared(W, cache, state, B):
    return W / B + cache + 2 * state


def fit(n, t, k):
    return np.polyfit(np.log(n[-k:]), np.log(t[-k:]), 1)[0]


def fits(memory, weights, n, growth, state):
    return max((memory - weights) // (n * growth + state), 0)


RIGHT = {
    "11.1": cross,
    "11.2": shared,
    "11.3": fit,
    "11.4": fits,
    "11.5": lambda core, index, k: core * k / (core - index),
    "11.6": "b",
}

WRONG = [
    ("11.1", lambda *a: 2 * cross(*a), "keys *and* values"),
    ("11.1", lambda HV, Dk, Dv, HK, D, b, bS, tail: cross(HV, Dk, Dv, HK, D, b, b, tail), "own bytes per number"),
    ("11.1", lambda *a: cross(*a[:-1], 0), "tail is missing"),
    ("11.1", lambda *a: cross(*a[:-1], a[-1] * a[-3]), "in bytes already"),
    ("11.1", lambda HV, Dk, Dv, HK, D, b, bS, tail: cross(2 * HV, Dk, Dv, HK, D, b, bS, tail), "held once"),
    ("11.1", lambda HV, Dk, Dv, HK, D, b, bS, tail: cross(1, Dk, Dv, 1, D, b, bS, tail), "don't cancel"),
    ("11.1", lambda HV, Dk, Dv, HK, D, b, bS, tail: cross(HV, Dk, Dv, HV, D, b, bS, tail), "not HV"),
    ("11.1", lambda HV, Dk, Dv, HK, D, b, bS, tail: cross(1, Dk, Dv, HK, D, b, bS, tail), "not one"),
    ("11.1", lambda *a: 1 / cross(*a), "Upside down"),
    ("11.1", lambda HV, Dk, Dv, HK, D, b, bS, tail: D / 2, "equal heads"),
    ("11.1", lambda *a: np.ceil(cross(*a)), "Don't round"),
    ("11.2", lambda W, c, s, B: W + c + s, "once for all B texts"),
    ("11.2", lambda W, c, s, B: (W + c + s) / B, "only the weights are shared"),
    ("11.2", lambda W, c, s, B: W / B + c + s, "read *and* written"),
    ("11.2", lambda W, c, s, B: (W + c + 2 * s) / B, "each text's own"),
    ("11.2", lambda W, c, s, B: W + c + 2 * s, "once for all"),
    ("11.2", lambda W, c, s, B: B * shared(W, c, s, B), "the whole step"),
    ("11.2", lambda W, c, s, B: shared(W, c, s, B) + c, "grows by one token"),
    ("11.3", lambda n, t, k: fit(n, t, len(n)), "You used all lengths"),
    ("11.3", lambda n, t, k: np.polyfit(n[-k:], t[-k:], 1)[0], "Take logarithms"),
    ("11.3", lambda n, t, k: np.polyfit(n[-k:], np.log(t[-k:]), 1)[0], "lengths too"),
    ("11.3", lambda n, t, k: fit(n[:k], t[:k], k), "the first `k`"),
    ("11.3", lambda n, t, k: np.log(t[-1] / t[-k]) / np.log(n[-1] / n[-k]), "two of the points"),
    ("11.3", lambda n, t, k: fit(t, n, k), "axes swapped"),
    ("11.3", lambda n, t, k: np.polyfit(np.log(n[-k:]), np.log(t[-k:]), 1)[1], "intercept"),
    ("11.3", lambda n, t, k: -fit(n, t, k), "sign"),
    ("11.4", lambda m, w, n, g, s: m // (n * g + s), "weights need their place"),
    ("11.4", lambda m, w, n, g, s: (m - w) / (n * g + s), "round down"),
    ("11.4", lambda m, w, n, g, s: np.ceil((m - w) / (n * g + s)), "not up"),
    ("11.4", lambda m, w, n, g, s: (m - w - s) // (n * g), "own state"),
    ("11.4", lambda m, w, n, g, s: (m - w) // (n * g + 2 * s), "held once"),
    ("11.4", lambda m, w, n, g, s: (m - w) // (n * (g + s)), "doesn't grow"),
    ("11.4", lambda m, w, n, g, s: (m - w) // (n * g + s), "fill everything"),
    ("11.5", lambda core, index, k: k + index * k / core, "all n tokens"),
    ("11.5", lambda core, index, k: core * k / index, "core n = index n + core k"),
    ("11.5", lambda core, index, k: (core - index) * k / index, "comes on top"),
    ("11.5", lambda core, index, k: k * (core - index) / core, "belongs below"),
    ("11.5", lambda core, index, k: np.ceil(core * k / (core - index)), "Don't round"),
    ("11.5", lambda core, index, k: k, "own price"),
    ("11.5", lambda core, index, k: core * k / (core + index), "core - index"),
    ("11.6", "a", "A cache of a quarter"),
    ("11.6", "c", "a count needs none"),
    ("11.6", "d", "experts' part"),
]
