"""Drawings of chapter 11: lines by mixer, chains of corrections, bars beside bars."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reference.plotting._style import COLORS

MIXER_LINES = {  # color, line, marker
    "softmax": ("softmax", "-", "o"),
    "softmax, 2 key heads": ("softmax", "--", "s"),
    "window": ("softmax", ":", "^"),
    "MLA": ("perceptron", "-", "D"),
    "sparse MLA": ("perceptron", "--", "v"),
    "Gated DeltaNet": ("gated_delta", "-", "o"),
    "KDA": ("kda", "--", "s"),
    "lightning": ("decay", "-", "^"),
}
BROAD = ("softmax", "Gated DeltaNet")  # the lines that another one may cover: drawn broad and pale below it


def draw_small(held: dict[str, Sequence[int]], work: dict[str, Sequence[int]]) -> Figure:
    """Two panels over the tokens of a small text: numbers held, and multiply-adds so far, one line per mixer."""
    fig, axes = plt.subplots(1, 2, figsize=(6.4, 2.9))
    styles = {
        "softmax": ("softmax", "o-"),
        "linear, no erase": ("hebbian", "s--"),
        "linear, with an erase": ("delta", "^:"),
    }
    for ax, lines, title in ((axes[0], held, "numbers held"), (axes[1], work, "multiply-adds so far")):
        for name, values in lines.items():
            color, style = styles[name]
            ax.plot(range(1, 1 + len(values)), values, style, color=COLORS[color], label=name, markersize=4)
        ax.set(title=title, xlabel="token")
    axes[1].legend(fontsize=8)
    return fig


def draw_mixers(ax: Axes, lengths: Sequence[int], lines: dict[str, Sequence[float]], *, markers: bool = False) -> None:
    """One line per mixer on log axes; lengths in tokens, in powers of 2."""
    for name, values in lines.items():
        color, line, marker = MIXER_LINES[name]
        look = {"lw": 5, "alpha": 0.45} if name in BROAD and not markers else {}
        ax.loglog(
            lengths, values, line, color=COLORS[color], marker=marker if markers else None, ms=4, label=name, **look
        )
    powers_of_two(ax, lengths)


def powers_of_two(ax: Axes, lengths: Sequence[int]) -> None:
    """Ticks at every other length, written with K and M; nothing between them."""
    shown = list(lengths)[:: 1 + (len(lengths) > 6)]
    words = [f"{n >> 20}M" if n >= 2**20 else f"{n >> 10}K" if n >= 1024 else str(n) for n in shown]
    ax.set_xticks(shown, words)
    ax.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)


def draw_chain(chains: dict[str, dict[str, float]]) -> Figure:
    """The crossover of several models, one correction after the other, as steps to the right on a log axis."""
    fig, ax = plt.subplots(figsize=(6.4, 0.62 * len(chains) + 1.4))
    parts = list(next(iter(chains.values())))
    marks = "osD^v"
    for row, chain in enumerate(chains.values()):
        ax.plot(list(chain.values()), [row] * len(chain), color=COLORS["best"], lw=1.2, zorder=1)
        for i, (part, n) in enumerate(chain.items()):
            color = COLORS["highlight"] if i == len(chain) - 1 else COLORS["softmax"]
            label = part if row == 0 else None
            face = color if i == len(chain) - 1 else "white"
            ax.plot(n, row, marks[i], color=color, mfc=face, ms=7, label=label, ls="none")
        ax.annotate(f"{n:,.0f}", (n, row), (6, 7), textcoords="offset points", fontsize=9)
    ax.set(
        xscale="log", yticks=range(len(chains)), yticklabels=chains, xlabel="tokens until the state is the smaller one"
    )
    ax.set_xlim(right=1.6 * max(max(chain.values()) for chain in chains.values()))
    ax.set_ylim(len(chains) - 0.5, -0.6)
    fig.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=min(len(parts), 3), fontsize=9)
    return fig


def draw_pairs(
    rows: Sequence[str],
    pairs: dict[str, Sequence[float | None]],
    xlabel: str,
    *,
    digits: str = ".3g",
    log: bool = False,
) -> Figure:
    """Horizontal bars, one group per row and one bar per entry of `pairs`, with its number; None leaves a gap."""
    colors, hatches = ("best", "highlight", "gated_delta"), ("", "//", "..")
    fig, ax = plt.subplots(figsize=(6.4, 0.26 * len(rows) * (len(pairs) + 0.8) + 1.1))
    height, top = 0.8 / len(pairs), max(x for values in pairs.values() for x in values if x is not None)
    for i, (name, values) in enumerate(pairs.items()):
        at = np.arange(len(rows)) + (i - (len(pairs) - 1) / 2) * height
        drawn = [0 if x is None else x for x in values]
        ax.barh(at, drawn, height * 0.9, color=COLORS[colors[i]], hatch=hatches[i], edgecolor="white", label=name)
        for y, x in zip(at, values, strict=True):
            if x is not None:
                ax.text(x * 1.04 if log else x + 0.01 * top, y, format(x, digits), va="center", fontsize=8.5)
    low = min(x for values in pairs.values() for x in values if x is not None)
    if log:
        ax.set_xscale("log")
    ax.set(yticks=range(len(rows)), yticklabels=rows, xlabel=xlabel)
    ax.set_xlim(low / 2 if log else 0, top * (2.2 if log else 1.12))
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)
    if len(pairs) > 1:
        fig.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=len(pairs), fontsize=9)
    return fig


def draw_roofline(points: dict[str, list[tuple[int, float]]], *, peak: float, rate: float) -> Figure:
    """What a machine reaches at most against FLOPs per byte; points by name: (texts, FLOPs per byte), on the roof.

    peak  FLOPs per second; rate: bytes per second
    """
    fig, ax = plt.subplots(figsize=(6.4, 3.6))
    across = np.geomspace(0.5, 20_000, 200)
    ax.loglog(across, np.minimum(peak, rate * across), color=COLORS["best"], linewidth=1.5)
    ax.axvline(peak / rate, color=COLORS["best"], linewidth=0.8, linestyle=":")
    looks = (("o", "gated_delta", 8), ("s", "highlight", -14), ("D", "softmax", 8))
    for (name, row), (marker, color, above) in zip(points.items(), looks, strict=True):
        x = np.array([intensity for _, intensity in row])
        ax.plot(x, np.minimum(peak, rate * x), marker, color=COLORS[color], label=name, ms=6, alpha=0.8)
        for texts, at in (row[0], row[-1]) if len(row) > 1 else ():
            place = (at, min(peak, rate * at))
            words = {"textcoords": "offset points", "fontsize": 8, "color": COLORS[color], "ha": "center"}
            ax.annotate(str(texts), place, (0, above), **words)
    ax.set(xlabel="FLOPs per byte moved (numbers: texts together)", ylabel="FLOPs per second, at most")
    ax.legend(fontsize=8, loc="lower right")
    return fig


def draw_measured_crossings(rows: dict[str, dict[str, dict]]) -> Figure:
    """For each row the lengths that formulas give ("paper") as lines, and the rounds' measured ones as dots."""
    fig, ax = plt.subplots(figsize=(6.4, 0.5 * len(rows) + 1.5))
    styles = {
        "bytes held": (":", "best"),
        "bytes moved": ("-", "softmax"),
        "FLOPs, Gated DeltaNet": ("--", "gated_delta"),
    }
    for name, (line, color) in styles.items():
        ax.plot([], [], line, color=COLORS[color], label=name)
    for row, found in enumerate(rows.values()):
        first = row == 0
        for name, n in found["paper"].items():
            line, color = styles[name]
            ax.plot([n, n], [row - 0.3, row + 0.3], line, color=COLORS[color])
        for name, rounds in found["measured"].items():
            color, _, marker = MIXER_LINES[name]
            label = f"{name}, measured" if first else None
            face = {"mfc": "none"}
            ax.plot(rounds, [row] * len(rounds), marker, color=COLORS[color], label=label, ls="none", ms=6, **face)
    ax.set(
        xscale="log",
        yticks=range(len(rows)),
        yticklabels=rows,
        xlabel="tokens from which on the linear layer is faster",
    )
    ax.set_ylim(len(rows) - 0.5, -0.6)
    fig.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9)
    return fig
