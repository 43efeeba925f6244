"""Answers to the exercises of chapter 08: right ones, and wrong ones with a part of what the check says."""

import numpy as np


def soft(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def index(q, k, w, inner=lambda x: np.maximum(x, 0), outer=lambda x: x, spec="ths,th->ts", future=-np.inf):
    scores = outer(np.einsum(spec, inner(np.einsum("thd,sd->ths", q, k)), w))
    return np.where(np.tril(np.ones(scores.shape, bool)), scores, future)


def weight_inside(q, k, w):
    return index(q * w[:, :, None], k, np.ones_like(w))


def gather(q, k, v, chosen, scale=0.5, nothing=-np.inf):
    scores = scale * np.einsum("td,tkd->tk", q, k[chosen])
    if nothing is not None:
        scores = np.where(chosen < 0, nothing, scores)
    return np.einsum("tk,tkd->td", soft(scores), v[chosen])


def not_normalized(q, k, v, chosen):
    p = soft(np.where(np.tril(np.ones((4, 4), bool)), 0.5 * q @ k.T, -np.inf))
    few = np.where(chosen < 0, 0, np.take_along_axis(p, chosen, 1))
    return np.einsum("tk,tkd->td", few, v[chosen])


def averaged(q, k, v, chosen):
    return np.stack([v[row[row >= 0]].mean(0) for row in chosen])


def reverse(p, scores):
    guess = soft(scores)
    gap = np.log(guess / p)
    return guess * (gap - guess @ gap)


def even(H, Dqk, Dv, HI, DI, k, sign=-1):
    pair, light = H * (Dqk + Dv), HI * (DI + 1)
    return pair * k / (pair + sign * light)


RIGHT = {
    "8.1": index,
    "8.2": gather,
    "8.3": lambda p, scores: soft(scores) - p,
    "8.4": even,
    "8.5": 1.115,
    "8.6": "b",
}

WRONG = [
    ("8.1", lambda q, k, w: index(q, k, w, future=0.0), "finite score"),
    ("8.1", lambda q, k, w: index(q, k, w, inner=lambda x: x), "ReLU is missing"),
    ("8.1", lambda q, k, w: index(q, k, w, lambda x: x, lambda x: np.maximum(x, 0)), "after the sum"),
    ("8.1", weight_inside, "inside the ReLU"),
    ("8.1", lambda q, k, w: index(q, k, np.ones_like(w)), "weights w are missing"),
    ("8.1", lambda q, k, w: index(q, k, w, spec="ths,sh->ts"), "belong to the query"),
    ("8.1", lambda q, k, w: index(q, k, w)[:-1], "should have shape"),
    ("8.2", lambda *a: gather(*a, nothing=None), "-1 means no token"),
    ("8.2", lambda *a: gather(*a, scale=1.0), "lack the scale"),
    ("8.2", not_normalized, "don't add up to 1"),
    ("8.2", averaged, "You averaged"),
    ("8.3", lambda p, scores: p - soft(scores), "sign is turned"),
    ("8.3", lambda p, scores: -p / soft(scores), "not by I"),
    ("8.3", reverse, "the teacher p comes first"),
    ("8.3", lambda p, scores: scores - p, "softmax is missing"),
    ("8.4", lambda *a: a[-1], "more than k tokens"),
    ("8.4", lambda H, Dqk, Dv, HI, DI, k: H * (Dqk + Dv) * k / (HI * (DI + 1)), "as much as the attention"),
    ("8.4", lambda H, Dqk, Dv, HI, DI, k: even(H, Dqk, Dv, 1, HI * DI - 1, k), "multiplication by w"),
    ("8.4", lambda H, Dqk, Dv, HI, DI, k: even(H, Dqk, 0, HI, DI, k), "values cost"),
    ("8.4", lambda *a: even(*a, sign=1), "Sign"),
    ("8.5", 2048 / 128_000, "Any token may be chosen"),
    ("8.5", 1.0, "indexer's keys are kept"),
    ("8.5", 704 / 576, "counted numbers"),
    ("8.5", (1152 + 64 * 132) / 1152, "shared by all 64"),
    ("8.5", 1280 / 1152, "4-byte scale"),
    ("8.5", 3.0, "Add the bytes"),
    ("8.6", "a", "outside the window"),
    ("8.6", "c", "answers stay lost"),
    ("8.6", "d", "no far token but the first"),
    ("8.6", "window", "one letter"),
]
