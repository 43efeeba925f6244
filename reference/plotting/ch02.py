"""Drawings of chapter 02: small matrices with their numbers, and writes as steps in a plane."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from reference.plotting._style import COLORS


def number_image(ax: Axes, matrix: NDArray, title: str, limit: float = 3.0, digits: int = 2) -> None:
    """A matrix as colored squares (blue negative, red positive) with each number written in its square.

    Nine digits are kept first: 0.405, from products such as 0.9 * 0.45, is then rounded alike on every machine.
    """
    matrix = np.atleast_2d(matrix).round(9) + 0.0  # no minus zero either
    ax.imshow(matrix, cmap="RdBu_r", vmin=-limit, vmax=limit)
    for (i, j), x in np.ndenumerate(matrix):
        ax.text(
            j,
            i,
            f"{x:.{digits}f}",
            ha="center",
            va="center",
            fontsize=8,
            color="white" if abs(x) > 0.65 * limit else "black",
        )
    ax.set(title=title, xticks=[], yticks=[])
    ax.grid(False)


def draw_write(k: NDArray, v: NDArray) -> Figure:
    """One write: the key as a column, the value as a row, and the matrix that they span."""
    fig, axes = plt.subplots(1, 3, figsize=(6.4, 2.6), width_ratios=[1, 2, 2])
    number_image(axes[0], k[:, None], "key $k$ [Dk]")
    number_image(axes[1], v[None, :], "value $v$ [Dv]")
    number_image(axes[2], np.outer(k, v), "$k\\,v^{\\top}$ [Dk, Dv]")
    for ax, sign in zip(axes[1:], ("×", "="), strict=True):
        ax.text(-0.12, 0.5, sign, transform=ax.transAxes, ha="right", va="center", fontsize=14)
    return fig


def draw_steps(start: NDArray, keys: NDArray, values: NDArray, strengths: tuple, passes: int = 8) -> Figure:
    """Memories with Dk = 2, Dv = 1 as points of a plane; each pair is a line of memories that recall it.

    start [2] is a memory; keys [3, 2] and values [3]: the left panel writes the first pair with each
    of the strengths, the others write the first pair and one of the rest in turn.
    """
    fig, axes = plt.subplots(1, 3, figsize=(6.8, 2.9), sharey=True)
    _line(axes[0], keys[0], values[0])
    axes[0].plot(*start, "o", color="black")
    axes[0].annotate("$S$", start, (-5, 5), textcoords="offset points", ha="right")
    for beta, marker in zip(strengths, "s^Dv", strict=False):
        end = start + beta * (values[0] - start @ keys[0]) * keys[0]
        axes[0].plot(*np.transpose([start, end]), color=COLORS["delta"], linewidth=0.8)
        axes[0].plot(*end, marker, color=COLORS["delta"])
        axes[0].annotate(f"{beta:g}", end, (6, -9), textcoords="offset points", fontsize=9)
    axes[0].set_title("one write, four strengths")
    for ax, other in zip(axes[1:], (1, 2), strict=True):
        pair, S, path = [0, other], start, [start]
        for n in range(passes):
            i = pair[n % 2]
            S = S + (values[i] - S @ keys[i]) * keys[i]
            path.append(S)
        for i in pair:
            _line(ax, keys[i], values[i])
        ax.plot(*start, "o", color="black")
        ax.plot(*np.transpose(path), ".-", color=COLORS["delta"], linewidth=1.0, markersize=4)
        ax.set_title(f"two keys, cosine {keys[0] @ keys[other]:.1f}")
    for ax in axes:
        ax.set(xlim=(-0.6, 3.2), ylim=(-0.6, 3.2), aspect="equal", xlabel="$S_1$", xticks=range(4), yticks=range(4))
    axes[0].set_ylabel("$S_2$")
    return fig


def _line(ax: Axes, k: NDArray, v: float) -> None:
    """All memories S with k @ S = v, k of unit length."""
    along = np.array([-k[1], k[0]])
    ax.plot(*np.transpose([v * k - 9 * along, v * k + 9 * along]), "--", color=COLORS["best"], linewidth=1.2)
