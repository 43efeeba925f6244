"""Show a figure, write it, and compare what it draws with what the book drew."""

import base64
import html
import io
import json
import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import display
from matplotlib.collections import Collection
from matplotlib.figure import Figure

from reference.files import write_text

FIGURES = Path(__file__).resolve().parents[2] / "figures"
SAME = "the same data as in the book"
SAMPLES = 400  # an array longer than this is stored as a strided sample plus its mean and spread


def show_figure(fig: Figure, name: str, *, alt: str, timing: bool = False, tolerance: float = 1e-3) -> None:
    """Display fig with its alt text; say whether its data are the book's.

    Shown as PNG: JupyterLab hides SVG in notebooks that were not run on this machine. The file
    under figures/, which the site shows, is SVG.

    name       file name under figures/, "NN_what" with the chapter's number
    alt        one or two sentences that say what the picture shows
    timing     True where the data are measured times: then only the series' sizes are compared
    tolerance  largest allowed difference, relative to each series' largest magnitude
    """
    alt = " ".join(alt.split())
    drawn = drawn_data(fig)
    if timing:
        drawn = {key: {"size": series["size"]} for key, series in drawn.items()}
    path = FIGURES / "data" / f"{name}.json"
    stored = json.loads(path.read_text()) if path.exists() else None
    svg, png = _to_svg(fig, alt), _to_png(fig)
    if os.environ.get("BOOK_WRITE") == "1":
        write_text(FIGURES / f"{name}.svg", svg)
        if timing or stored is None or _compare(drawn, stored, tolerance) != SAME:  # no diff for rounding noise
            write_text(path, json.dumps(drawn, indent=0) + "\n")
            stored = drawn
    verdict = "is not in the book yet" if stored is None else _compare(drawn, stored, tolerance)
    if timing:
        verdict += " (times are not compared)"
    width, height = fig.get_size_inches() * 100
    words = {"text/plain": f"Figure {name}: {verdict}\n{alt}"}
    display({"image/png": png} | words, raw=True, metadata={"image/png": {"width": width, "height": height}})
    plt.close(fig)


def drawn_data(fig: Figure) -> dict[str, dict]:
    """Every series a figure draws: lines, points, bars, images and words, rounded to 6 digits."""
    drawn = {}
    for a, ax in enumerate(fig.axes):
        parts = {
            "line": [line.get_xydata() for line in ax.lines],
            "points": [_points(collection) for collection in ax.collections],
            "patch": [patch.get_path().transformed(patch.get_patch_transform()).vertices for patch in ax.patches],
            "image": [image.get_array() for image in ax.images],
        }
        for kind, arrays in parts.items():
            for i, array in enumerate(arrays):
                drawn[f"axes {a} {kind} {i}"] = _summary(np.asarray(array, dtype=float).ravel())
        words = [ax.get_title(), ax.get_xlabel(), ax.get_ylabel(), *(text.get_text() for text in ax.texts)]
        drawn[f"axes {a} words"] = {"size": len(words), "words": words}
    return drawn


def _points(collection: Collection) -> np.ndarray:
    parts = [np.asarray(collection.get_offsets(), dtype=float).ravel()]
    parts += [np.asarray(path.vertices, dtype=float).ravel() for path in collection.get_paths()]
    values = collection.get_array()  # the colours of a scatter or mesh
    return np.concatenate([*parts, np.asarray([] if values is None else values, dtype=float).ravel()])


def _summary(flat: np.ndarray) -> dict:
    finite = np.where(np.isfinite(flat), flat, 0.0)
    stride = max(1, -(-flat.size // SAMPLES))
    numbers = [*finite[::stride], *((finite.mean(), finite.std()) if flat.size else ())]
    return {"size": int(flat.size), "numbers": [float(f"{x:.6g}") for x in numbers]}


def _compare(drawn: dict, stored: dict, tolerance: float) -> str:
    if drawn.keys() != stored.keys():
        return "draws other series than the book's"
    worst, where = 0.0, ""
    for key, new in drawn.items():
        old = stored[key]
        unlike = any(len(new.get(kind, [])) != len(old.get(kind, [])) for kind in ("words", "numbers"))
        if new["size"] != old["size"] or unlike or new.get("words") != old.get("words"):
            return f"{key} differs from the book's"
        a, b = np.array(new.get("numbers", [])), np.array(old.get("numbers", []))
        difference = np.abs(a - b).max(initial=0.0) / max(np.abs(b).max(initial=0.0), 1e-12)
        worst, where = max((worst, where), (difference, key))
    if worst > tolerance:
        return f"the data differ from the book's by {worst:.1g} of their range ({where})"
    return SAME


def _to_png(fig: Figure) -> str:
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=160, metadata={"Software": None})
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def _to_svg(fig: Figure, alt: str) -> str:
    if not alt.strip():
        raise ValueError("alt: a figure needs a sentence for readers who cannot see it")
    buffer = io.StringIO()
    fig.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Title": alt})
    svg = buffer.getvalue()
    return svg[svg.index("<svg") :].replace("<svg", f'<svg role="img" aria-label="{html.escape(alt)}"', 1)
