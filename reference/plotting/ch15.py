"""Drawings of chapter 15: what a memory keeps so that it can go back."""

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from reference.plotting._style import COLORS

KINDS = {
    "state": ("#333333", "white", ""),
    "kept": (COLORS["gated_delta"], "white", ""),
    "guess": (COLORS["best"], "white", "//"),
    "gone": ("white", "#999999", "xx"),
}


def draw_cursor(rows: dict[str, tuple[str, list[tuple[str, str]]]]) -> Figure:
    """One row per moment: title -> (what the state has read, [(word, kind)] of the tokens beside it).

    kind is "kept", "guess" (not verified yet) or "gone" (taken back). A line marks the cursor, behind the last token
    that counts.
    """
    fig, axes = plt.subplots(len(rows), 1, figsize=(6.4, 0.85 * len(rows) + 0.2))
    for ax, (title, (read, tokens)) in zip(axes, rows.items(), strict=True):
        _cell(ax, 0.0, 2.2, f"state: {read}", "state")
        for n, (word, kind) in enumerate(tokens):
            _cell(ax, 2.3 + n, 0.95, word, kind)
        cursor = 2.27 + sum(kind != "gone" for _, kind in tokens)
        ax.plot([cursor, cursor], [-0.12, 0.72], color=COLORS["highlight"], linewidth=2.2)
        ax.set(xlim=(-0.1, 9.4), ylim=(-0.15, 0.75))
        ax.set_title(title, loc="left", fontsize=9)
        ax.set_axis_off()
    return fig


def _cell(ax: Axes, left: float, width: float, word: str, kind: str) -> None:
    face, ink, hatch = KINDS[kind]
    ax.add_patch(Rectangle((left, 0), width, 0.6, facecolor=face, edgecolor="#999999", hatch=hatch, linewidth=0.8))
    box = {"facecolor": face, "edgecolor": "none", "pad": 1.0} if hatch else None
    ax.text(left + width / 2, 0.3, word, ha="center", va="center", fontsize=9, color=ink, bbox=box)
