"""Drawings of chapter 07: the wiring of the two blocks, and the frame that both stand in."""

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from reference.plotting._style import COLORS

# kind of box: (edge color, line style, face color)
BOX_STYLES = {
    "weights": (COLORS["delta"], "-", "#E3F0F8"),  # a matrix product, or a convolution
    "plain": ("#666666", "-", "white"),  # per token, few weights or none
    "mixes": (COLORS["gated_delta"], "-", "#DDF2EA"),  # where tokens meet
    "gate": (COLORS["highlight"], "-", "#FBE9DF"),
    "state": (COLORS["softmax"], "--", "white"),  # kept for the next token
}
KIND_NAMES = {
    "weights": "matrix of weights",
    "plain": "norm or formula",
    "gate": "gate",
    "mixes": "where tokens meet",
    "state": "kept for the next token",
}
BOX_HEIGHT = 0.5


def draw_frame() -> Figure:
    """The residual block from left to right, and below it the order of blocks in a stack of 48."""
    fig, (top, bottom) = plt.subplots(2, 1, figsize=(7.2, 3.0), height_ratios=(2.1, 1))
    for x, words, kind, width in (
        (1.3, "RMSNorm\n$\\times (1 + w)$", "plain", 1.1),
        (3.0, "mixer:\nD or A", "mixes", 1.1),
        (6.0, "RMSNorm\n$\\times (1 + w)$", "plain", 1.1),
        (7.7, "SwiGLU", "weights", 1.1),
    ):
        _box(top, x, 0, words, width, kind, height=0.8)
    for x in (4.4, 9.1):
        top.text(x, 0, "+", ha="center", va="center", fontsize=13, zorder=4)
        top.plot(x, 0, "o", color="white", markeredgecolor="#444444", markersize=15, zorder=3)
    for begin, end in ((0, 0.75), (1.85, 2.45), (3.55, 4.2), (4.6, 5.45), (6.55, 7.15), (8.25, 8.9), (9.3, 10)):
        _arrow(top, (begin, 0), (end, 0))
    for begin, end in ((0.25, 4.4), (4.95, 9.1)):  # the residual stream passes by
        top.plot([begin, begin, end], [0, 0.95, 0.95], color="#444444", linewidth=1)
        _arrow(top, (end, 0.95), (end, 0.2))
    for x, words in ((0, "$x$"), (10.25, "$x$"), (2.15, "$h$"), (3.85, "$y$")):
        top.text(x, 0.12, words, ha="center", va="bottom", fontsize=9)
    top.text(7, 1.05, "every arrow: [T, d]", ha="center", va="bottom", fontsize=8, color="#444444")
    top.set(xlim=(-0.3, 10.6), ylim=(-0.55, 1.35))
    for layer in range(48):
        full = layer % 4 == 3
        color = COLORS["softmax" if full else "gated_delta"]
        bottom.bar(layer, 1.0 if full else 0.6, width=0.8, color=color, hatch="" if full else "///", edgecolor="white")
    bottom.text(47.7, -0.1, "layer 47", ha="right", va="top", fontsize=8)
    bottom.text(-0.5, -0.1, "layer 0", ha="left", va="top", fontsize=8)
    words = "36 hatched: D, Gated DeltaNet        12 solid: A, gated attention"
    bottom.text(23.5, -0.1, words, ha="center", va="top", fontsize=8)
    bottom.set(ylim=(-0.6, 1.05), xlim=(-0.8, 47.8))
    for ax in (top, bottom):
        ax.axis("off")
    return fig


