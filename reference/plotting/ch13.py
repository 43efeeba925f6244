"""Drawings of chapter 13: who waits for whom, and who composes with whom."""

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


def draw_tree(n: int) -> Figure:
    """Prefixes by doubling: one column per process, one row per round, and in each box the stretches it covers."""
    fig, ax = plt.subplots(figsize=(7.2, 2.9))
    begins, hop, row = list(range(n)), 1, 0
    while True:
        for r, begin in enumerate(begins):
            words = str(r) if begin == r else f"{begin}-{r}"
            done = begin == 0
            box = {"boxstyle": "round", "fc": COLORS["gated_delta"] if done else "white", "ec": COLORS["best"]}
            color = "white" if done else "black"
            ax.text(r, -row, words, ha="center", va="center", fontsize=8.5, color=color, bbox=box)
        if hop >= n:
            break
        for r in range(hop, n):
            arrow = {"arrowstyle": "->", "color": COLORS["highlight"], "shrinkA": 10, "shrinkB": 10}
            ax.annotate("", (r, -row - 1), (r - hop, -row), arrowprops=arrow)
        begins, hop, row = [begins[r - hop] if r >= hop else begins[r] for r in range(n)], 2 * hop, row + 1
    rounds = ["start", *(f"round {i + 1}" for i in range(row))]
    ax.set(xlim=(-0.6, n - 0.4), ylim=(-row - 0.5, 0.5), xlabel="process", xticks=range(n))
    ax.set_yticks([-i for i in range(row + 1)], rounds)
    ax.grid(visible=False)
    return fig
