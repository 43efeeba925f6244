"""Drawings of chapter 06: the step that makes a head silent, and the variants of one model, one dot per seed."""

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reference.plotting._style import COLORS

VARIANT_STYLES = {
    "softmax": ("o-", COLORS["softmax"]),
    "gated": ("s--", COLORS["gated_delta"]),
    "headwise": ("D--", COLORS["decay"]),
    "sink_logit": ("^:", COLORS["kda"]),
    "off_by_one": ("v-.", COLORS["hebbian"]),
    "linear": ("P-", COLORS["perceptron"]),
}


def dots_per_seed(ax: Axes, metrics: dict[str, dict[str, list[float]]], name: str) -> None:
    """One row per variant, the first on top, one marker per seed, a bar at their mean."""
    for row, (variant, columns) in enumerate(metrics.items()):
        style, color = VARIANT_STYLES[variant]
        ax.plot(columns[name], [-row] * len(columns[name]), style[0], color=color, markersize=6, alpha=0.7)
        mean = sum(columns[name]) / len(columns[name])
        ax.plot([mean, mean], [-row - 0.3, -row + 0.3], "-", color=color, linewidth=1.5)
    ax.set_yticks([-row for row in range(len(metrics))], list(metrics))


def draw_switch(V: np.ndarray, V_next: np.ndarray, weights: np.ndarray, path: np.ndarray) -> Figure:
    """Values [S, 2] as arrows before a step (equal weights) and after it, and what becomes of a shared token.

    weights  [S] after the step
    path     [steps, 3]: weight on the shared token, length of its value, mean length of the outputs
    """
    fig, (before, after, long_run) = plt.subplots(1, 3, figsize=(7.6, 2.9), width_ratios=(1, 1, 1.1))
    equal = np.full(len(V), 1 / len(V))
    for ax, values, p, title in ((before, V, equal, "equal weights"), (after, V_next, weights, "one step later")):
        _draw_values(ax, values, p)
        ax.set(title=title, xlim=(-0.2, 3.9), ylim=(-2.5, 1.6), xticks=range(4), yticks=range(-2, 2))
    looks = (("-", "softmax", "weight on token 0"), ("--", "highlight", "length of its value"))
    for column, (style, color, label) in zip(path.T, (*looks, (":", "best", "length of the output")), strict=True):
        long_run.plot(column, style, color=COLORS[color], label=label)
    long_run.set(title="200 queries, one token 0", xlabel="step", ylim=(0, 1.05))
    long_run.legend(fontsize=7, loc="center right")
    return fig


def _draw_values(ax: Axes, values: np.ndarray, p: np.ndarray) -> None:
    """Value arrows with their weights, their mean as a thick arrow, and a line across its tip."""
    o = p @ values
    across = np.array([-o[1], o[0]]) / np.linalg.norm(o)
    ends = np.stack([o - 2.3 * across, o + 1.4 * across])
    ax.plot(*ends.T, "--", color=COLORS["best"], linewidth=1)
    arrow = {"angles": "xy", "scale_units": "xy", "scale": 1}
    ax.quiver(*np.zeros((2, len(values))), *values.T, color=COLORS["softmax"], width=0.012, **arrow)
    ax.quiver(0, 0, *o, color=COLORS["highlight"], width=0.024, alpha=0.8, **arrow)
    words = {"textcoords": "offset points", "fontsize": 8}
    for n, (value, weight) in enumerate(zip(values, p, strict=True)):
        ax.annotate(f"$v_{n}$: {weight:.2f}", value, (-8, 6 if value[1] >= 0 else -12), **words)
    ax.annotate("output", o / 2, (0, -13), color=COLORS["highlight"], ha="center", **words)
    ax.set_aspect("equal")
    ax.grid(False)
