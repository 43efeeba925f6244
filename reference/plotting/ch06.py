"""Drawings of chapter 06: the variants of one model, one dot per seed."""

from matplotlib.axes import Axes

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
