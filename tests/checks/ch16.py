"""Answers to the exercises of chapter 16: right ones, and wrong ones with a part of what the check says."""

import numpy as np


def repeat(W, H, HK):
    return np.repeat(W.reshape(HK, -1, W.shape[1]), H // HK, axis=0).reshape(-1, W.shape[1])


def tile(W, H, HK):
    return np.tile(W.reshape(HK, -1, W.shape[1]), (H // HK, 1, 1)).reshape(-1, W.shape[1])


def weights(keys, q, alpha, later=0):
    return alpha ** (len(keys) - 1.0 - np.arange(len(keys)) + later) * (keys @ q)


def importance(recall, loss, recall_0, loss_0):
    return (recall_0 - recall) / np.maximum(loss - loss_0, 1e-3)


RIGHT = {
    "16.1": repeat,
    "16.2": weights,
    "16.3": lambda r, x, r0, x0, n: np.sort(np.argsort(importance(r, x, r0, x0))[-n:]),
    "16.4": "b",
}

WRONG = [
    ("16.1", tile, "Neighbouring query heads share one"),
    ("16.1", lambda W, H, HK: np.repeat(W, H // HK, axis=0), "rows that stay together"),
    ("16.2", lambda keys, q, alpha: keys @ q, "forgets too"),
    ("16.2", lambda keys, q, alpha: weights(keys, q, alpha, 1), "hasn't faded yet"),
    ("16.2", lambda keys, q, alpha: alpha ** np.arange(len(keys)) * (keys @ q), "oldest token has faded most"),
    ("16.3", lambda r, x, r0, x0, n: np.sort(np.argsort(r0 - r)[-n:]), "Divide by what is lost elsewhere"),
    ("16.3", lambda r, x, r0, x0, n: np.sort(np.argsort(importance(r, x, r0, x0))[:n]), "matter least"),
    ("16.3", lambda r, x, r0, x0, n: np.argsort(-importance(r, x, r0, x0))[:n], "rising order"),
    ("16.4", "a", "two exams"),
    ("16.4", "c", "against it"),
    ("16.4", "d", "chance level"),
]
