"""Drawings of chapter 03: the family of memories, and bars with their spread."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from numpy.typing import NDArray

from reference.plotting._style import COLORS

# column (how it fades), row (how it writes), name, who uses it, color
MEMBERS = (
    (0, 1, "linear attention", "", "hebbian"),
    (1, 1, "RetNet,\nlightning attention", "MiniMax-01, -M1", "decay"),
    (2, 1, "Mamba-2", "Nemotron-3", "decay"),
    (3, 1, "GLA", "", "decay"),
    (0, 0, "DeltaNet", "", "delta"),
    (2, 0, "Gated DeltaNet", "Qwen3-Next, Qwen3.5,\nOlmo Hybrid", "gated_delta"),
    (3, 0, "KDA", "Kimi Linear", "kda"),
)
LINKS = (((0, 1), (1, 1)), ((1, 1), (2, 1)), ((2, 1), (3, 1)), ((0, 0), (2, 0)), ((2, 0), (3, 0)))
COLUMNS = (
    "never fades",
    "fixed rate\nper head",
    "rate from the token,\none per head",
    "rate from the token,\none per channel",
)
NODE_WIDTH, NODE_HEIGHT, STEP_X, STEP_Y = 1.7, 0.95, 2.1, 1.6


def draw_family() -> Figure:
    """A grid: to the right the memory fades in finer ways, downward a write corrects instead of adding."""
    fig, ax = plt.subplots(figsize=(7.6, 3.5))
    for x, y, name, users, color in MEMBERS:
        left, low = x * STEP_X - NODE_WIDTH / 2, y * STEP_Y - NODE_HEIGHT / 2
        ax.add_patch(
            FancyBboxPatch(
                (left, low),
                NODE_WIDTH,
                NODE_HEIGHT,
                boxstyle="round,pad=0,rounding_size=0.08",
                facecolor="white",
                edgecolor=COLORS[color],
                linewidth=2,
            )
        )
        shift = 0.2 if users else 0.0
        ax.text(x * STEP_X, y * STEP_Y + shift, name, ha="center", va="center", fontsize=8.5, weight="bold")
        ax.text(x * STEP_X, y * STEP_Y - 0.25, users, ha="center", va="center", fontsize=7.5)
    for (x0, y0), (x1, y1) in LINKS:
        _arrow(ax, (x0 * STEP_X + NODE_WIDTH / 2, y0 * STEP_Y), (x1 * STEP_X - NODE_WIDTH / 2, y1 * STEP_Y))
    for x in (0, 2, 3):
        _arrow(ax, (x * STEP_X, STEP_Y - NODE_HEIGHT / 2), (x * STEP_X, NODE_HEIGHT / 2))
    for x, words in enumerate(COLUMNS):
        ax.text(x * STEP_X, STEP_Y + 0.95, words, ha="center", va="center", fontsize=8.5, color="#444444")
    for y, words in enumerate(("correct", "add")):
        ax.text(-1.1, y * STEP_Y, words, ha="right", va="center", fontsize=9, color="#444444")
    ax.set(xlim=(-1.9, 3 * STEP_X + 0.95), ylim=(-0.6, STEP_Y + 1.3))
    ax.axis("off")
    return fig


def _arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    ax.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": "#555555", "shrinkA": 2, "shrinkB": 2})


def bars(ax: Axes, names: Sequence[str], runs: NDArray, colors: Sequence[str], hatches: Sequence[str]) -> None:
    """One horizontal bar per name: the mean over runs [seeds, names], its spread, and the mean as a number."""
    mean, spread = runs.mean(0), runs.std(0)
    rows = np.arange(len(names))[::-1]
    for row, x, s, color, hatch in zip(rows, mean, spread, colors, hatches, strict=True):
        ax.barh(row, x, xerr=s, color=COLORS[color], hatch=hatch, edgecolor="white", height=0.65, ecolor="black")
        ax.text(x + s + 0.02, row, f"{x:.2f}", va="center", fontsize=9)
    ax.set(yticks=rows, yticklabels=names, xlim=(0, 1.2), xticks=[0, 0.25, 0.5, 0.75, 1])
    ax.grid(False, axis="y")
