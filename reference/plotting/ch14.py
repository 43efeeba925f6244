"""Drawings of chapter 14: which program touches what, and how many of them a GPU can run at once."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from reference.kernels.memory import Touch
from reference.plotting._style import COLORS


def draw_touches(panels: Sequence[tuple[str, Sequence[Touch], str, tuple[int, int]]]) -> Figure:
    """A table per panel (title, touches, argument, [rows, columns]): who touches each number, by the program's place.

    A place is written without the axes on which the panel's programs agree. A number that several programs touch shows
    how many; one that nobody touches stays empty.
    """
    rows = max(shape[0] for *_, shape in panels)
    widths = [shape[1] for *_, shape in panels]
    fig, axes = plt.subplots(1, len(panels), figsize=(7.2, 1.0 + 0.24 * rows), width_ratios=widths, squeeze=False)
    programs = sorted({t.program for _, touches, _, _ in panels for t in touches})
    for ax, (title, touches, name, shape) in zip(axes[0], panels, strict=True):
        owners = [set() for _ in range(shape[0] * shape[1])]
        for t in touches:
            if t.name == name:
                for place in t.places.ravel():
                    owners[place].add(t.program)
        shades = [np.nan if not own else programs.index(min(own)) for own in owners]
        ax.imshow(np.reshape(shades, shape), cmap="Pastel1", vmin=-0.5, vmax=8.5, aspect="auto")
        varying = _varying(set().union(*owners))
        for place, own in enumerate(owners):
            words = "" if not own else _short(min(own), varying) if len(own) == 1 else f"{len(own)}x"
            ax.text(place % shape[1], place // shape[1], words, ha="center", va="center", fontsize=7)
        ax.set(title=title, xticks=[], yticks=range(shape[0]) if ax is axes[0][0] else [])
        ax.set_xticks(np.arange(shape[1] + 1) - 0.5, minor=True)
        ax.set_yticks(np.arange(shape[0] + 1) - 0.5, minor=True)
        ax.grid(False)
        ax.grid(which="minor", color="white", linewidth=1.5)
        ax.tick_params(which="both", length=0)
    axes[0][0].set_ylabel("row")
    return fig


def _varying(programs: set[tuple[int, ...]]) -> list[int]:
    """The axes of the grid on which these programs differ."""
    return [axis for axis, places in enumerate(zip(*programs, strict=True)) if len(set(places)) > 1]


def _short(program: tuple[int, ...], axes: list[int]) -> str:
    return ",".join(str(program[axis]) for axis in axes or [0])


def draw_occupancy(lengths: ArrayLike, programs: dict[str, ArrayLike], processors: int) -> Figure:
    """Programs of each kernel over the length of the text, and the processors of a GPU."""
    fig, ax = plt.subplots()
    styles = (("o-", "gated_delta"), ("s--", "softmax"), ("^:", "delta"))
    for (name, counts), (style, color) in zip(programs.items(), styles, strict=False):
        ax.loglog(lengths, counts, style, color=COLORS[color], label=name)
    ax.axhline(processors, color=COLORS["best"], linewidth=1)
    ax.text(lengths[-1], processors * 1.4, f"{processors} processors", color=COLORS["best"], ha="right")
    ax.set(xlabel="tokens", ylabel="programs")
    ax.legend()
    return fig


def draw_rounds(lengths: ArrayLike, ratios: dict[str, ArrayLike]) -> Figure:
    """How many times as much work one kernel has for the busiest processor as three, by (14.2), over the length."""
    fig, ax = plt.subplots()
    styles = (("o-", "gated_delta"), ("s--", "delta"), ("^:", "kda"))
    for (name, ratio), (style, color) in zip(ratios.items(), styles, strict=False):
        ax.semilogx(lengths, ratio, style, color=COLORS[color], label=name)
    ax.axhline(1, color=COLORS["best"], linewidth=1)
    ax.set(xlabel="tokens", ylabel="one kernel over three", ylim=(0, None))
    ax.legend()
    return fig
