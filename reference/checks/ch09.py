"""Checks for the exercises of chapter 09."""

from collections.abc import Callable

import numpy as np

from reference.checks._verdict import Wrong, exercise, expect_choice, expect_close


@exercise("9.1", "Layer types")
def layer_types(answer: Callable) -> str:
    got = answer(7, 3)
    expect_close(0 if got is not None and got is not ... else got, 0, "the answer")
    linear, full = "linear_attention", "full_attention"
    if not isinstance(got, tuple):
        raise Wrong(f"Return a tuple of names, got {type(got).__name__}.")
    if len(got) != 7:
        raise Wrong(f"7 layers were asked for, yours has {len(got)}.")
    if got == tuple(full if n % 3 == 0 else linear for n in range(7)):
        raise Wrong("You counted from 0: then the first layer is a softmax layer. Count from 1.")
    if got == tuple(linear if n % 3 == 0 else full for n in range(1, 8)):
        raise Wrong("The two kinds are swapped.")
    if got != (linear, linear, full, linear, linear, full, linear):
        raise Wrong(f"For 7 layers and every = 3 layers 3 and 6 are full_attention, yours is {got}.")
    if answer(8, 4) != ((linear,) * 3 + (full,)) * 2:
        raise Wrong("Right for 7 layers and every = 3, wrong for 8 and 4.")
    return "With every = 4 that is Qwen3-Next. Softmax comes last in each group: position has been mixed in by then."


@exercise("9.2", "Bytes of a hybrid's cache")
def cache_of_hybrid(answer: Callable) -> str:
    T, n_full, HK, D, n_linear, HV, Dk, Dv = 1000, 3, 2, 64, 9, 8, 32, 48
    state, kept = n_linear * HV * Dk * Dv * 4, n_full * T * HK * D * 2
    expect_close(
        answer(T, n_full, HK, D, n_linear, HV, Dk, Dv),
        2 * kept + state,
        "the number of bytes",
        mistakes={
            "A softmax layer keeps keys *and* values.": kept + state,
            "The states are kept in 4 bytes per number.": 2 * kept + state / 2,
            "The states don't grow: T stands with the softmax layers alone.": 2 * kept + state * T,
            "Only the softmax layers are in it.": 2 * kept,
        },
    )
    return "The second term is what a prompt of one token costs already."


@exercise("9.3", "Read again")
def tokens_to_read(answer: Callable) -> str:
    for length, shared, every, wanted in (
        (500, 300, 64, 244),
        (500, 300, 100, 200),
        (300, 300, 100, 100),
        (90, 5, 16, 90),
    ):
        known = {}
        if shared == 300 and length == 500:
            known["That would be right if the state could be cut back to any token."] = length - shared
        if length == shared:
            known["The logits of the last token are wanted: at least that one has to be read."] = 0
            known["Nearly: the snapshot at the very end can't be used, but the one before it can."] = 1
        got = answer(length, shared, every)
        if wanted != length - shared or length == shared:
            expect_close(got, wanted, f"the number for length {length}, shared {shared}, every {every}", mistakes=known)
        else:
            expect_close(got, wanted, f"the number for length {length}, shared {shared}, every {every}")
    return "Half an interval is read again on average; a softmax cache would lose nothing."


@exercise("9.4", "The balance of experts")
def balance_of_experts(answer: Callable) -> str:
    rng = np.random.default_rng(94)
    p = rng.dirichlet(np.ones(6) * 0.5, size=40)
    chosen = np.argsort(-p, axis=1)[:, :2]
    f = np.array([(chosen == e).any(1).mean() for e in range(6)])
    expect_close(
        answer(p, 2),
        6 * (f * p.mean(0)).sum(),
        "the loss",
        mistakes={
            "The factor E is missing.": (f * p.mean(0)).sum(),
            "f is the share of tokens, not divided by top_k once more.": 6 * (f / 2 * p.mean(0)).sum(),
            "You used the probabilities twice: f counts choices.": 6 * (p.mean(0) ** 2).sum(),
            "You used the choices twice: P is the mean probability, which has a gradient.": 6 * (f**2).sum(),
        },
    )
    return "Choices have no gradient, probabilities have: the loss lowers the probability of whoever is chosen often."


@exercise("9.5", "The likeliest byte")
def likeliest_byte(answer: object) -> str:
    sentences = {
        "a": "There is no token that means silence in this text: something always comes next.",
        "c": "Random letters are what a *high* temperature gives.",
        "d": "Not the prompt: what returns is a phrase that the model has just written.",
    }
    expect_choice(answer, "b", sentences)
    return "A phrase that has occurred makes itself likelier: the model copies, and the likeliest copy is exact."
