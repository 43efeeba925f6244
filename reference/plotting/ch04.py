"""Drawings of chapter 04: what a chunk computes of the T x T matrices, the halves of a chunk, errors and memory."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike, NDArray

from reference.plotting._style import COLORS
from reference.plotting.ch02 import number_image


def draw_system(left: NDArray, U: NDArray, right: NDArray) -> Figure:
    """The triangular system of one chunk, with its numbers: (I + A) U = R."""
    fig, axes = plt.subplots(1, 3, figsize=(6.4, 2.6), width_ratios=[3, 2, 2])
    for ax, matrix, title in zip(axes, (left, U, right), ("$I + A$", "$U$", "right-hand side $R$"), strict=True):
        number_image(ax, matrix + 0.0, title)
        ax.set_yticks(range(len(matrix)), [f"r = {r + 1}" for r in range(len(matrix))])
    axes[0].set_xticks(range(left.shape[1]), [f"s = {s + 1}" for s in range(left.shape[1])])
    for ax, sign in zip(axes[1:], ("@", "="), strict=True):
        ax.set_yticks([])
        ax.text(-0.14, 0.5, sign, transform=ax.transAxes, ha="center", va="center", fontsize=13)
    return fig


def draw_blocks(scores: NDArray, A: NDArray, C: int) -> Figure:
    """The T x T matrices of a whole sequence, and which of their entries chunks of C tokens compute."""
    T = len(scores)
    fig, axes = plt.subplots(1, 3, figsize=(7.4, 3.0))
    for ax, matrix, title in zip(
        axes, (scores, A), ("$QK^{\\top} \\odot \\Gamma$: reads", "$A$: corrections"), strict=False
    ):
        ax.imshow(matrix, cmap="RdBu_r", vmin=-1, vmax=1)
        ax.set_title(title, fontsize=10)
        _grid(ax, T, C)
    axes[2].set_title(f"in chunks of {C}", fontsize=10)
    for start in range(0, T, C):
        stop = min(start + C, T)
        if start:
            axes[2].add_patch(Rectangle((-0.5, start - 0.5), start, stop - start, color=COLORS["decay"], alpha=0.35))
            words = "through\n$S_0$" if start == C else "through $S_0$"
            axes[2].text(start / 2 - 0.5, (start + stop - 1) / 2, words, ha="center", va="center", fontsize=8.5)
        for r in range(start, stop):
            axes[2].add_patch(Rectangle((start - 0.5, r - 0.5), r - start + 1, 1, color=COLORS["delta"], alpha=0.8))
    axes[2].set(xlim=(-0.5, T - 0.5), ylim=(T - 0.5, -0.5), aspect="equal")
    _grid(axes[2], T, C)
    axes[0].set_ylabel("read at token r")
    return fig


def draw_halves(C: int) -> Figure:
    """Which cut the decay of each pair (r, s) of a chunk goes through: halves, quarters, ..."""
    fig, ax = plt.subplots(figsize=(6.4, 3.3))
    blues = plt.get_cmap("Blues")
    size, level = C // 2, 0
    while size:
        for m in range(size, C, 2 * size):
            color = blues(0.85 - 0.22 * level)
            ax.add_patch(Rectangle((m - size - 0.5, m - 0.5), size, size, facecolor=color, edgecolor="white"))
            ax.text(m - size / 2 - 0.5, m + size / 2 - 0.5, f"m = {m}", ha="center", va="center",
                    fontsize=min(10, 5.5 + size), color="white" if level < 2 else "black")  # fmt: skip
        size, level = size // 2, level + 1
    for r in range(C):
        ax.add_patch(Rectangle((r - 0.5, r - 0.5), 1, 1, facecolor="#DDDDDD", edgecolor="white"))
        ax.text(r, r, "1", ha="center", va="center", fontsize=9)
    ax.set(xlim=(-0.5, C - 0.5), ylim=(C - 0.5, -0.5), aspect="equal", xticks=range(C), yticks=range(C))
    ax.set_xticklabels(range(1, C + 1))
    ax.set_yticklabels(range(1, C + 1))
    ax.set(xlabel="written at s", ylabel="read at r")
    ax.grid(False)
    return fig


def draw_strong_gates(errors: NDArray) -> Figure:
    """Error of the outputs against one strong gate, with plain and with safe pair decays: [2, seeds, 8 gates]."""
    fig, ax = plt.subplots()
    looks = (("difference of float32 sums", "s--", "decay"), ("floor, then float64: 3e-7 or less", "o-", "gated_delta"))
    for error, (name, style, color) in zip(errors, looks, strict=True):
        ax.plot(range(8), error.mean(0).clip(3e-7), style, color=COLORS[color], label=name)  # below: rounding
    ax.text(7, 3e-2, "NaN", ha="center", color=COLORS["highlight"], weight="bold")
    names = ["-1", "-10", "-100", "$-10^3$", "$-10^4$", "$-10^5$", "$-10^6$", "$-\\infty$"]
    ax.set(yscale="log", ylim=(1e-8, 1), xticks=range(8), xticklabels=names, ylabel="relative error of the outputs")
    ax.set_xlabel("log decay of one token of the chunk, the others between -0.05 and 0")
    ax.legend(loc="upper left")
    return fig


def draw_misread(alphas: Sequence[float], names: Sequence[str], errors: NDArray) -> Figure:
    """Error of the outputs against what survives one token, for three misread formulas: [seeds, 3, alphas]."""
    fig, ax = plt.subplots()
    looks = (("s--", "hebbian"), ("^:", "kda"), ("o-", "delta"))
    for name, error, (style, color) in zip(names, errors.transpose(1, 0, 2), looks, strict=True):
        ax.errorbar(alphas, error.mean(0), error.std(0), fmt=style, color=COLORS[color], label=name)
    ax.set(xlim=(1.0, 0.69), yscale="log", xlabel="what survives one token, $\\alpha = e^g$")
    ax.set_ylabel("relative error of the outputs")
    ax.legend(loc="center right", bbox_to_anchor=(1.0, 0.62))
    return fig


def draw_kept(lengths: Sequence[int], loop: ArrayLike, chunks: ArrayLike, inputs: ArrayLike) -> Figure:
    """MiB that autograd keeps for the backward pass against the tokens, by the loop and by chunks."""
    fig, ax = plt.subplots()
    ax.loglog(lengths, loop, "s--", color=COLORS["hebbian"], label="loop, autograd")
    ax.loglog(lengths, chunks, "o-", color=COLORS["gated_delta"], label="chunks, by hand")
    ax.loglog(lengths, inputs, "^:", color=COLORS["best"], label="the inputs alone")
    ax.set(xticks=lengths, xticklabels=lengths, xlabel="tokens (4 heads of 64 x 64)")
    ax.set_ylabel("kept for the backward pass (MiB)")
    ax.minorticks_off()
    ax.legend()
    return fig


def draw_rounding(sizes: Sequence[int], names: Sequence[str], errors: NDArray) -> Figure:
    """Error of the outputs against the chunk size, one line per number format: [seeds, formats, sizes]."""
    fig, ax = plt.subplots()
    looks = (("s--", "hebbian"), ("^:", "kda"), ("o-", "gated_delta"))
    for name, error, (style, color) in zip(names, errors.transpose(1, 0, 2), looks, strict=True):
        ax.errorbar(sizes, error.mean(0), error.std(0), fmt=style, color=COLORS[color], label=name)
    ax.set(xscale="log", yscale="log", xticks=sizes, xticklabels=sizes, xlabel="chunk size C")
    ax.set_ylabel("relative error of the outputs")
    ax.minorticks_off()
    ax.legend(loc="center right")
    return fig


def _grid(ax: Axes, T: int, C: int) -> None:
    """Thin lines between chunks."""
    ticks = np.arange(C, T, C) - 0.5
    for x in ticks:
        ax.axvline(x, color="#888888", linewidth=0.7)
        ax.axhline(x, color="#888888", linewidth=0.7)
    ax.set(xticks=range(0, T, C), yticks=range(0, T, C), xlabel="written at token s")
    ax.grid(False)
