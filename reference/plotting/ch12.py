"""Drawings of chapter 12: rows of a fused tensor, and layer strips of the families."""

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from reference.plotting._style import COLORS

MIXER_STYLES = {
    "full_attention": ("softmax", "", "softmax"),
    "sliding_attention": ("softmax", "////", "softmax, window"),
    "latent_attention": ("perceptron", "", "latent (MLA)"),
    "indexed_attention": ("perceptron", "....", "latent, sparse"),
    "linear_attention": ("gated_delta", "", "Gated DeltaNet"),
    "kda": ("kda", "xx", "KDA"),
    "lightning_attention": ("decay", "\\\\\\\\", "lightning"),
}


def draw_strips(stacks: dict[str, tuple[str, ...]]) -> Figure:
    """One strip per family, a cell per layer, colored and hatched by mixer; layers of a family have equal width."""
    fig, ax = plt.subplots(figsize=(6.4, 0.36 * len(stacks) + 1.1))
    used = []
    for row, kinds in enumerate(stacks.values()):
        for n, kind in enumerate(kinds):
            color, hatch, _ = MIXER_STYLES[kind]
            ax.barh(row, 1, left=n, height=0.72, color=COLORS[color], hatch=hatch, edgecolor="white", lw=0.3)
            used += [kind] if kind not in used else []
    ax.set(
        yticks=range(len(stacks)), yticklabels=list(stacks), xlabel="layer", xlim=(0, max(map(len, stacks.values())))
    )
    ax.invert_yaxis()
    ax.grid(False)
    patches = []
    for kind in MIXER_STYLES:
        if kind in used:
            color, hatch, label = MIXER_STYLES[kind]
            face = COLORS[color]
            patches.append(plt.Rectangle((0, 0), 1, 1, facecolor=face, hatch=hatch, edgecolor="white", label=label))
    fig.legend(handles=patches, loc="outside lower center", ncols=4)
    return fig


def draw_rows(layouts: dict[str, list[tuple[str, int]]]) -> Figure:
    """Rows of a matrix from top to bottom as bars from left to right: (letter, number of rows) in the file's order."""
    colors = {"q": "delta", "k": "hebbian", "v": "gated_delta", "z": "softmax"}
    fig, axes = plt.subplots(len(layouts), 1, figsize=(6.4, 0.75 * len(layouts) + 0.7), sharex=True, squeeze=False)
    for ax, (title, parts) in zip(axes[:, 0], layouts.items(), strict=True):
        left = 0
        for name, rows in parts:
            ax.barh(0, rows, left=left, color=COLORS[colors[name[0]]], edgecolor="white")
            ax.text(left + rows / 2, 0, name, ha="center", va="center", color="white", fontsize=8, weight="bold")
            left += rows
        ax.set(title=title, yticks=[])
        ax.grid(False)
    axes[-1, 0].set(xlabel="row of the tensor", xlim=(0, left))
    return fig
