"""Checks for the exercises of chapter 08."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from reference.checks._verdict import Wrong, exercise, expect_choice, expect_close, expect_shape


def _soft(x: NDArray) -> NDArray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@exercise("8.1", "Index scores")
def index_score(answer: Callable) -> str:
    rng = np.random.default_rng(81)
    q, k, w = rng.normal(size=(5, 3, 4)), rng.normal(size=(5, 4)), rng.normal(size=(5, 3))  # [T, H, D], [T, D], [T, H]
    match = np.einsum("thd,sd->ths", q, k)
    past = np.tril(np.ones((5, 5), bool))
    got = expect_shape(answer(q, k, w), (5, 5), "I")
    if np.isfinite(got[~past]).any():
        raise Wrong("Some later token has a finite score: put -inf where s > t, or a query may choose its future.")

    def seen(scores: NDArray) -> NDArray:
        return np.where(past, scores, 0)

    right = np.einsum("ths,th->ts", np.maximum(match, 0), w)
    expect_close(
        np.where(past, got, 0),
        seen(right),
        "the scores of s <= t",
        mistakes={
            "The ReLU is missing: all heads together are one dot product.": seen(np.einsum("ths,th->ts", match, w)),
            "The ReLU comes after the sum; (8.1) clips each head first.": seen(
                np.maximum(np.einsum("ths,th->ts", match, w), 0)
            ),
            "The weight is inside the ReLU: a head with a negative weight must be able to vote against.": seen(
                np.maximum(match * w[:, :, None], 0).sum(1)
            ),
            "The weights w are missing.": seen(np.maximum(match, 0).sum(1)),
            "You took the weights of token s; they belong to the query t.": seen(
                np.einsum("ths,sh->ts", np.maximum(match, 0), w)
            ),
        },
    )
    return "Negative scores are allowed: a head with w < 0 votes against what it matches."


@exercise("8.2", "Read the chosen")
def read_chosen(answer: Callable) -> str:
    rng = np.random.default_rng(82)
    q, k, v = rng.normal(size=(4, 4)), rng.normal(size=(4, 4)), rng.normal(size=(4, 3))
    chosen = np.array([[0, -1], [1, 0], [0, 2], [3, 1]])
    none = chosen < 0

    def read(scale: float = 0.5, masked: bool = True) -> NDArray:
        scores = scale * np.einsum("td,tkd->tk", q, k[chosen])
        return np.einsum("tk,tkd->td", _soft(np.where(none & masked, -np.inf, scores)), v[chosen])

    everywhere = _soft(np.where(np.tril(np.ones((4, 4), bool)), 0.5 * q @ k.T, -np.inf))
    few = np.where(none, 0, np.take_along_axis(everywhere, chosen, 1))
    expect_close(
        answer(q, k, v, chosen),
        read(),
        "o",
        mistakes={
            "-1 means no token, and NumPy read it as the last one: give it the score -inf.": read(masked=False),
            "The scores lack the scale D ** -0.5.": read(1.0),
            "The weights don't add up to 1: the softmax runs over the chosen tokens only.": np.einsum(
                "tk,tkd->td", few, v[chosen]
            ),
            "You averaged the chosen values; they are weighted by a softmax of their scores.": np.where(
                none[..., None], 0, v[chosen]
            ).sum(1)
            / (~none).sum(1, keepdims=True),
        },
    )
    return "No array of yours has T x T entries: that is the whole point of the layer."


@exercise("8.3", "The teacher's gradient")
def teacher_gradient(answer: Callable) -> str:
    rng = np.random.default_rng(83)
    p, scores = _soft(rng.normal(size=6)), rng.normal(size=6)
    guess = _soft(scores)
    expect_close(
        answer(p, scores),
        guess - p,
        "the gradient of KL(p || softmax(I)) by I",
        mistakes={
            "The sign is turned: where the guess is too large, lowering the score lowers the loss.": p - guess,
            "That is the derivative by softmax(I), not by I.": -p / guess,
            "You took KL(softmax(I) || p); the teacher p comes first.": guess
            * (np.log(guess / p) - np.sum(guess * np.log(guess / p))),
            "The softmax is missing: I holds scores, not probabilities.": scores - p,
        },
    )
    return "As in classification: guess minus target. It vanishes only where the two agree."


@exercise("8.4", "Break even")
def break_even(answer: Callable) -> str:
    for H, Dqk, Dv, HI, DI, k in ((128, 576, 512, 64, 128, 2048), (16, 128, 128, 4, 32, 256)):
        pair, light = H * (Dqk + Dv), HI * (DI + 1)
        expect_close(
            answer(H, Dqk, Dv, HI, DI, k),
            pair * k / (pair - light),
            "the length at which both cost the same",
            tol=1e-5,
            mistakes={
                "Just past k the indexer's work comes on top, so it takes somewhat more than k tokens.": k,
                "That is where the indexer costs as much as the attention over k tokens.": pair * k / light,
                "The sum over heads needs a multiplication by w too: H_I * (D_I + 1) per pair.": pair
                * k
                / (pair - HI * DI),
                "The values cost as well: H * (D_qk + D_v) per pair.": H * Dqk * k / (H * Dqk - light),
                "Sign: the indexer is work that sparse attention does and dense attention doesn't.": pair
                * k
                / (pair + light),
            },
        )
    return "A light indexer moves the break-even only a little past k."


@exercise("8.5", "What the cache holds")
def cache_ratio(answer: float) -> str:
    ratio = float(expect_shape(answer, (), "your answer"))
    want = (2 * 576 + 132) / (2 * 576)
    sentences = (
        (2048 / 128_000, "Any token may be chosen next: none can be dropped from the cache."),
        (1.0, "Almost: the indexer's keys are kept as well."),
        ((576 + 128) / 576, "You counted numbers; the indexer's key has 8 bits per number and the latents have 16."),
        ((2 * 576 + 64 * 132) / (2 * 576), "One key is shared by all 64 indexer heads."),
        ((2 * 576 + 128) / (2 * 576), "Nearly: the 8-bit key has a 4-byte scale."),
    )
    for value, sentence in sentences:
        if abs(ratio - value) < 5e-4:
            raise Wrong(sentence)
    if abs(ratio - want) > 5e-3:
        raise Wrong("Add the bytes per token: latents 2 * (512 + 64), index key 128, its scale 4; divide by the first.")
    return "Sparse attention needs about a ninth more memory than dense attention, at every length."


@exercise("8.6", "A cheaper choice")
def cheaper_choice(answer: str) -> str:
    sentences = {
        "a": "Print the answers that are right: most keys stand outside the window.",
        "c": "Compare the loss of text with keep_first: the sink mends it, the answers stay lost.",
        "d": "The text needs no far token but the first; look at its loss with keep_first.",
    }
    expect_choice(answer, "b", sentences)
    return "A rule that doesn't look at the content can protect the sink, but it can't find a needle."
