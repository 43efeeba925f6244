"""Checks for the exercises of chapter 14: the reader's kernels run in the emulation."""

from collections.abc import Callable

import numpy as np

from reference.checks._verdict import Wrong, exercise, expect_choice, expect_close
from reference.kernels.emulation import emulate, tl
from reference.kernels.memory import Ran


def run_answer(kernel: Callable, grid: tuple[int, ...], *arguments: object, **constants: object) -> Ran:
    """emulate, with what goes wrong said for a learner."""
    try:
        ran = emulate(kernel, grid, *arguments, **constants)
    except IndexError as error:
        raise Wrong(f"In the emulation: {error}") from None
    if ran.races:
        raise Wrong(f"Two programs meet: {ran.races[0]}.")
    return ran


@exercise("14.1", "Mask the last chunk")
def mask_the_last_chunk(answer: Callable) -> str:
    g = -np.random.default_rng(141).random(11).astype(np.float32)
    for T, C in ((8, 4), (11, 4), (11, 8), (3, 4)):
        G = np.full(T, 7.0, dtype=np.float32)
        run_answer(answer, (-(-T // C),), g[:T].copy(), G, T, C=C)
        parts = [np.cumsum(g[t : min(t + C, T)]) for t in range(0, T, C)]
        expect_close(
            G,
            np.concatenate(parts),
            f"G for T = {T}, C = {C}",
            mistakes={
                "You sum over the whole text. G starts again in each chunk.": np.cumsum(g[:T]),
                "You copied g. The running sum is tl.cumsum(x, 0).": g[:T],
                "You summed each chunk as a whole: tl.cumsum gives the running sum.": np.concatenate(
                    [np.full(len(part), part[-1]) for part in parts]
                ),
                "Nothing was written: G still holds what it held before.": np.full(T, 7.0),
            },
        )
    return "One comparison, used twice: the load and the store of a chunk share its mask."


def carried(k: np.ndarray, u: np.ndarray, g: np.ndarray, C: int, fade: str = "until") -> np.ndarray:
    """The state after all chunks by (4.6), or with a known mistake in what fades."""
    S = np.zeros((k.shape[1], u.shape[1]), dtype=np.float32)
    for t in range(0, len(k), C):
        G = np.cumsum(g[t : t + C])
        inside = {"until": np.exp(G[-1] - G), "since": np.exp(G), "none": np.ones_like(G), "whole": np.exp(G[-1] - G)}
        S = (1.0 if fade == "whole" else np.exp(G[-1])) * S + (inside[fade][:, None] * k[t : t + C]).T @ u[t : t + C]
    return S


@exercise("14.2", "Write the carry")
def write_the_carry(answer: Callable) -> str:
    rng = np.random.default_rng(142)
    for T, C in ((4, 4), (12, 4), (11, 4), (9, 8)):
        k, u = (rng.normal(size=(T, D)).astype(np.float32) for D in (4, 2))
        g = -rng.random(T).astype(np.float32)
        last = np.zeros((4, 2), dtype=np.float32)
        run_answer(answer, (1,), k, u, g, last, T, DK=4, DV=2, C=C)
        expect_close(
            last,
            carried(k, u, g, C),
            f"last for T = {T}, C = {C}",
            mistakes={
                "What token s wrote fades from s to the chunk's end: e^{G_C - G_s}, not e^{G_s}.": carried(
                    k, u, g, C, "since"
                ),
                "What the chunk wrote doesn't fade: e^{G_C - G_s} is missing.": carried(k, u, g, C, "none"),
                "The state that enters the chunk doesn't fade: e^{G_C} is missing.": carried(k, u, g, C, "whole"),
                "Only the last chunk is there. Add the faded state of those before.": carried(
                    k[T - 1 - (T - 1) % C :], u[T - 1 - (T - 1) % C :], g[T - 1 - (T - 1) % C :], C
                ),
                "Nothing was written into last.": np.zeros((4, 2)),
            },
            tol=1e-5,
        )
    return "Behind the end the masked tokens have k = 0 and g = 0: they write nothing, and nothing fades."


def sums_by_head(parts, dk, T, H, GROUP: tl.constexpr, D: tl.constexpr) -> None:
    """Grid (H x GROUP,): value head h adds its part [T, H x GROUP, D] to its key head's dk [T, H, D]."""
    h = tl.program_id(0)
    d = tl.arange(0, D)
    for t in range(T):
        at = (t * H + h // GROUP) * D + d
        part = tl.load(parts + (t * H * GROUP + h) * D + d)
        tl.store(dk + at, tl.load(dk + at) + part)


def shifts_rows(x, y, T, D: tl.constexpr) -> None:
    """Grid (T,): y[t] = x[t] + x[t - 1], the first row alone."""
    t = tl.program_id(0)
    d = tl.arange(0, D)
    before = tl.load(x + (t - 1) * D + d, mask=(t > 0) & (d < D), other=0.0)  # a mask has its tile's shape
    tl.store(y + t * D + d, tl.load(x + t * D + d) + before)


def fades_in_place(u, g, T, D: tl.constexpr) -> None:
    """Grid (1,): u[t] = e^{g_t} u[t - 1] + u[t], in place, token after token."""
    d = tl.arange(0, D)
    S = tl.zeros([D], tl.float32)
    for t in range(T):
        S = tl.exp(tl.load(g + t)) * S + tl.load(u + t * D + d)
        tl.store(u + t * D + d, S)


@exercise("14.3", "Find the race")
def find_the_race(answer: object) -> str:
    sentences = {
        "b": "Program t reads two rows of x and writes one row of y, its own. Reading together is no race.",
        "c": "It writes where it reads, but there is one program, and a program's own lines run in order.",
        "d": "One of them lets two programs read and write one number. Ask who writes dk[t, 0] if GROUP is 2.",
    }
    expect_choice(answer, "a", sentences)
    return "The value heads of one group load, add and store the same numbers: of two at once, one addition is lost."


@exercise("14.4", "Repair it")
def repair_the_race(answer: Callable) -> str:
    rng = np.random.default_rng(144)
    for T, H, GROUP in ((5, 2, 2), (3, 1, 4), (4, 3, 1)):
        parts = rng.normal(size=(T, H, GROUP, 4)).astype(np.float32)
        dk = np.full((T, H, 4), 7.0, dtype=np.float32)
        run_answer(answer, (H,), parts, dk, T, H, GROUP=GROUP, D=4)
        expect_close(
            dk,
            parts.sum(2),
            f"dk for T = {T}, H = {H}, GROUP = {GROUP}",
            mistakes={
                "dk holds what it held before, plus your sum. Start from zeros, not from a load of dk.": parts.sum(2)
                + 7,
                "Only one head of each group is there. Loop over range(GROUP).": parts[:, :, -1],
                "Only the first head of each group is there. Loop over range(GROUP).": parts[:, :, 0],
                "Nothing was written into dk.": np.full_like(dk, 7.0),
            },
            tol=1e-5,
        )
    return "Each number has one writer, and no program waits. The price: GROUP times fewer programs."


@exercise("14.5", "Choose the block")
def choose_the_block(answer: Callable) -> str:
    for heads, DV, processors, wanted in (
        (32, 128, 132, 16),
        (64, 128, 132, 32),
        (256, 128, 132, 128),
        (4, 64, 132, 16),
    ):
        got = answer(heads, DV, processors)
        known = {}
        if heads == 64:
            known = {
                "With 64 there are 128 programs: four processors stay idle.": 64,
                "That fills the processors; a larger block does too, and loads q and k less often.": 16,
            }
        if heads == 4:
            known = {"tl.dot needs 16 at least, even where that leaves processors idle.": 1}
        expect_close(got, wanted, f"the block for {heads} heads, DV = {DV}", mistakes=known)
    return "Small blocks fill the GPU and load q and k again for each block; large ones do the opposite."
