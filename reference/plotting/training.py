"""The loss plot at the end of a training run."""

from pathlib import Path

import matplotlib.pyplot as plt

from reference.plotting._style import COLORS


def save_loss(rows: list[dict], path: Path) -> None:
    """Loss per step, in nats per target (a byte, or a BPE token), and its running mean over a fiftieth of the run."""
    steps, losses = [row["step"] for row in rows], [row["loss"] for row in rows]
    width = max(len(rows) // 50, 1)
    means = [sum(losses[max(0, n - width + 1) : n + 1]) / min(width, n + 1) for n in range(len(rows))]
    fig, ax = plt.subplots(figsize=(6.4, 3.4))
    ax.plot(steps, losses, color=COLORS["best"], linewidth=0.6, alpha=0.6, label="step")
    ax.plot(steps, means, color=COLORS["gated_delta"], label=f"mean of {width}")
    ax.set(xlabel="step", ylabel="loss (nats per target)")
    ax.legend()
    beside = path.with_suffix(".part.svg")
    fig.savefig(beside, metadata={"Date": None})
    beside.replace(path)
    plt.close(fig)
