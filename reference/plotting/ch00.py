"""Drawings of chapter 00: the map of the book and the layer stacks of its models."""

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle

from reference.book.manifest import Manifest
from reference.plotting._style import GREY, SKY

# Where a chapter belongs; a number that is not listed belongs to the last part.
PARTS = {
    "A fixed-size memory": ([1, 2, 3, 4], SKY),
    "A growing memory": ([5, 6, 8], "#DDDDDD"),
    "Both in one model": ([7, 9, 10, 11, 12, 13, 14, 15, 16], "#8FD3BD"),
}

# name, note, one letter per layer: L linear, F full softmax attention, S sparse softmax attention
DRAWN_STACKS = [
    ("MiniMax-M1", "7 lightning : 1 softmax", "LLLLLLLF" * 10),
    ("Qwen3-Next", "3 Gated DeltaNet : 1 gated attention", "LLLF" * 12),
    ("Kimi Linear", "3 KDA : 1 MLA", "LLLF" * 6 + "LLF"),
    ("MiniMax-M2", "softmax in every layer", "F" * 62),
    ("DeepSeek V3.2", "sparse softmax in every layer", "S" * 61),
]
LAYER_KINDS = {
    "L": (SKY, "fixed-size state"),
    "F": ("#333333", "growing cache"),
    "S": (GREY, "growing cache, part is read"),
}


def draw_map(manifest: Manifest) -> Figure:
    """All chapters of book.yml, written or planned, in three groups that meet."""
    titles = {chapter.number: chapter.title for chapter in (*manifest.chapters, *manifest.planned)}
    listed = {number for numbers, _ in PARTS.values() for number in numbers} | {0}
    rows = (len(set(titles) - listed) + len(list(PARTS.values())[-1][0]) + 1) // 2  # of the last part
    low = 3.15 - 0.9 - 0.95 * (rows - 1) - 0.25
    fig, ax = plt.subplots(figsize=(6.4, 0.53 * (10.6 - low)))
    ax.set(xlim=(0, 10), ylim=(low, 10.6))
    ax.set_axis_off()
    _box(ax, 3.0, 9.75, 4.0, f"00  {titles[0]}", "white")
    lefts, tops, columns = [0.0, 5.2, 0.0], [8.6, 8.6, 3.15], [1, 1, 2]
    for (part, (numbers, color)), left, top, width in zip(PARTS.items(), lefts, tops, columns, strict=True):
        rest = sorted(set(titles) - listed) if part == list(PARTS)[-1] else []
        ax.text(left + (5.0 if width == 2 else 2.4), top, part, ha="center", va="center", weight="bold")
        for i, number in enumerate([*numbers, *rest]):
            x, y = left + 5.2 * (i % width), top - 0.9 - 0.95 * (i // width)
            _box(ax, x, y, 4.8, f"{number:02d}  {titles[number]}", color)
    for start, end in (
        ((4.2, 9.7), (2.6, 8.9)),
        ((5.8, 9.7), (7.4, 8.9)),
        ((2.6, 4.75), (4.2, 3.5)),
        ((7.4, 5.7), (5.8, 3.5)),
    ):
        ax.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": GREY, "lw": 1.2})
    return fig


def _box(ax: Axes, x: float, y: float, width: float, words: str, color: str) -> None:
    ax.add_patch(
        FancyBboxPatch((x + 0.1, y), width - 0.2, 0.55, boxstyle="round,pad=0.08", fc=color, ec="#555555", lw=0.8)
    )
    ax.text(x + width / 2, y + 0.27, words, ha="center", va="center", fontsize=9)


def draw_stacks() -> Figure:
    """One square per layer, from the first layer (left) to the last, for the models of the cast."""
    fig, ax = plt.subplots(figsize=(6.4, 3.6))
    for row, (name, note, layers) in enumerate(DRAWN_STACKS):
        for i, kind in enumerate(layers):
            ax.add_patch(Rectangle((i + 0.08, -row), 0.84, 0.42, fc=LAYER_KINDS[kind][0], ec="none"))
        ax.text(0, 0.55 - row, f"{name}: {note}", va="bottom", fontsize=9)
    handles = [Rectangle((0, 0), 1, 1, fc=color, label=label) for color, label in LAYER_KINDS.values()]
    ax.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=3, fontsize=9)
    ax.set(xlim=(0, 81), ylim=(-4.15, 1.0), xlabel="layer", yticks=[])
    ax.spines["left"].set_visible(False)
    ax.grid(False)
    return fig
