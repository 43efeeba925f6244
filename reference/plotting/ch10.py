"""Drawings of chapter 10: accuracy over difficulty with its spread, one dot per seed, accuracy against bytes."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes

from reference.plotting._style import COLORS

# softmax black, additive orange, decayed sky, delta blue, gated delta green; markers and lines differ as well
STUDY_STYLES = {
    "softmax": ("o-", COLORS["softmax"]),
    "softmax_nope": ("o:", COLORS["best"]),
    "gated_softmax": ("s--", COLORS["softmax"]),
    "sliding_window": ("x:", COLORS["softmax"]),
    "linear": ("^-", COLORS["hebbian"]),
    "lightning": ("v:", COLORS["decay"]),
    "gated_linear": ("v--", COLORS["decay"]),
    "deltanet": ("D-", COLORS["delta"]),
    "deltanet_neg": ("D:", COLORS["delta"]),
    "gated_deltanet": ("P-", COLORS["gated_delta"]),
    "gated_deltanet_neg": ("P:", COLORS["gated_delta"]),
    "kda": ("*-", COLORS["kda"]),
    "all softmax": ("o-", COLORS["softmax"]),
    "1:1": ("s-", COLORS["best"]),
    "3:1": ("P-", COLORS["gated_delta"]),
    "3:1, softmax first": ("X-", COLORS["kda"]),
    "7:1": ("P--", COLORS["gated_delta"]),
    "all linear": ("P:", COLORS["gated_delta"]),
    "all lightning": ("v:", COLORS["decay"]),
    "lightning 7:1": ("v-", COLORS["decay"]),
    "window 3:1": ("x:", COLORS["softmax"]),
    "linear, softmax": ("P-", COLORS["gated_delta"]),
    "beta below 1, softmax": ("v--", COLORS["decay"]),
    "all linear, Dk 4": ("D:", COLORS["delta"]),
    "Gated DeltaNet, softmax": ("P-", COLORS["kda"]),
    "all Gated DeltaNet, Dk 4": ("D:", COLORS["gated_delta"]),
    "delta": ("D-", COLORS["delta"]),
    "hybrid": ("P-", COLORS["gated_delta"]),
    "hybrid, delta first": ("P--", COLORS["kda"]),
    "hybrid, beta below 1": ("v--", COLORS["decay"]),
    "softmax with RoPE": ("s--", COLORS["softmax"]),
    "all Gated DeltaNet": ("P:", COLORS["gated_delta"]),
    "2:1, softmax last": ("P-", COLORS["gated_delta"]),
    "all KDA": ("*-", COLORS["kda"]),
}


def accuracy_lines(
    ax: Axes, record: dict, models: Sequence[str], tests: Sequence[str], x: Sequence[float], *, trained: float
) -> None:
    """One line per model, the mean over seeds, in a band from the lowest seed to the highest. Grey ground: difficulties
    beyond `trained`, the largest of the training."""
    ax.axvspan(trained, 1.1 * max(x), color="#F2F2F2", zorder=0)
    for model in models:
        style, color = STUDY_STYLES[model]
        y = np.array([record["summary"][model]["accuracy"][test] for test in tests])  # [tests, seeds]
        ax.plot(x, y.mean(1), style, color=color, label=model, markersize=5, linewidth=1.5)
        ax.fill_between(x, y.min(1), y.max(1), color=color, alpha=0.15, linewidth=0)
    ax.set(xscale="log", ylim=(-0.03, 1.05), ylabel="accuracy", xlim=(min(x) / 1.1, 1.1 * max(x)))
    ax.set_xticks(x, [f"{value:g}" for value in x])
    ax.minorticks_off()


def label_ends(ax: Axes, names: dict[str, str] | None = None, *, apart: float = 0.075) -> None:
    """The name of each line at its right end, in its colour, at least `apart` of the axes' height from the next.

    names  other words for labels. Instead of a legend: nobody has to tell two greens apart
    """
    lines = [line for line in ax.get_lines() if not line.get_label().startswith("_")]
    to_axes = ax.transData + ax.transAxes.inverted()
    ends = [to_axes.transform((line.get_xdata()[-1], line.get_ydata()[-1]))[1] for line in lines]
    order, places = np.argsort(ends, kind="stable"), np.minimum(ends, 1.02)
    for below, above in pairwise(order):
        places[above] = max(places[above], places[below] + apart)
    places[order[-1:]] = np.minimum(places[order[-1:]], 1.02)
    for above, below in pairwise(order[::-1]):
        places[below] = min(places[below], places[above] - apart)
    for line, place in zip(lines, places, strict=True):
        words = (names or {}).get(line.get_label(), line.get_label())
        ax.text(1.02, place, words, color=line.get_color(), transform=ax.transAxes, fontsize=8, va="center")


def seeds_on_a_plane(ax: Axes, record: dict, models: Sequence[str], x_test: str, y_test: str) -> None:
    """Each model's seeds as points: accuracy on one test across, on another up."""
    for model in models:
        style, color = STUDY_STYLES[model]
        x, y = (record["summary"][model]["accuracy"][test] for test in (x_test, y_test))
        filled = {"markerfacecolor": "none"} if "--" in style or ":" in style else {}
        ax.plot(x, y, style[0], color=color, label=model, markersize=8, alpha=0.8, clip_on=False, **filled)
    ax.set(xlabel=f"accuracy, {x_test}", ylabel=f"accuracy, {y_test}", xlim=(0, 1.03), ylim=(0, 1.03))


def accuracy_against_bytes(ax: Axes, record: dict, models: Sequence[str], test: str) -> None:
    """The cache of a text of that test in KiB across, accuracy up, named; a bar from the lowest seed to the highest."""
    sizes = []
    for model in models:
        style, color = STUDY_STYLES[model]
        y = record["summary"][model]["accuracy"][test]
        sizes.append(record["config"]["models"][model]["cache_bytes"][test] / 1024)
        ax.plot([sizes[-1]] * 2, [min(y), max(y)], "-", color=color, linewidth=1)
        ax.plot(sizes[-1], np.mean(y), style[0], color=color, markersize=7)
        ax.annotate(model, (sizes[-1], np.mean(y)), (5, 4), textcoords="offset points", fontsize=7)
    ticks = [2**n for n in range(20) if min(sizes) / 1.5 < 2**n < 1.5 * max(sizes)]
    ax.set(xscale="log", ylim=(-0.03, 1.08), xlabel="cache of one text (KiB)", ylabel=f"accuracy, {test}")
    ax.set_xlim(min(sizes) / 1.2, 1.9 * max(sizes))
    ax.set_xticks(ticks, [str(tick) for tick in ticks])
    ax.minorticks_off()
