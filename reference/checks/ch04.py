"""Checks for the exercises of chapter 04, and the faulty chunk functions that two of them are about."""

from collections.abc import Callable

import numpy as np

from reference.checks._verdict import Wrong, exercise, expect_choice, expect_close, expect_shape
from reference.equations import Array, gated_delta_scan


def faulty_chunks(q: Array, k: Array, v: Array, g: Array, beta: Array, fault: str, size: int = 4) -> Array:
    """The gated delta rule in chunks, outputs [T, Dv], with one fault: "mask", "order", "beta" or "carry"."""
    S, outputs = np.zeros((k.shape[1], v.shape[1])), []
    for t in range(0, len(q), size):
        Q, K, V, b = q[t : t + size], k[t : t + size], v[t : t + size], beta[t : t + size, None]
        steps = np.maximum(g[t : t + size], -1000.0)
        G, late = np.cumsum(steps)[:, None], np.exp(steps)[:, None] if fault == "order" else 1.0
        Gamma, before = np.tril(np.exp(np.tril(G - G.T))), np.exp(G)
        if fault == "order":
            before = np.exp(G - steps[:, None])
        A = np.tril((1.0 if fault == "beta" else b) * (K @ K.T) * Gamma / late, -1)
        U = np.linalg.solve(np.eye(len(K)) + A, b * (V - before * (K @ S)))
        mask = np.tril(np.ones_like(Gamma)) if fault == "mask" else Gamma
        outputs.append(np.exp(G) * (Q @ S) + (Q @ K.T * mask) @ U)
        S = (1.0 if fault == "carry" else np.exp(G[-1])) * S + (Gamma[-1][:, None] * K).T @ U
    return np.concatenate(outputs)


FAULTS = {1: "beta", 2: "mask", 3: "order"}


def suspect(number: int) -> Callable[[Array, Array, Array, Array, Array], Array]:
    """One of three chunk functions with a fault: (q, k [T, Dk], v [T, Dv], g, beta [T]) -> o [T, Dv]."""
    return lambda q, k, v, g, beta: faulty_chunks(q, k, v, g, beta, FAULTS[number])


def museum_piece(q: Array, k: Array, v: Array, g: Array, beta: Array) -> Array:
    """A chunk function in chunks of 2 tokens, with a fault that short inputs don't show; o [T, Dv]."""
    return faulty_chunks(q, k, v, g, beta, "carry", size=2)


def _sample(seed: int, C: int = 4, Dk: int = 3, Dv: int = 2) -> tuple[Array, ...]:
    rng = np.random.default_rng(seed)
    Q, K = rng.normal(size=(2, C, Dk))
    K = K / np.linalg.norm(K, axis=1, keepdims=True)
    return Q, K, rng.normal(size=(C, Dv)), -rng.uniform(0.1, 0.8, size=C), rng.uniform(0.2, 0.9, size=C)


@exercise("4.1", "The triangle")
def triangle(answer: Callable) -> str:
    _, K, _, g, beta = _sample(41)
    G, b = np.cumsum(g), beta[:, None]
    Gamma, products = np.exp(G[:, None] - G), K @ K.T
    expect_close(
        answer(K, g, beta),
        np.tril(b * products * Gamma, -1),
        "A",
        mistakes={
            "The diagonal belongs to I: A is zero there (np.tril(..., -1)).": np.tril(b * products * Gamma),
            "The decay is missing: what token s wrote has faded by exp(G_r - G_s) at token r.": np.tril(
                b * products, -1
            ),
            "beta multiplies rows: it is the write strength of the token that corrects, r, not s.": np.tril(
                beta * products * Gamma, -1
            ),
            "beta is missing: row r of (4.4) is multiplied by beta_r.": np.tril(products * Gamma, -1),
            "That is exp(G_s - G_r): the old writes grow.": np.tril(b * products / Gamma, -1),
            "That is exp(G_r): the decay since the chunk began, not since token s.": np.tril(
                b * products * np.exp(G)[:, None], -1
            ),
            "g is the decay of one token; between s and r it adds up: use its running sum.": np.tril(
                b * products * np.exp(g[:, None] - g), -1
            ),
            "That is the upper triangle: earlier tokens would be corrected by later ones.": np.triu(
                b * products * Gamma.T, 1
            ),
        },
    )
    return "Row r needs only earlier rows: that is causality, written as a triangle."


@exercise("4.2", "Carry the state")
def carry(answer: Callable) -> str:
    rng = np.random.default_rng(42)
    _, K, U, g, _ = _sample(42)
    S, G = rng.normal(size=(3, 2)), np.cumsum(g)
    left = np.exp(G[-1] - G)[:, None]
    expect_close(
        answer(K, U, g, S),
        np.exp(G[-1]) * S + (left * K).T @ U,
        "the state after the chunk",
        mistakes={
            "The old state has to fade as well: exp(G_C) * S.": S + (left * K).T @ U,
            "What the chunk writes fades too, from its token to the end: exp(G_C - G).": np.exp(G[-1]) * S + K.T @ U,
            "exp(G) is the decay since the beginning; a write fades from its own token to the end.": np.exp(G[-1]) * S
            + (np.exp(G)[:, None] * K).T @ U,
            "You used the last gate alone for the old state; it passes all gates of the chunk.": np.exp(g[-1]) * S
            + (left * K).T @ U,
            "That is only what the chunk writes; the old state is missing.": (left * K).T @ U,
            "That is exp(G - G_C): the writes grow.": np.exp(G[-1]) * S + (K / left).T @ U,
        },
    )
    return "With one token it is (4.1)."


