"""The figures of `python -m reference bench`."""

from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from reference.plotting._style import COLORS

STYLES = {"recurrent": ("s--", "hebbian"), "chunks": ("o-", "gated_delta"), "softmax": ("^:", "softmax")}


def draw_lengths(lengths: dict) -> Figure:
    """Time per token against length, from the bench's record["lengths"]."""
    fig, ax = plt.subplots(figsize=(6.4, 3.4))
    for name, (style, color) in STYLES.items():
        points = [(T, 1e3 * ms / T) for T, ms in zip(lengths["T"], lengths[name], strict=True) if ms is not None]
        ax.loglog(*zip(*points, strict=True), style, color=COLORS[color], label=name)
    ax.set(xlabel="tokens", ylabel="microseconds per token", xticks=lengths["T"])
    ax.set_xticklabels(lengths["T"], rotation=30)
    ax.minorticks_off()
    ax.legend()
    return fig


def save_lengths(record: dict, path: Path) -> None:
    """Draw `record["lengths"]` and write the figure to path, beside it first."""
    fig = draw_lengths(record["lengths"])
    beside = path.with_suffix(".part.svg")
    fig.savefig(beside, metadata={"Date": None})
    beside.replace(path)
    plt.close(fig)
