"""Answers to the exercises of chapter 04: right ones, and wrong ones with a part of what the check says."""

import numpy as np


def gamma(g, mask=True):
    G = np.cumsum(g)
    faded = np.exp(G[:, None] - G)
    return np.tril(faded) if mask else faded


def triangle(K, g, beta, diagonal=-1):
    return np.tril(beta[:, None] * (K @ K.T) * gamma(g), diagonal)


def carry(K, U, g, S):
    G = np.cumsum(g)
    return np.exp(G[-1]) * S + (np.exp(G[-1] - G)[:, None] * K).T @ U


def best(Dk, Dv, F, B, moved=8):
    def time(C):
        return (3 * Dk * Dv + 2 * C * (Dk + Dv) + C**2 / 2) / F + moved * Dk * Dv / (B * C)

    return min((2**n for n in range(10)), key=time)


def dU(Q, K, g, dO, dS):
    G = np.cumsum(g)
    return (Q @ K.T * gamma(g)).T @ dO + (np.exp(G[-1] - G)[:, None] * K) @ dS


def inputs(T, seed=4, g=None, **changes):
    rng = np.random.default_rng(seed)
    k = rng.normal(size=(T, 3))
    parts = {
        "q": rng.normal(size=(T, 3)),
        "k": k / np.linalg.norm(k, axis=1, keepdims=True),
        "v": rng.normal(size=(T, 2)),
        "g": -rng.uniform(0.2, 1, size=T) if g is None else g,
        "beta": rng.uniform(0.3, 0.9, size=T),
    }
    return tuple((parts | changes).values())


RIGHT = {
    "4.1": triangle,
    "4.2": carry,
    "4.3": "bmo",
    "4.4": inputs(5),
    "4.5": best,
    "4.6": dU,
    "4.7": "c",
}

WRONG = [
    ("4.1", lambda K, g, beta: triangle(K, g, beta, 0), "diagonal belongs to I"),
    ("4.1", lambda K, g, beta: triangle(K, 0 * g, beta), "decay is missing"),
    ("4.1", lambda K, g, beta: triangle(K, g, 1 + 0 * beta) * beta, "beta multiplies rows"),
    ("4.1", lambda K, g, beta: triangle(K, g, 1 + 0 * beta), "beta is missing"),
    ("4.1", lambda K, g, beta: triangle(K, -g, beta), "the old writes grow"),
    ("4.1", lambda K, g, beta: triangle(K, 0 * g, beta * np.exp(np.cumsum(g))), "since the chunk began"),
    ("4.1", lambda K, g, beta: np.tril(beta[:, None] * (K @ K.T) * np.exp(g[:, None] - g), -1), "its running sum"),
    ("4.1", lambda K, g, beta: np.triu(beta[:, None] * (K @ K.T) * gamma(g).T, 1), "upper triangle"),
    ("4.2", lambda K, U, g, S: carry(K, U, g, 0 * S) + S, "old state has to fade"),
    ("4.2", lambda K, U, g, S: carry(K, 0 * U, g, S) + K.T @ U, "What the chunk writes fades"),
    ("4.2", lambda K, U, g, S: carry(K, 0 * U, g, S) + (np.exp(np.cumsum(g))[:, None] * K).T @ U, "its own token"),
    ("4.2", lambda K, U, g, S: carry(K, U, g, 0 * S) + np.exp(g[-1]) * S, "the last gate alone"),
    ("4.2", lambda K, U, g, S: carry(K, U, g, 0 * S), "old state is missing"),
    ("4.2", lambda K, U, g, S: carry(K, U, g, S).T, "transposed"),
    ("4.3", "mb", "three letters"),
    ("4.3", "mmo", "three letters"),
    ("4.3", "mbo", "Suspect 1: with g = 0"),
    ("4.3", "omb", "Suspect 1: with g = 0"),
    ("4.3", "bom", "Suspect 2: with keys at right angles, where nothing is corrected, it is still wrong"),
    ("4.4", inputs(5)[:4], "five arrays"),
    ("4.4", inputs(5, beta=np.ones(4)), "same T"),
    ("4.4", inputs(5, g=np.ones(5)), "never positive"),
    ("4.4", inputs(4), "With 4 tokens the piece is right"),
    ("4.4", inputs(5, g=np.zeros(5)), "No gate of the second chunk"),
    ("4.4", inputs(5, beta=np.zeros(5)), "is read at the end"),
    ("4.4", inputs(6), "There is a shorter one"),
    ("4.5", lambda Dk, Dv, F, B: 1, "multiplications alone"),
    ("4.5", lambda Dk, Dv, F, B: 512, "moving of the state alone"),
    ("4.5", lambda Dk, Dv, F, B: 48, "isn't one of the sizes"),
    ("4.5", lambda Dk, Dv, F, B: best(Dk, Dv, F, B, 100), "the best is not"),
    ("4.6", lambda Q, K, g, dO, dS: Q @ K.T * gamma(g) @ dO + dU(Q, K, g, 0 * dO, dS), "has to be transposed"),
    ("4.6", lambda Q, K, g, dO, dS: dU(Q, K, g, dO, 0 * dS), "handed on is missing"),
    ("4.6", lambda Q, K, g, dO, dS: dU(Q, K, g, 0 * dO, dS), "outputs are missing"),
    ("4.6", lambda Q, K, g, dO, dS: dU(Q, K, g, dO, 0 * dS) + K @ dS, "has faded by"),
    (
        "4.6",
        lambda Q, K, g, dO, dS: dU(Q, K, g, dO, 0 * dS) + np.exp(np.cumsum(g))[:, None] * K @ dS,
        "since the beginning",
    ),
    ("4.6", lambda Q, K, g, dO, dS: dU(Q, K, 0 * g, dO, 0 * dS) + dU(Q, K, g, 0 * dO, dS), "lack their decay"),
    (
        "4.6",
        lambda Q, K, g, dO, dS: (Q @ K.T * gamma(g, False)).T @ dO + dU(Q, K, g, 0 * dO, dS),
        "lack their mask",
    ),
    ("4.7", "a", "the difference is large"),
    ("4.7", "b", "Look at the direction"),
    ("4.7", "d", "never passes"),
    ("4.7", "falls", "one letter"),
]
