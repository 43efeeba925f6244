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
