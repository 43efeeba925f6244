"""Checks for the exercises of chapter 07."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from reference.checks._verdict import Wrong, exercise, expect_choice, expect_close, expect_shape


def _silu(x: NDArray) -> NDArray:
    return x / (1 + np.exp(-x))


def _softplus(x: NDArray) -> NDArray:
    return np.log1p(np.exp(x))


@exercise("7.1", "Cut inside each head")
def cut_inside(answer: Callable) -> str:
    row, H, D = np.random.default_rng(71).normal(size=(3, 2 * 2 * 4)), 2, 4
    both = row.reshape(3, H, 2, D)
    want = np.stack([both[:, :, 0], both[:, :, 1]])
    interleaved = row.reshape(3, H, D, 2)
    got = answer(row, H)
    if got is not None and got is not ... and np.shape(got)[:1] != (2,):
        raise Wrong("Return a tuple of two: the queries and the gate logits.")
    expect_close(
        got,
        want,
        "the tuple of queries and gate logits",
        mistakes={
            "You cut the row in the middle: the cut is inside each head, head first, then query and gate.": row.reshape(
                3, 2, H, D
            ).transpose(1, 0, 2, 3),
            "The query comes first, then the gate: you have them the other way round.": want[::-1],
            "Query and gate stand side by side as two blocks of D channels; you took every other channel.": (
                interleaved.transpose(3, 0, 1, 2)
            ),
        },
    )
    return "A cut in the middle has the same shape, and the model runs; only the loss would tell."


@exercise("7.2", "Four tokens")
def four_tokens(answer: Callable) -> str:
    rng = np.random.default_rng(72)
    x, taps = rng.normal(size=(6, 3)), rng.normal(size=(3, 4))

    def mix(taps: NDArray, front: int = 3, back: int = 0) -> NDArray:
        padded = np.pad(x, ((front, back), (0, 0)))
        return sum(padded[i : i + 6] * taps[:, i] for i in range(4))

    flipped = taps[:, ::-1]
    expect_close(
        answer(x, taps),
        _silu(mix(taps)),
        "the output",
        mistakes={
            "The taps are turned round: the *last* column meets the newest token.": _silu(mix(flipped)),
            "The silu at the end is missing.": mix(taps),
            "That is a sigmoid; silu(y) is y times sigmoid(y).": 1 / (1 + np.exp(-mix(taps))),
            "Your tokens see their future: put the zeros before the first token.": _silu(mix(taps, 0, 3)),
            "Your tokens see one or two of their future: all W - 1 zeros stand before the first token.": _silu(
                mix(taps, 2, 1)
            ),
            "You applied silu to the input; it comes after the sum.": sum(
                np.pad(_silu(x), ((3, 0), (0, 0)))[i : i + 6] * taps[:, i] for i in range(4)
            ),
        },
    )
    short = np.array([[1.0]])
    if not np.allclose(answer(short, np.array([[5.0, 2.0]])), _silu(np.array([[2.0]]))):
        raise Wrong("Right for four taps. W is the number of columns of `taps`.")
    return "Each channel has four weights of its own and meets no other channel: that is the projection's work."


@exercise("7.3", "The decay")
def decay_of_a_token(answer: Callable) -> str:
    rng = np.random.default_rng(73)
    a, A_log, bias = rng.normal(size=(5, 2)), np.array([0.3, -0.7]), np.array([-1.0, 0.5])
    rate = np.exp(A_log) * _softplus(a + bias)
    with np.errstate(all="ignore"):
        mistakes = {
            "That is g, the log decay. What survives is e^g.": -rate,
            "The sign is missing: g must be negative, or the memory grows.": np.exp(rate),
            "A_log is a logarithm: the rate is e^A.": np.exp(-A_log * _softplus(a + bias)),
            "The bias belongs inside the softplus.": np.exp(-np.exp(A_log) * (_softplus(a) + bias)),
            "The bias is missing.": np.exp(-np.exp(A_log) * _softplus(a)),
            "e^A stands outside the softplus.": np.exp(-_softplus(np.exp(A_log) * (a + bias))),
            "That is a sigmoid in the place of the softplus.": np.exp(-np.exp(A_log) / (1 + np.exp(-a - bias))),
        }
    expect_close(answer(a, A_log, bias), np.exp(-rate), "what survives", mistakes=mistakes)
    return "Between 0 and 1 whatever the weights, and as close to either as training wants."


@exercise("7.4", "Norm, then gate")
def norm_then_gate(answer: Callable) -> str:
    rng = np.random.default_rng(74)
    o, z, w = rng.normal(size=(4, 2, 3)), rng.normal(size=(4, 2, 3)), np.array([0.5, 1.0, 2.0])

    def norm(x: NDArray, axis: int | tuple[int, ...] = -1) -> NDArray:
        return x / np.sqrt((x**2).mean(axis, keepdims=True) + 1e-6)

    expect_close(
        answer(o, z, w),
        norm(o) * w * _silu(z),
        "the gated output",
        mistakes={
            "The gate came first, as in Mamba-2: norm the output, then gate it.": norm(o * _silu(z)) * w,
            "The gate is silu here; the sigmoid is that of the attention block.": norm(o) * w / (1 + np.exp(-z)),
            "This norm's weight is plain: the factor is w, not 1 + w.": norm(o) * (1 + w) * _silu(z),
            "One norm per head, over its Dv channels; you took one over all heads.": norm(o, (-2, -1)) * w * _silu(z),
            "You divided by the length. The root mean square is smaller by the square root of Dv.": norm(o)
            / np.sqrt(3)
            * w
            * _silu(z),
            "The gate is missing.": norm(o) * w,
            "The weight w is missing.": norm(o) * _silu(z),
            "The gate was multiplied by z, not by silu(z).": norm(o) * w * z,
        },
    )
    return "silu may also turn a channel's sign; a sigmoid can only fade it."


@exercise("7.5", "What one layer carries")
def carried_numbers(answer: float) -> str:
    got = float(expect_shape(answer, (), "your answer"))
    memory, tail = 32 * 128 * 128, 8192 * 3
    sentences = {
        memory: "The memory is right. The convolution needs its last three tokens too.",
        memory + 8192 * 4: "The convolution sees four tokens, and one of them is the new one: three are carried.",
        16 * 128 * 128 + tail: "One memory per *value* head: 32 of them, not 16.",
        memory + 4096 * 3: "All of q, k and v go through the convolution, not only the values or q and k.",
        memory + 3 * 32 * 128 * 3: "q and k have 16 heads each, v has 32: 8192 channels.",
        32 * 128 + tail: "A memory is a matrix: 128 x 128 numbers per value head.",
        (memory + tail) * 4: "Asked for were numbers, not bytes.",
        tail: "That is the convolution's part. The memory is one matrix per value head.",
    }
    if got in sentences:
        raise Wrong(sentences[got])
    if got != memory + tail:
        raise Wrong(
            f"One 128 x 128 matrix per value head, and three tokens of all q, k, v channels; {got:.0f} isn't that."
        )
    return "It is as many after a million tokens."


@exercise("7.6", "One convolution of three")
def one_of_three(answer: str) -> str:
    sentences = {
        "q": "A query with its predecessors doesn't help if pairs are stored under other keys than the one asked for. "
        "Print the shares side by side.",
        "v": "Values get further than queries, but stay behind. Print the shares side by side.",
    }
    expect_choice(answer, "k", sentences)
    return (
        "A digit has to be stored under the letter before it, and the key decides where something is stored. "
        "That v alone gets beyond guessing is not explained here; finding out how would be a project."
    )
