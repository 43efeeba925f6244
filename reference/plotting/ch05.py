"""Drawings of chapter 05: who shares keys and values, and the weights of a small model's heads."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from numpy.typing import NDArray

from reference.plotting._style import COLORS

# title, what is cached (label, number of boxes), for four query heads each
SHARING = (
    ("MHA", "k v", 4),
    ("GQA", "k v", 2),
    ("MQA", "k v", 1),
    ("MLA", "latent c", 1),
)
QUERY_HEADS = 4


def draw_groups() -> Figure:
    """Four panels: query heads above, what the cache holds per token below, lines between them."""
    fig, axes = plt.subplots(1, 4, figsize=(7.2, 2.4))
    for ax, (title, label, kept) in zip(axes, SHARING, strict=True):
        color = COLORS["gated_delta" if title == "MLA" else "softmax"]
        xs = (np.arange(kept) + 0.5) * QUERY_HEADS / kept - 0.5
        for h in range(QUERY_HEADS):
            target = xs[h * kept // QUERY_HEADS]
            ax.plot([h, target], [1, 0], color="#888888", linewidth=1.2, linestyle="--" if title == "MLA" else "-")
        for h in range(QUERY_HEADS):
            _box(ax, h, 1, 0.8, f"q{h + 1}", COLORS["delta"])
        for j, x in enumerate(xs):
            number = str(j + 1) if kept > 1 else ""
            _box(ax, x, 0, 1.6 if title == "MLA" else 0.9, label.replace(" v", number + " v") + number, color)
        if title == "MLA":
            ax.text(2.55, 0.47, "own $U_h, Z_h$\nper head", fontsize=7.5, color="#444444", ha="left", va="center")
        ax.set(xlim=(-0.75, 3.95), ylim=(-0.45, 1.45))
        ax.set_title(title, fontsize=10)
        ax.axis("off")
    axes[0].text(-0.7, -0.43, "cached per token", fontsize=8, color="#444444", ha="left", va="center")
    return fig


def _box(ax: Axes, x: float, y: float, width: float, words: str, color: str) -> None:
    style = "round,pad=0,rounding_size=0.08"
    ax.add_patch(
        FancyBboxPatch(
            (x - width / 2, y - 0.17), width, 0.34, boxstyle=style, facecolor="white", edgecolor=color, lw=1.6, zorder=3
        )
    )
    ax.text(x, y, words, ha="center", va="center", fontsize=7, zorder=4)


def draw_heads(
    weights: Sequence[NDArray],
    boundary: int,
    names: Sequence[str],
    notes: Sequence[tuple[int, float, float, str]] = (),
) -> Figure:
    """Attention weights of every head, layers below each other: weights [layers][H, T, T]; names one per layer.

    boundary: the first token of the repetition, marked by a line. notes: (layer, key, query, words), each written
    at that place of the layer's first head.
    """
    layers, heads = len(weights), len(weights[0])
    fig, axes = plt.subplots(layers, heads, figsize=(1.75 * heads + 0.4, 1.85 * layers), sharex=True, sharey=True)
    for layer, row in enumerate(axes):
        for head, ax in enumerate(row):
            image = ax.imshow(weights[layer][head], vmin=0, vmax=1)
            ax.axhline(boundary - 0.5, color="white", linewidth=0.8, linestyle=":")
            ax.set_title(f"{names[layer]}, head {head + 1}", fontsize=8.5)
            ax.grid(False)
        row[0].set_ylabel("query")
    for layer, key, query, words in notes:
        axes[layer][0].text(key, query, words, color="white", fontsize=7.5, va="center")
    for ax in axes[-1]:
        ax.set_xlabel("key")
    fig.colorbar(image, ax=axes, shrink=0.7, label="weight")
    return fig
