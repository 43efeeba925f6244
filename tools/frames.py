"""Stored frames of the moving figures, for readers in Jupyter: `python -m tools.frames` writes figures/frames/*.png.

The site's figures move by JavaScript, which a notebook doesn't run. Below each mark `<!--explorable NAME: ...-->` of a
chapter's text, this writes a line that shows the same idea as a strip of frames, computed by reference/equations.py
and the numbers of tools/explorables.py. A strip holds its numbers in the file: a test computes them anew.
"""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from reference.book.manifest import ROOT, read_manifest
from reference.equations import delta_step, hebbian_step, read
from reference.files import write_bytes, write_text
from reference.layers.rope import apply_rope
from reference.plotting import COLORS, use_style
from tools.explorables import TEXT, model_bytes, selection
from tools.site_cells import EXPLORABLE

FOLDER = ROOT / "figures" / "frames"
NUMBERS = "numbers"  # the name of the PNG's text
ORANGE, SKY = (0.9, 0.6, 0.0), (0.3, 0.7, 0.9)  # values of the state's figure: red, green, blue
WRITES = ((0.5, "orange", ORANGE), (0.5, "orange", ORANGE), (1.0, "orange", ORANGE), (1.0, "sky", SKY))
LENGTHS = (2**10, 2**15, 2**20)
POSITIONS = ((6, 2), (10, 6), (10, 2))  # of query and key
TURN = 0.3  # radians per position
QUERIES = (9, 15, 18)
TITLES = (
    "X: row 1 is its unit vector",
    "row 2 undoes row 1",
    "row 3 undoes rows 1 and 2",
    *(f"row {t} undoes rows 1 to {t - 1}" for t in (4, 5)),
)
BLUE, DARK, GREY = COLORS["delta"], COLORS["softmax"], "#BBBBBB"


class Strip(NamedTuple):
    """A strip of frames: its words for readers who cannot see it, its numbers, and how they are drawn."""

    alt: str
    numbers: Callable[[], dict]
    draw: Callable[[dict], Figure]


def state_numbers() -> dict:
    """Four writes under key A by two rules: the states [4, 3], and what A returns after each."""
    found, k = {}, np.eye(4)[0]
    for name, step in (("Hebb", hebbian_step), ("delta rule", delta_step)):
        S, frames = np.zeros((4, 3)), []
        for beta, _, colour in WRITES:
            S = step(S, k, np.array(colour), beta)
            frames.append({"S": S.tolist(), "returned": read(S, k).tolist()})
        found[name] = frames
    return found


def draw_state(numbers: dict) -> Figure:
    fig, axes = plt.subplots(2, len(WRITES), figsize=(8.4, 5.0))
    for row, (rule, frames) in zip(axes, numbers.items(), strict=True):
        for n, (ax, frame, (beta, colour, _)) in enumerate(zip(row, frames, WRITES, strict=True), 1):
            draw_matrix(ax, frame["S"])
            ax.set_title(f"{rule} {n}: A = {colour}, β = {beta:g}", fontsize=8)
            ax.set_xticks(range(3), ["red", "green", "blue"])
            ax.set_xlabel("A returns\n\n\n", fontsize=8)
            shown = np.clip(frame["returned"], 0, 1)  # a colour ends at 1
            ax.add_patch(plt.Rectangle((0, -0.44), 1, 0.13, transform=ax.transAxes, clip_on=False, facecolor=shown))
    return fig


def triangle_numbers() -> dict:
    """Five keys, any two with cosine one half, beta 1: A, and the rows of the inverse by forward substitution."""
    C = 5
    A = np.tril(np.full((C, C), 0.5), -1)
    X = np.zeros((C, C))
    for t in range(C):
        X[t] = np.eye(C)[t] - A[t, :t] @ X[:t]
    return {"A": A.tolist(), "X": X.tolist()}


