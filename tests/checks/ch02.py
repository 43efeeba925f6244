"""Answers to the exercises of chapter 02: right ones, and wrong ones with a part of what the check says."""

import numpy as np


def write_all(K, V, beta):
    return K.T @ (beta[:, None] * V)


def delta_write(S, k, v, beta):
    return S + np.outer(k, beta * (v - S.T @ k))


def in_place(S, k, v, beta):
    S += np.outer(k, beta * (v - S.T @ k))
    return S


def crosstalk(K, V):
    return (K @ K.T - np.diag((K * K).sum(1))) @ V


def erase(S, k):
    return S - np.outer(k, S.T @ k) / (k @ k)


RIGHT = {
    "2.1": write_all,
    "2.2": delta_write,
    "2.3": crosstalk,
    "2.4": erase,
    "2.5": (25, 96),
    "2.6": "b",
}

WRONG = [
    ("2.1", lambda K, V, beta: write_all(K, V, beta).T, "right shape transposed"),
    ("2.1", lambda K, V, beta: K.T @ V, "strengths are missing"),
    ("2.1", lambda K, V, beta: write_all(K, V, beta**2), "beta is in there twice"),
    ("2.1", lambda K, V, beta: write_all(K, V, beta) / len(K), "mean over the pairs"),
    ("2.1", lambda K, V, beta: beta.sum() * K.T @ V, "added the strengths up"),
    ("2.1", lambda K, V, beta: -write_all(K, V, beta), "wrong sign"),
    ("2.1", lambda K, V, beta: K.T @ (beta * V), "raised ValueError"),
    ("2.2", lambda S, k, v, beta: delta_write(S, k, v, 1.0), "beta is missing"),
    ("2.2", lambda S, k, v, beta: S + beta * np.outer(k, v), "Hebb's write"),
    ("2.2", lambda S, k, v, beta: delta_write(S, k, v, -beta), "sign of the error"),
    ("2.2", lambda S, k, v, beta: S + np.outer(k, beta * v - S.T @ k), "scales only v"),
    ("2.2", lambda S, k, v, beta: S + np.outer(k, v - beta * S.T @ k), "only what was read"),
    ("2.2", lambda S, k, v, beta: delta_write(S, k, v, beta) - S, "The new state is S plus that"),
    ("2.2", lambda S, k, v, beta: delta_write(S, k, v, beta**2), "beta is in there twice"),
    ("2.2", lambda S, k, v, beta: delta_write(S, k, v, beta).T, "right shape transposed"),
    ("2.2", in_place, "You changed the S"),
    ("2.3", lambda K, V: K @ K.T @ V, "Leave out the term"),
    ("2.3", lambda K, V: K @ K.T @ V - V, "|k_i| isn't 1"),
    ("2.3", lambda K, V: (K * K).sum(1)[:, None] * V, "That is the signal"),
    ("2.3", lambda K, V: np.triu(K @ K.T, 1) @ V, "after i"),
    ("2.3", lambda K, V: np.tril(K @ K.T, -1) @ V, "before i"),
    ("2.3", lambda K, V: -crosstalk(K, V), "wrong sign"),
    ("2.4", lambda S, k: 0 * S, "emptied the memory"),
    ("2.4", lambda S, k: S, "Nothing changed"),
    ("2.4", lambda S, k: S - np.outer(k, S.T @ k), "Right for |k| = 1 only"),
    ("2.4", lambda S, k: S + np.outer(k, S.T @ k) / (k @ k), "doubled the answer"),
    ("2.4", lambda S, k: 0.5 * S, "right angle"),
    ("2.5", (96, 25), "in the other order"),
    ("2.5", (24, 96), "a pair doesn't disturb itself"),
    ("2.5", (49, 96), "the error is 1"),
    ("2.5", (23, 96), "other side"),
    ("2.5", (30, 96), "Hebb: solve"),
    ("2.5", (25, 48), "its error is 0"),
    ("2.5", (25, 72), "Least squares: solve"),
    ("2.5", 25, "should have shape (2,)"),
    ("2.6", "a", "R = 1 again"),
    ("2.6", "c", "R = 8 again"),
    ("2.6", "d", "the picks differ"),
    ("2.6", "small", "one letter"),
]