def draw_attention_block() -> Figure:
    """Gated attention, top to bottom: a column each for the gate, q, k and v."""
    fig, ax = plt.subplots(figsize=(7.2, 5.4))
    gate, q, k, v = 0.0, 2.1, 4.2, 6.3
    _box(ax, 3.15, 7, "$h$: the block's input, normed", 7.6, "plain")
    _box(ax, (gate + q) / 2, 6, "q_proj", 3.4, "weights")
    _box(ax, k, 6, "k_proj", 1.3, "weights")
    _box(ax, v, 6, "v_proj", 1.3, "weights")
    for x in (q, k):
        _box(ax, x, 5, "RMSNorm per head\n$\\times (1 + w)$", 1.75, "plain", height=0.62)
        _box(ax, x, 4, "turn a quarter (RoPE)", 1.75, "plain")
    _box(ax, k + 1.05, 3, "KV cache", 3.6, "state")
    _box(ax, 4.2, 2, "softmax attention, query head $j$ reads key head $\\lfloor j H_K / H \\rfloor$", 5.6, "mixes")
    _box(ax, gate, 2, "sigmoid", 1.3, "gate")
    _times(ax, 2.1, 1)
    _box(ax, 2.1, 0, "o_proj", 3.4, "weights")
    for x, width in (((gate + q) / 2, "[T, d]"), (k, "[T, d]"), (v, "[T, d]")):
        _down(ax, x, 7, 6, width)
    _down(ax, gate, 6, 2, "[T, H, D]")
    _down(ax, q, 6, 5, "[T, H, D]", tall=0.62)
    _down(ax, k, 6, 5, "[T, $H_K$, D]", tall=0.62)
    for x, shape in ((q, "[T, H, D]"), (k, "[T, $H_K$, D]")):
        _arrow(ax, (x, 4.69), (x, 4.25))
        ax.text(x + 0.07, 4.47, shape, fontsize=7.5, va="center")
    _down(ax, q, 4, 2, "[T, H, D]")
    _down(ax, k, 4, 3, "[T, $H_K$, D]")
    _down(ax, v, 6, 3, "[T, $H_K$, D]")
    for x in (k, v):
        _down(ax, x, 3, 2, "[S, $H_K$, D]")
    _down(ax, 2.1, 2, 1, "[T, H, D]", stop=0.22)
    _elbow(ax, gate, 1.75, 2.1, 1, "[T, H, D]")
    _down(ax, 2.1, 1, 0, "[T, H D]", start=0.22)
    _down(ax, 2.1, 0, -0.75, "[T, d]", stop=0)
    _legend(ax, 4.35, 0.95)
    ax.set(xlim=(-1.0, 7.3), ylim=(-0.8, 7.35))
    ax.axis("off")
    return fig


def draw_delta_block() -> Figure:
    """Gated DeltaNet, top to bottom: columns for z, q, k, v, the write strength and the decay."""
    fig, ax = plt.subplots(figsize=(7.2, 6.0))
    z, q, k, v, b, a = 0.0, 1.85, 3.45, 5.05, 7.9, 9.65
    _box(ax, 4.95, 8, "$h$: the block's input, normed", 11.3, "plain")
    _box(ax, k, 7, "in_proj_qkv", 4.3, "weights")
    for x, name in ((z, "in_proj_z"), (b, "in_proj_b"), (a, "in_proj_a")):
        _box(ax, x, 7, name, 1.4, "weights")
    _box(ax, k, 6, "convolution over 4 tokens, then silu", 4.3, "weights")
    _box(ax, 6.55, 6, "last 3\ntokens", 1.1, "state", height=0.6)
    _arrow(ax, (5.6, 6.1), (6.0, 6.1))
    _arrow(ax, (6.0, 5.9), (5.6, 5.9))
    for x in (q, k):
        _box(ax, x, 5, "$\\div$ length", 1.3, "plain")
    _box(ax, b, 5, "sigmoid", 1.3, "gate")
    _box(ax, a, 5, "$-e^{A}$softplus$(\\cdot + b)$", 2.0, "gate")
    words = "gated delta rule: value head $j$ has the keys of head $\\lfloor j H / H_V \\rfloor$"
    _box(ax, 5.75, 4, words, 9.2, "mixes")
    _box(ax, 7.0, 3, "matrix $S$ per value head: [$H_V$, $D_k$, $D_v$]", 4.9, "state")
    _arrow(ax, (6.5, 3.75), (6.5, 3.25))
    _arrow(ax, (7.5, 3.25), (7.5, 3.75))
    _box(ax, 2.5, 3, "RMSNorm per head", 2.2, "plain")
    _box(ax, z, 2, "silu", 1.3, "gate")
    _times(ax, 2.5, 2)
    _box(ax, 2.5, 1, "out_proj", 2.6, "weights")
    for x in (z, k, b, a):
        _down(ax, x, 8, 7, "[T, d]")
    _down(ax, k, 7, 6, "[T, 2 H $D_k$ + $H_V$ $D_v$]")
    for x in (q, k):
        _down(ax, x, 6, 5, "[T, H, $D_k$]")
        _down(ax, x, 5, 4, "[T, H, $D_k$]")
    _down(ax, v, 6, 4, "[T, $H_V$, $D_v$]")
    for x, name in ((b, "$\\beta$"), (a, "$g$")):
        _down(ax, x, 7, 5, "[T, $H_V$]")
        _down(ax, x, 5, 4, f"{name} [T, $H_V$]")
    _down(ax, z, 7, 2, "[T, $H_V$, $D_v$]")
    _down(ax, 2.5, 4, 3, "[T, $H_V$, $D_v$]")
    _down(ax, 2.5, 3, 2, "[T, $H_V$, $D_v$]", stop=0.22)
    _arrow(ax, (0.65, 2), (2.25, 2))
    _down(ax, 2.5, 2, 1, "[T, $H_V$ $D_v$]", start=0.22)
    _down(ax, 2.5, 1, 0.2, "[T, d]", stop=0)
    _legend(ax, 6.3, 2.0)
    ax.set(xlim=(-0.85, 10.75), ylim=(0.1, 8.35))
    ax.axis("off")
    return fig


