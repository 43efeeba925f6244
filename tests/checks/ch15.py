"""Answers to the exercises of chapter 15: right ones, and wrong ones with a part of what the check says."""

import numpy as np


def undo(after, k, v, alpha, beta):
    rest = after - beta * np.outer(k, v)
    return (rest + beta / (1 - beta) * np.outer(k, k @ rest)) / alpha


def back(S, k, u, g, n):
    m = len(g) - n
    until_now = np.exp(g[:m].sum() - np.cumsum(g[:m]))
    return np.exp(g[:m].sum()) * S + (until_now[:, None] * k[:m]).T @ u[:m]


def undecayed_cut(S, k, u, g, n):
    m, G = len(g) - n, np.cumsum(g)
    return np.exp(G[-1]) * S + (np.exp(G[-1] - G[:m])[:, None] * k[:m]).T @ u[:m]


RIGHT = {
    "15.1": undo,
    "15.2": lambda H, Dk, Dv, n: (4 * n * H * Dk * Dv, 4 * n * H * (Dk + Dv + 1)),
    "15.3": back,
    "15.4": lambda a, m: sum(a**j for j in range(m + 1)),
    "15.5": lambda g, c: (g == c[:, :-1]).cumprod(1).sum(1).min(),
    "15.6": "c",
}

WRONG = [
    ("15.1", lambda S, k, v, a, b: (S - b * np.outer(k, v)) / a, "What was erased has to come back"),
    ("15.1", lambda S, k, v, a, b: undo(S, k, v, 1.0, b), "divide by it"),
    ("15.1", lambda S, k, v, a, b: undo(S, k, 0 * v, a, b) - b * np.outer(k, v), "taken away first"),
    (
        "15.1",
        lambda S, k, v, a, b: (np.eye(3) - b * np.outer(k, k)) @ (S - b * np.outer(k, v)) / a,
        "It has to be inverted",
    ),
    ("15.2", lambda H, Dk, Dv, n: (n * H * Dk * Dv, n * H * (Dk + Dv + 1)), "each has four bytes"),
    ("15.2", lambda H, Dk, Dv, n: (4 * n * H * Dk * Dv, 4 * n * H * (Dk + Dv)), "one number more"),
    ("15.2", lambda H, Dk, Dv, n: (4 * H * Dk * Dv, 4 * H * (Dk + Dv + 1)), "for one token"),
    ("15.2", lambda H, Dk, Dv, n: (4 * n * Dk * Dv, 4 * n * (Dk + Dv + 1)), "for one head"),
    ("15.2", lambda H, Dk, Dv, n: 7, "Return a pair"),
    ("15.3", lambda S, k, u, g, n: back(S, k, u, g, 0), "with all five tokens"),
    ("15.3", lambda S, k, u, g, n: back(S, k[n:], u[n:], g[n:], 0), "The last ones have to go"),
    ("15.3", undecayed_cut, "cut g as well"),
    ("15.3", lambda S, k, u, g, n: back(0 * S, k, u, g, n) + S, "The state S fades"),
    (
        "15.3",
        lambda S, k, u, g, n: np.exp(g[:-n].sum()) * S + k[:-n].T @ u[:-n],
        "fades from its own place",
    ),
    ("15.4", lambda a, m: sum(a**j for j in range(1, m + 1)), "the model's own"),
    ("15.4", lambda a, m: 1 + a * m, "all guesses before it stood"),
    ("15.4", lambda a, m: sum(a**j for j in range(m)), "up to m + 1 tokens"),
    ("15.5", lambda g, c: (g == c[:, :-1]).sum(1).min(), "guessed from a wrong text"),
    ("15.5", lambda g, c: (g == c[:, :-1]).cumprod(1).sum(1).max(), "the shortest run counts"),
    ("15.5", lambda g, c: (g == c[:, :-1]).cumprod(1).sum(1).min() + 1, "tokens that come out"),
    ("15.6", "a", "nobody knows yet"),
    ("15.6", "b", "Without the rollback"),
    ("15.6", "d", "would be missing"),
]