@exercise("4.3", "Three suspects")
def suspects(answer: str) -> str:
    letters = {"mask": "m", "order": "o", "beta": "b"}
    want = "".join(letters[FAULTS[n]] for n in (1, 2, 3))
    got = str(answer).strip().lower()
    if sorted(got) != sorted(want):
        raise Wrong('Answer with three letters, one for each suspect: m, o and b in some order, such as "mob".')
    for n, (letter, right) in enumerate(zip(got, want, strict=True), 1):
        if letter == right:
            continue
        raise Wrong(f"Suspect {n}: " + CLUES[letter, right])
    return "Three probes and a recurrence to compare with find what reading the formula may not."


CLUES = {
    ("b", "m"): "with beta = 1 everywhere it is still wrong, so beta isn't its fault.",
    ("b", "o"): "with beta = 1 everywhere it is still wrong, so beta isn't its fault.",
    ("m", "b"): "with g = 0 everywhere it is still wrong, so decay isn't its fault.",
    ("o", "b"): "with g = 0 everywhere it is still wrong, so decay isn't its fault.",
    ("m", "o"): "with keys at right angles, where nothing is corrected, it is right: its reads have their decay.",
    ("o", "m"): "with keys at right angles, where nothing is corrected, it is still wrong: look at the reads.",
}


@exercise("4.4", "The museum")
def museum(answer: tuple) -> str:
    if len(answer) != 5:
        raise Wrong("Answer with a tuple of five arrays: q, k, v, g, beta.")
    q, k, v, g, beta = (np.asarray(x, dtype=float) for x in answer)
    if g.ndim != 1 or beta.shape != g.shape or any(x.ndim != 2 or len(x) != len(g) for x in (q, k, v)):
        raise Wrong("Shapes: q, k [T, Dk], v [T, Dv], g, beta [T], with the same T.")
    if np.any(g > 0):
        raise Wrong("A log decay is never positive.")
    truth, T = gated_delta_scan(q, k, v, g, beta)[0], len(g)
    if np.abs(museum_piece(q, k, v, g, beta) - truth).max() < 1e-3:
        if T < 5:
            raise Wrong(f"With {T} tokens the piece is right. Which quantity is used only from the third chunk on?")
        if not np.any(g[2:4]):
            raise Wrong("The piece is right on it. No gate of the second chunk is below 0: give it something to fade.")
        raise Wrong("The piece is right on it: make sure that something written in the first chunk is read at the end.")
    if T > 5:
        raise Wrong(f"That exposes it, with {T} tokens. There is a shorter one.")
    return "It forgets exp(G_C) on the state it hands on. Two chunks from an empty memory can't show that."


@exercise("4.5", "The best chunk")
def best_chunk(answer: Callable) -> str:
    def time(C, Dk, Dv, F, rate):
        return (3 * Dk * Dv + 2 * C * (Dk + Dv) + C**2 / 2) / F + 8 * Dk * Dv / (rate * C)

    powers = [2**n for n in range(10)]
    for machine in ((128, 128, 50e9, 10e9), (128, 128, 400e9, 10e9), (64, 256, 50e9, 40e9)):
        want = min(powers, key=lambda C: time(C, *machine))
        got = float(expect_shape(answer(*machine), (), "the chunk size"))
        if got == want:
            continue
        if got == 1:
            raise Wrong("1 minimizes the multiplications alone, (4.15). Add the time that moving the state takes.")
        if got == 512:
            raise Wrong("512 minimizes the moving of the state alone. Add the multiplications, which grow with C.")
        if got not in powers:
            raise Wrong(f"{got:g} isn't one of the sizes 1, 2, 4, ..., 512.")
        raise Wrong(f"For Dk, Dv, F, rate = {machine} the best is not {got:g}: (4.16) gives less time for {want}.")
    return "Faster arithmetic asks for larger chunks, faster memory for smaller ones."


@exercise("4.6", "The gradient of the corrected values")
def gradient(answer: Callable) -> str:
    rng = np.random.default_rng(46)
    Q, K, dO, g, _ = _sample(46)
    dS, G = rng.normal(size=(3, 2)), np.cumsum(g)
    Gamma = np.tril(np.exp(np.tril(G[:, None] - G)))
    P, kept = Q @ K.T * Gamma, Gamma[-1][:, None] * K
    expect_close(
        answer(Q, K, g, dO, dS),
        P.T @ dO + kept @ dS,
        "dU",
        mistakes={
            "P has to be transposed: u_s is read by all later tokens r.": P @ dO + kept @ dS,
            "The state handed on is missing: every u is in S_C as well.": P.T @ dO,
            "The outputs are missing: that is the gradient through S_C alone.": kept @ dS,
            "In S_C the pair s has faded by exp(G_C - G_s).": P.T @ dO + K @ dS,
            "exp(G) is the decay since the beginning; from s to the end it is exp(G_C - G_s).": P.T @ dO
            + np.exp(G)[:, None] * K @ dS,
            "The scores lack their decay: P = Q K^T * Gamma.": np.tril(Q @ K.T).T @ dO + kept @ dS,
            "The scores lack their mask: Gamma is zero above the diagonal.": (Q @ K.T * np.exp(G[:, None] - G)).T @ dO
            + kept @ dS,
        },
    )
    return "Two ways out of the chunk, two terms."


@exercise("4.7", "A short state")
def short_state(answer: str) -> str:
    sentences = {
        "a": "Compare C = 1 with C = 256 in your run: the difference is large, and it has a direction.",
        "b": "Look at the direction: how many times is a state rounded on the way, with C = 1 and with C = 256?",
        "d": "The part that stays inside a chunk never passes through the short state.",
    }
    expect_choice(answer, "c", sentences)
    return "Each handover rounds once; fewer handovers, fewer roundings. Decoding hands over at every token."
