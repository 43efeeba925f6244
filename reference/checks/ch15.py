"""Checks for the exercises of chapter 15."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from reference.checks._verdict import Wrong, exercise, expect_choice, expect_close


@exercise("15.1", "Undo one step")
def undo_step(answer: Callable) -> str:
    rng = np.random.default_rng(151)
    S, k, v, alpha, beta = rng.normal(size=(3, 2)), rng.normal(size=3), rng.normal(size=2), 0.9, 0.6
    k /= np.linalg.norm(k)
    erase = np.eye(3) - beta * np.outer(k, k)
    after = alpha * erase @ S + beta * np.outer(k, v)
    expect_close(
        answer(after, k, v, alpha, beta),
        S,
        "the state before",
        mistakes={
            "You took away what was written. What was erased has to come back, too.": (after - beta * np.outer(k, v))
            / alpha,
            "The state faded by alpha on the way: divide by it.": np.linalg.solve(erase, after - beta * np.outer(k, v)),
            "The write comes last, so it has to be taken away first.": np.linalg.solve(erase, after) / alpha
            - beta * np.outer(k, v),
            "Multiplying by I - beta k k^T erases once more. It has to be inverted.": erase
            @ (after - beta * np.outer(k, v))
            / alpha,
        },
    )
    return "Along k it divides by 1 - beta: at beta = 1 there is nothing to divide."


@exercise("15.2", "The bill of going back")
def bytes_of_rollback(answer: Callable) -> str:
    for heads, Dk, Dv, tokens in ((32, 128, 128, 5), (2, 16, 8, 3)):
        states, replay = tokens * heads * Dk * Dv * 4, tokens * heads * (Dk + Dv + 1) * 4
        got = answer(heads, Dk, Dv, tokens)
        if got is not None and got is not ... and np.shape(got) != (2,):
            raise Wrong("Return a pair: bytes of one state per token, bytes of the kept k, u and g.")
        expect_close(
            got,
            [states, replay],
            "the pair of bytes",
            mistakes={
                "These are numbers. In float32 each has four bytes.": [states / 4, replay / 4],
                "The log decay is one number more per head and token.": [states, tokens * heads * (Dk + Dv) * 4],
                "That is for one token.": [states / tokens, replay / tokens],
                "That is for one head.": [states / heads, replay / heads],
            },
        )
    return "Dk Dv against Dk + Dv + 1: the replay form grows with the side of the state, not with its area."


@exercise("15.3", "Back by n tokens")
def state_after_rollback(answer: Callable) -> str:
    rng = np.random.default_rng(153)
    S, k, u, g = rng.normal(size=(3, 2)), rng.normal(size=(5, 3)), rng.normal(size=(5, 2)), -rng.random(5)

    def written(S: NDArray, k: NDArray, u: NDArray, g: NDArray) -> NDArray:
        G = np.cumsum(g)
        return np.exp(G[-1]) * S + (np.exp(G[-1] - G)[:, None] * k).T @ u

    whole = np.cumsum(g)
    for n in (2, 1):
        m = 5 - n
        expect_close(
            answer(S, k, u, g, n),
            written(S, k[:m], u[:m], g[:m]),
            f"the state {n} back",
            mistakes={
                "That is the state with all five tokens.": written(S, k, u, g),
                "You left out the first tokens. The last ones have to go.": written(S, k[n:], u[n:], g[n:]),
                "The decays of the tokens that are gone still act: cut g as well.": np.exp(whole[-1]) * S
                + (np.exp(whole[-1] - whole[:m])[:, None] * k[:m]).T @ u[:m],
                "The state S fades, too, by the tokens that stay.": written(0 * S, k[:m], u[:m], g[:m]) + S,
                "Each token fades from its own place to the end of those that stay.": np.exp(whole[m - 1]) * S
                + k[:m].T @ u[:m],
            },
        )
    expect_close(answer(S, k, u, g, 5), S, "the state with all five taken back")
    return "Nothing is undone: what is gone was never added."


@exercise("15.4", "Tokens per pass")
def tokens_per_pass(answer: Callable) -> str:
    for a, m in ((0.5, 3), (0.8, 4), (0.0, 2)):
        powers = a ** np.arange(m + 1)
        expect_close(
            answer(a, m),
            powers.sum(),
            f"tokens per pass for a = {a:g}, m = {m}",
            mistakes={
                "These are the guesses that stand. The pass gives one token more, the model's own.": powers.sum() - 1,
                "A guess counts only if all guesses before it stood.": 1 + a * m,
                "There are m guesses, so up to m + 1 tokens.": powers[:-1].sum(),
            },
        )
    expect_close(answer(1.0, 4), 5.0, "tokens per pass if every guess stands (a = 1)")
    return "However many guesses are made, 1 / (1 - a) is the limit."


@exercise("15.5", "Rows that go on together")
def accepted(answer: Callable) -> str:
    guesses = np.array([[3, 1, 4, 1], [5, 9, 2, 6], [5, 3, 5, 8]])
    chosen = np.array([[3, 1, 4, 2, 7], [5, 1, 2, 6, 5], [5, 3, 5, 8, 9]])
    late = "Only guesses before the first wrong one stand: what is right behind it was guessed from a wrong text."
    cases = ((slice(0, 3), 1), (slice(0, 1), 3), (slice(2, 3), 4), (slice(1, 2), 1))
    for tried, (rows, want) in enumerate(cases, 1):
        g, c = guesses[rows], chosen[rows]
        same = g == c[:, :-1]
        known = {
            late: same.sum(1).min(),
            "All rows have to go on from the same place: the shortest run counts.": same.cumprod(1).sum(1).max(),
            "That is the number of tokens that come out. One of them is the model's own.": want + 1,
        }
        expect_close(answer(g, c), want, f"the number of guesses that stand (case {tried})", mistakes=known)
    return "The cache goes back by m minus this number, in every row alike."


@exercise("15.6", "Where a snapshot may be taken")
def snapshot_place(answer: object) -> str:
    sentences = {
        "a": "The guesses are in the state by then, and nobody knows yet which of them stand.",
        "b": "The pass has read all guesses. Without the rollback, the wrong ones are part of the snapshot.",
        "d": "Then the last token of the pass would be missing from the state, and the key would say that it is there.",
    }
    expect_choice(answer, "c", sentences)
    return "Accept, go back, then keep, under the key of the tokens that the state has really read."
