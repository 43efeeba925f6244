"""Drawings of chapter 09: curves of three stacks, and of the heads inside one of them."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from reference.plotting._style import COLORS

STACK_LOOKS = {"linear": ("--", "gated_delta"), "hybrid": ("-", "highlight"), "softmax": (":", "softmax")}
LAYER_LOOKS = (("-", "gated_delta"), ("--", "delta"), (":", "highlight"))


def stack_curves(
    x: Sequence[float], curves: dict[str, ArrayLike], xlabel: str, ylabel: str, *, band: bool = False
) -> tuple[Figure, Axes]:
    """One curve per stack in that stack's color.

    x                 [N]
    curves[stack]     [N], or [seeds, N]: then the mean with bars of one standard deviation
    band              from the lowest to the highest seed in place of the bars
    """
    fig, ax = plt.subplots()
    for stack, values in curves.items():
        style, color = STACK_LOOKS[stack]
        runs = np.atleast_2d(values)
        look = {"color": COLORS[color], "label": stack}
        if band:
            ax.plot(x, runs.mean(0), style, **look)
            ax.fill_between(x, runs.min(0), runs.max(0), color=COLORS[color], alpha=0.2)
        elif len(runs) > 1:
            ax.errorbar(x, runs.mean(0), runs.std(0), fmt="o" + style, capsize=2, **look)
        else:
            ax.plot(x, runs[0], "o" + style, **look)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.legend()
    return fig, ax


def head_curves(x: Sequence[float], by_head: ArrayLike, heads: int, xlabel: str, ylabel: str) -> tuple[Figure, Axes]:
    """One curve per head, in the color of its layer: by_head [N, layers x heads], `heads` of them per layer."""
    fig, ax = plt.subplots()
    for n, values in enumerate(np.asarray(by_head).T):
        layer, head = divmod(n, heads)
        style, color = LAYER_LOOKS[layer]
        ax.plot(x, values, style, color=COLORS[color], label=f"layer {layer}" if head == 0 else None)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
    return fig, ax


def draw_snapshots(*, every: int, read: int, shared: int, length: int) -> Figure:
    """An earlier text of `read` tokens with its snapshots; a new one of `length` begins with `shared` of them."""
    fig, ax = plt.subplots(figsize=(6.8, 1.9))
    kept = shared // every * every
    parts = (
        (1, 0, read, "best", "", "read before"),
        (0, 0, kept, "gated_delta", "", "taken from the snapshot"),
        (0, kept, shared, "highlight", "//", "read again"),
        (0, shared, length, "decay", "..", "new"),
    )
    for row, begin, end, color, hatch, label in parts:
        look = {"color": COLORS[color], "hatch": hatch, "edgecolor": "white"}
        ax.barh(row, end - begin, left=begin, height=0.45, label=label, **look)
    for at in range(every, read + 1, every):
        ax.plot(at, 1.42, "v", color=COLORS["softmax"], ms=7, label="snapshot" if at == every else None)
    ax.plot([kept, kept], [0.3, 1.35], ":", color=COLORS["softmax"], linewidth=1)
    ax.set(yticks=(0, 1), yticklabels=("new text", "earlier text"), xlabel="tokens", ylim=(-0.4, 1.75))
    ax.grid(visible=False)
    fig.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize=7.5)
    return fig
