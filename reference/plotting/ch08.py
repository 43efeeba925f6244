"""Drawings of chapter 08: chosen entries, the sparse layer, what it costs and finds; numbers with their spread."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle
from numpy.typing import ArrayLike, NDArray

from reference.plotting._style import COLORS

# left, low, width, height, words, color: the light path above, the heavy one below
BOXES = (
    (0.0, 1.1, 1.2, 0.9, "token\n$h_t$", "best"),
    (2.0, 2.1, 2.3, 1.0, "indexer\n64 heads of 128, 8 bits\nlooks at all t tokens", "highlight"),
    (5.1, 2.1, 1.7, 1.0, "top 2048\nno gradient\npasses", "highlight"),
    (2.0, 0.0, 2.3, 1.0, "cache\n512 + 64 numbers\nper token, all kept", "softmax"),
    (5.1, 0.0, 1.7, 1.0, "attention\n128 heads\nreads 2048", "softmax"),
    (7.6, 0.0, 1.2, 1.0, "output\n$o_t$", "best"),
)
ARROWS = (
    ((1.2, 1.7), (2.0, 2.6)),
    ((1.2, 1.4), (2.0, 0.5)),
    ((4.3, 2.6), (5.1, 2.6)),
    ((4.3, 0.5), (5.1, 0.5)),
    ((6.4, 2.1), (6.4, 1.0)),
    ((6.8, 0.5), (7.6, 0.5)),
)
TIME_LOOKS = {
    "dense": ("o-", "softmax"),
    "masked": ("^:", "best"),
    "gathered": ("s-", "highlight"),
    "indexer": ("D--", "hebbian"),
    "linear": ("v-", "gated_delta"),
}


def spread(values: ArrayLike, digits: int = 2, *, ddof: int = 0) -> str:
    """Mean and standard deviation over runs as words: "0.84 ± 0.03". ddof 1: of the seeds as a sample of all seeds,
    which is larger by a fifth for three of them."""
    values = np.asarray(values, dtype=float)
    return f"{values.mean():.{digits}f} ± {values.std(ddof=ddof):.{digits}f}"


def draw_selection(scores: NDArray, chosen: NDArray) -> Figure:
    """Index scores [T, T] (-inf: later tokens) with numbers; chosen [T, k] is framed, -1 stands for none."""
    T = len(scores)
    fig, ax = plt.subplots(figsize=(4.6, 3.8))
    shown = np.where(np.isfinite(scores), scores, np.nan)
    ax.imshow(shown, cmap="Greys", vmin=0, vmax=2 * np.nanmax(shown))
    for t in range(T):
        for s in range(t + 1):
            ax.text(s, t, f"{scores[t, s]:g}", ha="center", va="center", fontsize=10)
        for s in chosen[t][chosen[t] >= 0]:
            frame = (s - 0.44, t - 0.44)
            ax.add_patch(Rectangle(frame, 0.88, 0.88, fill=False, edgecolor=COLORS["highlight"], linewidth=2))
    ax.set(xlabel="token s", ylabel="query t", xticks=range(T), yticks=range(T))
    ax.grid(False)
    return fig


def draw_sparse_layer() -> Figure:
    """The two paths of a layer of DeepSeek V3.2, and the loss that teaches the indexer."""
    fig, ax = plt.subplots(figsize=(7.4, 2.9))
    for left, low, width, height, words, color in BOXES:
        style = "round,pad=0,rounding_size=0.08"
        box = FancyBboxPatch(
            (left, low), width, height, boxstyle=style, facecolor="white", edgecolor=COLORS[color], linewidth=2
        )
        ax.add_patch(box)
        ax.text(left + width / 2, low + height / 2, words, ha="center", va="center", fontsize=8.5)
    for tail, tip in ARROWS:
        ax.annotate("", tip, tail, arrowprops={"arrowstyle": "->", "color": "#555555", "shrinkA": 2, "shrinkB": 2})
    teach = {"arrowstyle": "->", "color": COLORS["highlight"], "linestyle": "--", "shrinkA": 2, "shrinkB": 2}
    ax.annotate("", (3.6, 2.1), (5.3, 1.0), arrowprops=teach)
    ax.text(3.35, 1.5, "KL loss (training)", fontsize=8.5, ha="right", va="center", color=COLORS["highlight"])
    ax.text(6.5, 1.55, "which tokens", fontsize=8.5, ha="left", va="center")
    ax.set(xlim=(-0.1, 8.9), ylim=(-0.1, 3.2))
    ax.axis("off")
    return fig


def doubling_ticks(ax: Axes, x: Sequence[float], xlabel: str, ylabel: str) -> None:
    """A log axis with plain numbers at x and nothing between."""
    ax.set(xscale="log", xlabel=xlabel, ylabel=ylabel)
    ax.set_xticks(x, [f"{value:g}" for value in x])
    ax.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)


def _mean_lines(ax: Axes, x: Sequence[float], runs: dict[str, ArrayLike], looks: dict[str, tuple[str, str]]) -> None:
    """One line per name with its spread over seeds: runs[name] [seeds, len(x)], looks[name] = (format, color)."""
    for name, values in runs.items():
        style, color = looks[name]
        ax.errorbar(x, np.mean(values, 0), np.std(values, 0), fmt=style, color=COLORS[color], label=name, markersize=5)
    doubling_ticks(ax, x, "", "")


def draw_times(lengths: Sequence[int], clock: dict[str, Sequence[float]]) -> Figure:
    """Microseconds per token against the length of the text; clock[name] holds seconds, one per length."""
    fig, ax = plt.subplots()
    for name, times in clock.items():
        style, color = TIME_LOOKS[name]
        ax.loglog(lengths, 1e6 * np.array(times) / lengths, style, color=COLORS[color], label=name)
    doubling_ticks(ax, lengths, "tokens (16 heads of 64; 64 tokens chosen)", "microseconds per token")
    ax.legend(ncols=2, fontsize=9)
    return fig


def draw_read(sizes: Sequence[int], read: dict[str, ArrayLike]) -> Figure:
    """Share of the attention weight that k tokens hold: read[name] [seeds, len(sizes)]."""
    fig, ax = plt.subplots()
    looks = {"oracle": ("o-", "softmax"), "after warm-up": ("s-", "highlight"), "not trained": ("^:", "best")}
    _mean_lines(ax, sizes, read, looks)
    ax.set(ylim=(0, 1.05), xlabel="tokens read, k (of 64 to 256)", ylabel="share of the keys' weight")
    ax.legend(loc="center", bbox_to_anchor=(0.35, 0.42))
    return fig


def draw_answers(pairs: Sequence[int], found: dict[str, ArrayLike]) -> Figure:
    """Share of right answers against the pairs in a text: found[name] [seeds, len(pairs)]."""
    fig, ax = plt.subplots()
    looks = {"dense": ("o-", "softmax"), "sparse, k = 16": ("s--", "highlight")}
    looks |= {"linear": ("v-.", "gated_delta"), "sparse, not trained": ("^:", "best")}
    _mean_lines(ax, pairs, found, looks)
    ax.set(ylim=(0, 1.08), xlabel="pairs in the text", ylabel="answers right")
    ax.legend(loc="center left", bbox_to_anchor=(0.0, 0.63))
    return fig


def draw_faults(shares: dict[str, ArrayLike]) -> Figure:
    """A bar with its number for each indexer, the first one marked; shares[name] [seeds]."""
    fig, ax = plt.subplots(figsize=(6.4, 2.6))
    for row, values in enumerate(shares.values()):
        mean, deviation, y = np.mean(values), np.std(values), len(shares) - 1 - row
        ax.barh(y, mean, xerr=deviation, color=COLORS["highlight" if row == 0 else "best"], height=0.6)
        ax.text(mean + deviation + 0.02, y, f"{mean:.2f}", va="center", fontsize=9)
    rows = range(len(shares) - 1, -1, -1)
    ax.set(yticks=rows, yticklabels=shares, xlim=(0, 1.15), xlabel="answers right (16 tokens read)")
    return fig


def draw_bill(t: NDArray, counts: NDArray, cache: int, light_bytes: int, state: int) -> Figure:
    """Work and memory of one layer against the length t.

    counts [len(t), 4]: multiplications per token, dense, indexer, sparse attention, linear; cache and light_bytes:
    bytes per token of the latents and of the indexer's keys; state: bytes of the linear layer's state.
    """
    fig, (left, right) = plt.subplots(1, 2, figsize=(7.4, 3.3))
    left.loglog(t, counts[:, 0] / 1e6, "-", color=COLORS["softmax"], label="dense")
    left.loglog(t, counts[:, 1:3].sum(1) / 1e6, "--", color=COLORS["highlight"], label="sparse")
    left.loglog(t, counts[:, 1] / 1e6, ":", color=COLORS["hebbian"], label="its indexer")
    left.loglog(t, counts[:, 3] / 1e6, "-.", color=COLORS["gated_delta"], label="linear")
    right.loglog(t, cache * t / 2**20, "-", color=COLORS["softmax"])
    right.loglog(t, (cache + light_bytes) * t / 2**20, "--", color=COLORS["highlight"])
    right.loglog(t, np.full(len(t), state / 2**20), "-.", color=COLORS["gated_delta"])
    left.set(ylabel="million multiplications per token", title="work")
    right.set(ylabel="MiB per layer", title="memory")
    for ax in (left, right):
        ax.set(xlabel="tokens so far", xticks=[1e3, 1e4, 1e5, 1e6])
    left.legend(fontsize=8)
    return fig
