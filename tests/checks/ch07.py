"""Answers to the exercises of chapter 07: right ones, and wrong ones with a part of what the check says."""

import numpy as np


def cut(row, H):
    both = row.reshape(len(row), H, 2, -1)
    return both[:, :, 0], both[:, :, 1]


def cut_in_the_middle(row, H):
    return tuple(half.reshape(len(row), H, -1) for half in np.split(row, 2, axis=1))


def every_other(row, H):
    return tuple(row[:, i::2].reshape(len(row), H, -1) for i in (0, 1))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def silu(x):
    return x * sigmoid(x)


def softplus(x):
    return np.log1p(np.exp(x))


def mixed(x, taps, future=0):
    W = taps.shape[1]
    padded = np.pad(x, ((W - 1 - future, future), (0, 0)))
    return sum(padded[i : i + len(x)] * taps[:, i] for i in range(W))


def four_only(x, taps):
    padded = np.pad(x, ((3, 0), (0, 0)))
    taps = np.pad(taps, ((0, 0), (0, 4 - taps.shape[1])))
    return silu(sum(padded[i : i + len(x)] * taps[:, i] for i in range(4)))


def survival(a, A_log, bias):
    return np.exp(-np.exp(A_log) * softplus(a + bias))


def norm(x, axis=-1):
    return x / np.sqrt((x**2).mean(axis, keepdims=True) + 1e-6)


RIGHT = {
    "7.1": cut,
    "7.2": lambda x, taps: silu(mixed(x, taps)),
    "7.3": survival,
    "7.4": lambda o, z, w: norm(o) * w * silu(z),
    "7.5": 32 * 128 * 128 + 8192 * 3,
    "7.6": "k",
}

WRONG = [
    ("7.1", cut_in_the_middle, "cut the row in the middle"),
    ("7.1", lambda row, H: cut(row, H)[::-1], "other way round"),
    ("7.1", every_other, "every other channel"),
    ("7.1", lambda row, H: cut(row, H)[0], "tuple of two"),
    ("7.2", lambda x, taps: silu(mixed(x, taps[:, ::-1])), "turned round"),
    ("7.2", mixed, "silu at the end is missing"),
    ("7.2", lambda x, taps: sigmoid(mixed(x, taps)), "That is a sigmoid"),
    ("7.2", lambda x, taps: silu(mixed(x, taps, 3)), "see their future"),
    ("7.2", lambda x, taps: silu(mixed(x, taps, 1)), "one or two of their future"),
    ("7.2", lambda x, taps: mixed(silu(x), taps), "silu to the input"),
    ("7.2", four_only, "number of columns"),
    ("7.3", lambda a, A, b: np.log(survival(a, A, b)), "That is g"),
    ("7.3", lambda a, A, b: 1 / survival(a, A, b), "sign is missing"),
    ("7.3", lambda a, A, b: np.exp(-A * softplus(a + b)), "is a logarithm"),
    ("7.3", lambda a, A, b: np.exp(-np.exp(A) * (softplus(a) + b)), "inside the softplus"),
    ("7.3", lambda a, A, b: survival(a, A, 0 * b), "bias is missing"),
    ("7.3", lambda a, A, b: np.exp(-softplus(np.exp(A) * (a + b))), "outside the softplus"),
    ("7.3", lambda a, A, b: np.exp(-np.exp(A) * sigmoid(a + b)), "place of the softplus"),
    ("7.4", lambda o, z, w: norm(o * silu(z)) * w, "gate came first"),
    ("7.4", lambda o, z, w: norm(o) * w * sigmoid(z), "gate is silu here"),
    ("7.4", lambda o, z, w: norm(o) * (1 + w) * silu(z), "not 1 + w"),
    ("7.4", lambda o, z, w: norm(o, (-2, -1)) * w * silu(z), "over all heads"),
    ("7.4", lambda o, z, w: norm(o) / np.sqrt(o.shape[-1]) * w * silu(z), "divided by the length"),
    ("7.4", lambda o, z, w: norm(o) * w, "gate is missing"),
    ("7.4", lambda o, z, w: norm(o) * silu(z), "weight w is missing"),
    ("7.4", lambda o, z, w: norm(o) * w * z, "not by silu"),
    ("7.5", 32 * 128 * 128, "last three tokens too"),
    ("7.5", 32 * 128 * 128 + 8192 * 4, "three are carried"),
    ("7.5", 16 * 128 * 128 + 8192 * 3, "not 16"),
    ("7.5", 32 * 128 * 128 + 4096 * 3, "All of q, k and v"),
    ("7.5", 32 * 128 * 128 + 12288 * 3, "8192 channels"),
    ("7.5", 32 * 128 + 8192 * 3, "is a matrix"),
    ("7.5", (32 * 128 * 128 + 8192 * 3) * 4, "not bytes"),
    ("7.5", 8192 * 3, "convolution's part"),
    ("7.5", 1000, "isn't that"),
    ("7.6", "q", "side by side"),
    ("7.6", "v", "stay behind"),
    ("7.6", "all", "one letter"),
]
