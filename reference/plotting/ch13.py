"""Drawings of chapter 13: who waits for whom."""

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from reference.plotting._style import COLORS


def draw_schedules(schedules: dict[str, list[tuple[int, float, float, str]]]) -> Figure:
    """One panel per schedule: bars (process, begin, length, kind), kind one of "summary", "read", "state"."""
    kinds = {
        "summary": ("best", "//", "M and N"),
        "read": ("gated_delta", "", "outputs"),
        "state": ("softmax", "", "hand over"),
    }
    fig, axes = plt.subplots(len(schedules), 1, figsize=(6.4, 1.5 * len(schedules) + 0.5), sharex=True)
    for ax, (title, bars) in zip(axes, schedules.items(), strict=True):
        for process, begin, length, kind in bars:
            color, hatch, _ = kinds[kind]
            ax.barh(process, length, left=begin, height=0.7, color=COLORS[color], hatch=hatch, edgecolor="white")
        processes = max(bar[0] for bar in bars) + 1
        ax.set(title=title, ylabel="process", yticks=range(processes))
        ax.invert_yaxis()
        ax.grid(False, axis="y")
    used = sorted({bar[3] for bars in schedules.values() for bar in bars})
    patches = [plt.Rectangle((0, 0), 1, 1, color=COLORS[kinds[k][0]], label=kinds[k][2]) for k in used]
    fig.legend(handles=patches, loc="outside lower center", ncols=len(patches))
    axes[-1].set_xlabel("time (one process reads the whole text in 1)")
    return fig