def draw_triangle(numbers: dict) -> Figure:
    A, X = np.array(numbers["A"]), np.array(numbers["X"])
    fig, axes = plt.subplots(2, 3, figsize=(7.4, 4.6))
    draw_matrix(axes[0, 0], np.where(A == 0, np.nan, A))
    axes[0, 0].set_title("A", fontsize=9)
    for rows, ax in enumerate(axes.flat[1:], 1):
        known = np.tril(np.ones_like(X)) * (np.arange(len(X)) < rows)[:, None]
        draw_matrix(ax, np.where(known > 0, X, np.nan), frame=rows - 1)
        ax.set_title(TITLES[rows - 1], fontsize=9)
    return fig


def draw_matrix(ax: Axes, values: list | np.ndarray, frame: int | None = None) -> None:
    """Numbers in tinted cells; nan stays empty; frame: the row that gets one."""
    M = np.array(values)
    ax.imshow(M, cmap="PuOr", vmin=-4, vmax=4)  # wide enough that black words stay legible
    for (i, j), x in np.ndenumerate(M):
        if np.isfinite(x):
            ax.text(j, i, f"{x + 0.0:.2f}".replace("-", "−"), ha="center", va="center", fontsize=8)
    ax.set(xticks=[], yticks=[])
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0, labelsize=7)
    if frame is not None:
        box = {"fill": False, "edgecolor": DARK, "linewidth": 1.6, "clip_on": False}
        ax.add_patch(plt.Rectangle((-0.5, frame - 0.5), frame + 1, 1, **box))


def cache_numbers() -> dict:
    """Bytes of six published models for one text, by its length: the state, and state and cache together."""
    return {
        f"{T:,} tokens": {m["name"]: [m["state"], m["state"] + T * m["per_token"]] for m in model_bytes()}
        for T in LENGTHS
    }


def draw_cache(numbers: dict) -> Figure:
    fig, axes = plt.subplots(1, len(numbers), figsize=(8.8, 2.5), sharey=True)
    for ax, (title, models) in zip(axes, numbers.items(), strict=True):
        kept = np.array(list(models.values()))[::-1] / 2**30
        ax.barh(list(models)[::-1], kept[:, 1], color=DARK)
        ax.barh(list(models)[::-1], kept[:, 0], color=BLUE)
        ax.set_title(title, fontsize=9)
        ax.set_xlabel("GiB: state (blue) and cache", fontsize=8)
        ax.tick_params(labelsize=8)
    return fig


def rotate_numbers() -> dict:
    """Query (1, 0) and key (0.8, 0.6), turned by their positions, and their product."""
    found = {}
    for places in POSITIONS:
        pairs = torch.tensor([[1.0, 0.0], [0.8, 0.6]], dtype=torch.float64)[None, :, None]
        frequency = torch.tensor([TURN], dtype=torch.float64)
        q, k = apply_rope(pairs, torch.tensor(places), frequency)[0, :, 0].numpy()
        found["q at {}, k at {}".format(*places)] = {"q": q.tolist(), "k": k.tolist(), "product": float(q @ k)}
    return found


def draw_rotate(numbers: dict) -> Figure:
    fig, axes = plt.subplots(1, len(numbers), figsize=(7.6, 2.9))
    for ax, (title, turned) in zip(axes, numbers.items(), strict=True):
        ax.add_patch(plt.Circle((0, 0), 1, fill=False, color=GREY))
        for name, colour in (("q", DARK), ("k", BLUE)):
            x, y = turned[name]
            ax.annotate("", (x, y), (0, 0), arrowprops={"arrowstyle": "-|>", "color": colour, "linewidth": 2.2})
            ax.text(1.2 * x, 1.2 * y, name, color=colour, ha="center", va="center")
        ax.set(xlim=(-1.35, 1.35), ylim=(-1.35, 1.35), aspect="equal")
        ax.set_title(f"{title}\nproduct {turned['product']:.3f}".replace("-", "−"), fontsize=9)
        ax.axis("off")
    return fig


def select_numbers() -> dict:
    """For three queries, the indexer's score of each token up to it, and the four that are read."""
    made = selection()
    return {
        f"query {i}": {"scores": made["scores"][i][: i + 1], "read": [s for s in made["chosen"][i] if s <= i]}
        for i in QUERIES
    }


