"""Show a figure, write it, and compare what it draws with what the book drew."""

import base64
import html
import io
import json
import os

import matplotlib.pyplot as plt
from IPython.display import display
from matplotlib.figure import Figure

from reference.files import STORED, write_text
from reference.plotting._drawn import SAME, compare_drawn, drawn_data

STRICT = 1e-3  # of a coordinate's range: less than a line's width
FIGURES = STORED.parent


def show_figure(fig: Figure, name: str, *, alt: str, timing: bool = False, tolerance: float = STRICT) -> None:
    """Display fig with its alt text; say whether its data are the book's.

    Shown as PNG: JupyterLab hides SVG in notebooks that were not run on this machine. The file
    under figures/, which the site shows, is SVG.

    name       file name under figures/, "NN_what" with the chapter's number
    alt        one or two sentences that say what the picture shows
    timing     True where the data are measured times: then only each part's number of points is compared
    tolerance  largest allowed difference, relative to the range of its coordinate (on a log axis, of the
               logarithms). Larger than the default for training runs and rounding errors; the verdict says so
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
        if timing or stored is None or compare_drawn(drawn, stored, tolerance) != SAME:  # no diff for rounding noise
            write_text(path, _one_part_a_line(drawn))
            stored = drawn
    verdict = "is not in the book yet" if stored is None else compare_drawn(drawn, stored, tolerance)
    if timing:
        verdict += " (times are not compared)"
    elif verdict == SAME and tolerance > STRICT:
        verdict += f" (within {100 * tolerance:g} % of their range)"
    width, height = (round(100 * inches) for inches in fig.get_size_inches())  # 340, not 340.0: editors save it so
    words = {"text/plain": f"Figure {name}: {verdict}\n{alt}"}
    display({"image/png": png} | words, raw=True, metadata={"image/png": {"width": width, "height": height}})
    plt.close(fig)


def _one_part_a_line(drawn: dict[str, dict]) -> str:
    lines = [f"{json.dumps(name)}: {json.dumps(part)}" for name, part in drawn.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


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