def _box(ax: Axes, x: float, y: float, words: str, width: float, kind: str, *, height: float = BOX_HEIGHT) -> None:
    edge, style, face = BOX_STYLES[kind]
    corner, shape = (x - width / 2, y - height / 2), "round,pad=0,rounding_size=0.08"
    ax.add_patch(
        FancyBboxPatch(
            corner, width, height, boxstyle=shape, facecolor=face, edgecolor=edge, linestyle=style, lw=1.4, zorder=3
        )
    )
    ax.text(x, y, words, ha="center", va="center", fontsize=8, zorder=4)


def _arrow(ax: Axes, begin: tuple[float, float], end: tuple[float, float]) -> None:
    look = {"arrowstyle": "-|>", "color": "#444444", "shrinkA": 0, "shrinkB": 0, "linewidth": 1, "mutation_scale": 9}
    ax.annotate("", end, begin, arrowprops=look)


def _down(
    ax: Axes,
    x: float,
    y: float,
    below: float,
    shape: str,
    *,
    start: float = 0.25,
    stop: float = 0.25,
    tall: float = 0.0,
) -> None:
    """An arrow from the box at height y to the one at height `below`, its shape written at its right."""
    begin, end = y - start, below + (tall / 2 if tall else stop)
    _arrow(ax, (x, begin), (x, end))
    ax.text(x + 0.07, begin - min(begin - end, 0.5) / 2, shape, fontsize=7.5, va="center")


def _elbow(ax: Axes, x: float, y: float, to_x: float, to_y: float, shape: str) -> None:
    ax.plot([x, x], [y, to_y], color="#444444", linewidth=1)
    _arrow(ax, (x, to_y), (to_x - 0.22, to_y))
    ax.text((x + to_x) / 2, to_y + 0.1, shape, fontsize=7.5, va="bottom", ha="center")


def _times(ax: Axes, x: float, y: float) -> None:
    ax.plot(x, y, "o", color="white", markeredgecolor=COLORS["highlight"], markersize=15, zorder=3)
    ax.text(x, y, "$\\times$", ha="center", va="center", fontsize=11, zorder=4)


def _legend(ax: Axes, x: float, y: float) -> None:
    for row, (kind, words) in enumerate(KIND_NAMES.items()):
        _box(ax, x, y - 0.32 * row, "", 0.34, kind, height=0.2)
        ax.text(x + 0.3, y - 0.32 * row, words, fontsize=7.5, va="center")