def draw_select(numbers: dict) -> Figure:
    tokens = TEXT.split()
    fig, axes = plt.subplots(len(numbers), 1, figsize=(9.2, 2.2))
    for ax, query, found in zip(axes, QUERIES, numbers.values(), strict=True):
        for s, token in enumerate(tokens):
            score = found["scores"][s] if s <= query else 0
            is_read = s in found["read"]
            box = {"facecolor": (0, 0.45, 0.7, 0.15 * score), "edgecolor": BLUE if is_read else GREY}
            ax.add_patch(plt.Rectangle((s + 0.04, 0), 0.92, 1, linewidth=2.2 if is_read else 0.6, **box))
            style = {"weight": "bold" if s == query else "normal", "color": DARK if s <= query else GREY}
            ax.text(s + 0.5, 0.5, token, ha="center", va="center", fontsize=8, **style)
        ax.set(xlim=(-0.05, len(tokens) + 0.05), ylim=(-0.15, 1.15))
        ax.set_title(f"“{tokens[query]}”, token {query + 1}, reads the framed ones", fontsize=8, loc="left", pad=2)
        ax.axis("off")
    return fig


STRIPS = {
    "state": Strip(
        "Four frames of a memory of four by three numbers, by Hebb's rule and by the delta rule. Key A is written "
        "three times with orange and then with sky blue. Hebb's rule adds each time, and A ends with a mixture; the "
        "delta rule comes to orange, and then to sky blue.",
        state_numbers,
        draw_state,
    ),
    "triangle": Strip(
        "The triangle A of five tokens, and five frames of its inverse: each row is its own unit vector less what the "
        "rows above hold, times the row of A.",
        triangle_numbers,
        draw_triangle,
    ),
    "cache": Strip(
        "Three frames, for a short, a long and a very long text: what six published models keep. Of the short text, a "
        "model with linear layers keeps the most, nearly all of it state; of the very long one, the three models with "
        "linear layers keep the least.",
        cache_numbers,
        draw_cache,
    ),
    "select": Strip(
        "Three frames: a query, the tokens before it tinted by the indexer's score, and frames around the four that it "
        "reads. All tokens before it were scored.",
        select_numbers,
        draw_select,
    ),
    "rotate": Strip(
        "Three frames of a query and a key, turned by their positions. Both moved by four: the product is the same. "
        "The query alone moved: it is another.",
        rotate_numbers,
        draw_rotate,
    ),
}


def png(strip: Strip) -> bytes:
    """The strip as a file that holds its numbers."""
    use_style()
    numbers = strip.numbers()
    fig, buffer = strip.draw(numbers), io.BytesIO()
    about = {"Software": None, NUMBERS: json.dumps(numbers)}
    fig.savefig(buffer, format="png", dpi=130, bbox_inches="tight", pad_inches=0.08, metadata=about)  # nothing is cut
    plt.close(fig)
    return buffer.getvalue()


def stored(path: Path) -> dict:
    """The numbers that a strip's file holds."""
    with Image.open(path) as image:
        return json.loads(image.text[NUMBERS])


def with_frames(text: str) -> str:
    """A chapter's text, each mark of a moving figure followed by the line that shows its frames."""

    def line(mark: str, name: str) -> str:
        return f"{mark}\n\n![{STRIPS[name].alt}](../figures/frames/{name}.png)"

    return EXPLORABLE.sub(lambda m: line(m["mark"], m["name"]), text)


def main() -> None:
    for name, strip in STRIPS.items():
        write_bytes(FOLDER / f"{name}.png", png(strip))
    for chapter in read_manifest().chapters:
        text = chapter.text.read_text(encoding="utf-8")
        if with_frames(text) != text:
            write_text(chapter.text, with_frames(text))
            print(f"{chapter.name}: renewed; `make sync` brings it into the notebook")
    print(f"written: {FOLDER}")


if __name__ == "__main__":
    main()
