"""Answers to the exercises of chapter 13: right ones, and wrong ones with a part of what the check says."""

import math

import numpy as np


def scalar(k, v, g):
    G = np.cumsum(g)
    return np.exp(G[-1]), (np.exp(G[-1] - G)[:, None] * k).T @ v


RIGHT = {
    "13.1": lambda a, b: (b[0] @ a[0], b[0] @ a[1] + b[1]),
    "13.2": lambda extra: math.floor(1 + extra) + 1,
    "13.3": lambda losses, n_targets, n: n * losses.sum() / n_targets,
    "13.4": "c",
    "13.5": scalar,
}

WRONG = [
    ("13.1", lambda a, b: (a[0] @ b[0], b[1]), "The order is turned round"),
    ("13.1", lambda a, b: (b[0] @ a[0], a[1] + b[1]), "has to pass the later one's M"),
    ("13.1", lambda a, b: (b[0] @ a[0], b[0] @ a[1]), "own N is missing"),
    ("13.1", lambda a, b: (1, 2, 3), "Return a pair"),
    ("13.2", lambda extra: 1 + extra, "exactly as long"),
    ("13.2", lambda extra: extra, "a pass of their own"),
    ("13.3", lambda losses, n_targets, n: losses.mean(), "mean over this share"),
    ("13.3", lambda losses, n_targets, n: losses.sum() / n_targets, "multiply by n"),
    ("13.3", lambda losses, n_targets, n: losses.sum() / n_targets / n, "twice in the end"),
    ("13.3", lambda losses, n_targets, n: losses.sum(), "That is a sum"),
    ("13.4", "a", "M is a number per head"),
    ("13.4", "b", "linear map of the state"),
    ("13.4", "d", "diagonal matrix"),
    ("13.5", lambda k, v, g: (g.sum(), k.T @ v), "exponentiated"),
    ("13.5", lambda k, v, g: (np.exp(g.sum()), k.T @ v), "Nothing fades"),
    ("13.5", lambda k, v, g: (np.exp(g.sum()), (np.exp(np.cumsum(g))[:, None] * k).T @ v), "from the start"),
    (
        "13.5",
        lambda k, v, g: (np.exp(g.sum()), (np.exp(g.sum() - np.cumsum(g) + g)[:, None] * k).T @ v),
        "leave g_t itself out",
    ),
    ("13.5", lambda k, v, g: (1, 2, 3), "Return a pair"),
]
