"""Answers to the exercises of chapter 00: right ones, and wrong ones with a part of what the check says."""

import numpy as np


def right_bytes(layers, kv_heads, head_dim, T, width):
    return 2 * layers * kv_heads * head_dim * T * width


def decode(q, k, v, K, V, *, before=False, scale=None, divide=True, exp=np.exp, front=False):
    old = K, V
    K, V = (np.vstack([k, K]), np.vstack([v, V])) if front else (np.vstack([K, k]), np.vstack([V, v]))
    keys, values = old if before else (K, V)
    weights = exp(keys @ q * (len(q) ** -0.5 if scale is None else scale))
    return weights @ values / (weights.sum() if divide else 1), K, V


def in_place(q, k, v, K, V):
    K[0] = k
    return decode(q, k, v, K, V)


RIGHT = {
    "0.1": right_bytes,
    "0.2": 1820.4,
    "0.3": decode,
    "0.4": "bc",
    "0.5": "c",
}

WRONG = [
    ("0.1", lambda *a: right_bytes(*a) / 2, "keys *and* values"),
    ("0.1", lambda layers, *a: right_bytes(1, *a), "Every layer has its own cache"),
    ("0.1", lambda *a: right_bytes(*a) / a[4], "multiply by width"),
    ("0.1", lambda *a: right_bytes(*a) * 8, "counted bits"),
    ("0.1", lambda *a: right_bytes(*a) / a[3], "multiply by T"),
    ("0.1", lambda *a: right_bytes(*a) * a[3], "not to T squared"),
    ("0.1", lambda *a: right_bytes(*a) / a[1], "off by up to"),
    ("0.2", 1152 / 2097152, "inverse"),
    ("0.2", 910, "A factor of 2 is off"),
    ("0.2", 2048, "64 extra numbers"),
    ("0.2", 12, "off by up to"),
    ("0.3", lambda *a: decode(*a, before=True), "before you appended"),
    ("0.3", lambda *a: decode(*a, scale=1.0), "1 / sqrt(Dk) is missing"),
    ("0.3", lambda *a: decode(*a, scale=1 / 3), "it is 1 / sqrt(Dk)"),
    ("0.3", lambda *a: decode(*a, divide=False), "don't sum to 1"),
    ("0.3", lambda *a: decode(*a, divide=False, exp=lambda x: x), "not a softmax"),
    ("0.3", lambda *a: decode(*a, front=True), "at the end of K"),
    ("0.3", lambda *a: decode(*a)[0], "Return three things"),
    ("0.3", in_place, "in place"),
    ("0.4", "abc", "a: sharing key/value heads"),
    ("0.4", "bcd", "d: sparse attention reads"),
    ("0.4", "ce", "e: MLA compresses"),
    ("0.4", "b", "c: a linear layer's state"),
    ("0.4", "c", "b: with a window"),
    ("0.4", "window", "Give the letters"),
    ("0.5", "a", "Not the same"),
    ("0.5", "b", "Fewer"),
    ("0.5", "d", "More than that"),
    ("0.5", "four", "one letter"),
]
