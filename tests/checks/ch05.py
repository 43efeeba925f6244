"""Answers to the exercises of chapter 05: right ones, and wrong ones with a part of what the check says."""

import numpy as np


def softmax(s, axis=1):
    e = np.exp(s - s.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def past(scores):
    return np.where(np.tri(len(scores)), scores, -np.inf)


def attention(Q, K, V, scale=None):
    return softmax(past(Q @ K.T * (Q.shape[1] ** -0.5 if scale is None else scale))) @ V


def unstable(Q, K, V):
    e = np.exp(past(Q @ K.T / np.sqrt(Q.shape[1])))
    return e / e.sum(1, keepdims=True) @ V


def merge(m1, l1, a1, m2, l2, a2, scale_l=True, scale_a=True, sign=1):
    m = max(m1, m2)
    f1, f2 = np.exp(sign * (m1 - m)), np.exp(sign * (m2 - m))
    above = f1 * a1 + f2 * a2 if scale_a else a1 + a2
    return above / (f1 * l1 + f2 * l2 if scale_l else l1 + l2)


def loud_merge(m1, l1, a1, m2, l2, a2):
    return (np.exp(m1) * a1 + np.exp(m2) * a2) / (np.exp(m1) * l1 + np.exp(m2) * l2)


def no_division(m1, l1, a1, m2, l2, a2):
    m = max(m1, m2)
    return np.exp(m1 - m) * a1 + np.exp(m2 - m) * a2


def rope(x, t, f, sign=1):
    n, cos, sin = len(f), np.cos(t * f), sign * np.sin(t * f)
    a, b = x[:n], x[n : 2 * n]
    return np.concatenate([a * cos - b * sin, b * cos + a * sin, x[2 * n :]])


def neighbors(x, t, f):
    order = np.r_[0 : 2 * len(f) : 2, 1 : 2 * len(f) : 2]
    y = x.copy()
    y[order] = rope(x[order], t, f)
    return y


def used_new(x, t, f):
    n, cos, sin = len(f), np.cos(t * f), np.sin(t * f)
    a = x[:n] * cos - x[n : 2 * n] * sin
    return np.concatenate([a, x[n : 2 * n] * cos + a * sin, x[2 * n :]])


def whole_halves(x, t, f):
    n, half = len(f), len(x) // 2
    order = np.r_[0:n, half : half + n]
    y = x.copy()
    y[order] = rope(x[order], t, f)
    return y


def bill(layers, T, b, two=2, two_latent=1, windowed=True, rotary=True):
    total = 0
    for kind, *sizes in layers:
        if kind == "latent":
            total += two_latent * (sum(sizes) if rotary else sizes[0]) * b * T
        else:
            heads, width, *window = sizes
            total += two * heads * width * b * min([T, *window] if windowed else [T])
    return total


def always_window(layers, T, b):
    return bill([layer[:3] for layer in layers if layer[0] == "full"], T, b) + sum(
        2 * s[0] * s[1] * s[2] * b if kind == "window" else sum(s) * b * T for kind, *s in layers if kind != "full"
    )


RIGHT = {
    "5.1": attention,
    "5.2": lambda K, H: np.repeat(K, H // K.shape[1], axis=1),
    "5.3": merge,
    "5.4": rope,
    "5.5": bill,
    "5.6": 2048,
    "5.7": "c",
}

WRONG = [
    ("5.1", lambda Q, K, V: attention(Q, K, V, 1), "scale is missing"),
    ("5.1", lambda Q, K, V: attention(Q, K, V, 1 / Q.shape[1]), "divided by D"),
    ("5.1", lambda Q, K, V: attention(Q, K, V, Q.shape[1] ** 0.5), "multiplied by the square root"),
    ("5.1", lambda Q, K, V: attention(Q, K, V, len(Q) ** -0.5), "not the number of tokens"),
    ("5.1", lambda Q, K, V: attention(Q, K, V, V.shape[1] ** -0.5), "not that of V"),
    ("5.1", lambda Q, K, V: softmax(Q @ K.T / 2) * np.tri(len(Q)) @ V, "mask came after"),
    ("5.1", lambda Q, K, V: softmax(Q @ K.T / 2) @ V, "mask is missing"),
    ("5.1", lambda Q, K, V: softmax(Q @ K.T / 2 * np.tri(len(Q))) @ V, "e^0 is 1"),
    ("5.1", lambda Q, K, V: softmax(np.where(np.tri(len(Q)).T, Q @ K.T / 2, -np.inf)) @ V, "turned round"),
    ("5.1", lambda Q, K, V: softmax(past(Q @ K.T / 2), 0) @ V, "down the columns"),
    ("5.1", lambda Q, K, V: attention(K, Q, V), "changed places"),
    ("5.1", unstable, "large ones overflow"),
    ("5.1", lambda Q, K, V: attention(Q, K, V).T, "right shape transposed"),
    ("5.2", lambda K, H: np.tile(K, (1, H // K.shape[1], 1)), "You tiled"),
    ("5.2", lambda K, H: np.repeat(K[:, :1], H, axis=1), "multi-query"),
    ("5.2", lambda K, H: np.repeat(K, H // K.shape[1], axis=0).reshape(len(K), H, -1), "You tiled"),
    ("5.2", lambda K, H: np.repeat(K, H // K.shape[1], axis=0), "should have shape"),
    ("5.3", lambda m1, l1, a1, m2, l2, a2: (a1 / l1 + a2 / l2) / 2, "mean of the two"),
    ("5.3", lambda *parts: merge(*parts, scale_l=False, scale_a=False), "as if both had the same maximum"),
    ("5.3", lambda *parts: merge(*parts, scale_l=False), "rescaled a but not l"),
    ("5.3", lambda *parts: merge(*parts, scale_a=False), "rescaled l but not a"),
    ("5.3", lambda *parts: merge(*parts, sign=-1), "wrong sign"),
    ("5.3", no_division, "division by the sum is missing"),
    ("5.3", loud_merge, "overflows"),
    ("5.4", neighbors, "paired neighbors"),
    ("5.4", lambda x, t, f: rope(x, t, f, -1), "the other way"),
    ("5.4", used_new, "used the new a"),
    ("5.4", lambda x, t, f: rope(x, t + 1, f), "position t + 1"),
    ("5.4", lambda x, t, f: rope(x, 1, f), "position is missing"),
    ("5.4", whole_halves, "halves of the whole vector"),
    ("5.4", lambda x, t, f: rope(x, t, f)[:6], "should have shape"),
    ("5.5", lambda *a: bill(*a, two=1), "Keys *and* values"),
    ("5.5", lambda *a: bill(*a, two_latent=2), "no factor 2"),
    ("5.5", lambda *a: bill(*a, two=1, two_latent=2), "wrong place"),
    ("5.5", lambda *a: bill(*a, windowed=False), "min(T, W)"),
    ("5.5", always_window, "shorter than the window"),
    ("5.5", lambda *a: bill(*a, rotary=False), "r + D_R"),
    ("5.5", lambda layers, T, b: bill(layers, T, 1), "bytes per number"),
    ("5.5", lambda layers, T, b: bill(layers, T, b) / T, "That is per token"),
    ("5.6", 1024, "Half of it"),
    ("5.6", 64, "Count the heads"),
    ("5.6", 32, "no factor 2"),
    ("5.6", 512, "8 key heads"),
    ("5.6", 2341, "rotary key is cached"),
    ("5.6", 16384, "not 64"),
    ("5.6", 3000, "other bytes"),
    ("5.7", "a", "at 0 and at 5000"),
    ("5.7", "b", "turn together"),
    ("5.7", "d", "distances alone"),
    ("5.7", "far", "one letter"),
]
