"""Checks for the exercises of chapter 11."""

from collections.abc import Callable

import numpy as np

from reference.checks._verdict import exercise, expect_choice, expect_close


@exercise("11.1", "Where the bytes cross")
def crossover(answer: Callable) -> str:
    HV, Dk, Dv, HK, D, b, bS, tail = 24, 64, 96, 4, 128, 2, 4, 9216
    state, growth = HV * Dk * Dv * bS, 2 * HK * D * b
    expect_close(
        answer(HV, Dk, Dv, HK, D, b, bS, tail),
        (state + tail) / growth,
        "the number of tokens",
        mistakes={
            "A softmax layer keeps keys *and* values: 2 HK D numbers per token.": (state + tail) * 2 / growth,
            "The state has its own bytes per number, bS.": (state / 2 + tail) / growth,
            "The convolution's tail is missing.": state / growth,
            "The tail is in bytes already.": (state + tail * b) / growth,
            "The state is held once; twice is what a step moves.": (2 * state + tail) / growth,
            "There are HK key heads in the cache and HV states: don't cancel them.": (Dk * Dv * bS + tail)
            / (2 * D * b),
            "The cache has HK key heads, not HV.": (state + tail) / (2 * HV * D * b),
            "There are HV states, not one.": (Dk * Dv * bS + tail) / growth,
            "Upside down: the state is divided by what the cache grows by.": growth / (state + tail),
            "Half a head's width is for equal heads, equal bytes and no tail.": D / 2,
            "Don't round.": np.ceil((state + tail) / growth),
        },
    )
    return "Nothing in it depends on the model's width or depth."


@exercise("11.2", "The bytes of a token, shared")
def shared_bytes(answer: Callable) -> str:
    W, cache, state, B = 6e9, 3e8, 5e7, 16
    expect_close(
        answer(W, cache, state, B),
        (W / B + cache + 2 * state),
        "the number of bytes",
        mistakes={
            "A state is read *and* written.": (W / B + cache + state),
            "Caches and states are each text's own: only the weights are shared.": (W + cache + 2 * state) / B,
            "The weights are read once for all B texts.": (W + cache + 2 * state),
            "A state is read *and* written, and the weights are read once for all B texts.": (W + cache + state),
            "A state is read *and* written, and only the weights are shared.": (W + cache + state) / B,
            "That is the whole step; per token means divided among the B texts.": (W + B * (cache + 2 * state)),
            "A cache is read; it grows by one token, and that is not counted here.": (W / B + 2 * cache + 2 * state),
        },
    )
    return "With B large the first term goes, and the layer with the smaller memory wins."


@exercise("11.3", "A fitted exponent")
def fitted(answer: Callable) -> str:
    k, n = 4, np.array([128, 256, 512, 1024, 2048, 4096.0])
    t = 1e-3 + 2e-9 * n**2 * np.array([1.05, 1.02, 0.97, 1.01, 1.0, 0.99])
    slope = np.polyfit(np.log(n[-k:]), np.log(t[-k:]), 1)[0]
    expect_close(
        answer(n, t, k),
        slope,
        "the exponent",
        mistakes={
            "You used all lengths: fit the last `k`, where fixed costs weigh least.": np.polyfit(
                np.log(n), np.log(t), 1
            )[0],
            "Take logarithms of both, lengths and seconds.": np.polyfit(n[-k:], t[-k:], 1)[0],
            "Take logarithms of the lengths too.": np.polyfit(n[-k:], np.log(t[-k:]), 1)[0],
            "Those are the first `k`: the longest texts stand last.": np.polyfit(np.log(n[:k]), np.log(t[:k]), 1)[0],
            "That is the line through two of the points: fit all `k`.": np.log(t[-1] / t[-k]) / np.log(n[-1] / n[-k]),
            "You have the axes swapped: lengths come first.": np.polyfit(np.log(t[-k:]), np.log(n[-k:]), 1)[0],
            "That is the intercept; the slope comes first in polyfit's answer.": np.polyfit(
                np.log(n[-k:]), np.log(t[-k:]), 1
            )[1],
            "Seconds grow with length: your sign is turned.": -slope,
        },
    )
    return f"{slope:.2f}, for a law of exponent 2 with a fixed cost: a fit over few lengths shows less than the law."


@exercise("11.4", "Texts that fit")
def fitting(answer: Callable) -> str:
    memory, weights, n, growth, state = 141e9, 98e9, 16_384, 8064, 43e6
    one = n * growth + state
    expect_close(
        answer(memory, weights, n, growth, state),
        (memory - weights) // one,
        "the number of texts",
        mistakes={
            "The weights need their place first.": memory // one,
            "Half a text doesn't fit: round down.": (memory - weights) / one,
            "Round down, not up.": np.ceil((memory - weights) / one),
            "Every text has its own state beside its cache.": (memory - weights - state) // (n * growth),
            "A state is held once; twice is what a step moves.": (memory - weights) // (one + state),
            "The state doesn't grow: it is added, not multiplied by n.": (memory - weights) // (n * (growth + state)),
        },
    )
    for full in (memory, 2 * memory):
        expect_close(
            answer(memory, full, n, growth, state), 0, "the number of texts beside weights that fill everything"
        )
    return "That is why a smaller cache means more texts per step, and fewer readings of the weights for each."


@exercise("11.5", "When the indexer pays")
def indexer_pays(answer: Callable) -> str:
    H, r, rope, HI, DI, k = 128, 512, 64, 64, 128, 2048
    core, index = 2 * H * (2 * r + rope), 2 * HI * (DI + 1)
    expect_close(
        answer(core, index, k),
        core * k / (core - index),
        "the number of tokens",
        mistakes={
            "The indexer looks at all n tokens, not at k.": k + index * k / core,
            "The attention reads k tokens, the indexer n: set core n = index n + core k.": core * k / index,
            "The indexer comes on top of the k tokens' attention: set core n = index n + core k.": (core - index)
            * k
            / index,
            "Upside down: core - index belongs below.": k * (core - index) / core,
            "Don't round.": np.ceil(core * k / (core - index)),
            "Without the indexer's own price it would be k.": k,
            "The sign: what is saved per token is core - index.": core * k / (core + index),
        },
    )
    return f"With DeepSeek's sizes: {core * k / (core - index):,.0f} tokens, hardly more than the {k:,} that it reads."


@exercise("11.6", "A claim")
def a_claim(answer: object) -> str:
    sentences = {
        "a": "A cache of a quarter explains four, and four is less than ten.",
        "c": "Kernels decide how much of a saving is reached; to say how large it can be, a count needs none.",
        "d": "At 32K and one text the weights are most of the bytes: that is the experts' part.",
    }
    expect_choice(answer, "b", sentences)
    return "Two models that differ in four things can't tell which of the four did it."
