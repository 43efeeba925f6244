"""What a figure draws, as numbers and words, and how far that is from what the book drew.

A figure is a dict of parts: its axes, and every line, collection, set of bars, box, patch, image and text in them.

    {"axes 0 line 1": {
        "size": 3,                                            points of the line
        "words": {"look": "#1f77b4ff -", "label": "error"},
        "numbers": {"x": {"range": 2.0, "values": [0, 1, 2]}, "y": {"range": 0.3, "values": [0.1, "nan", 0.4]}}}}

Every coordinate is judged against its own range. On a log axis the numbers are logarithms, as drawn.
"""

from collections.abc import Iterator

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.cm import ScalarMappable
from matplotlib.collections import Collection, LineCollection, PolyCollection, QuadMesh
from matplotlib.colors import to_hex
from matplotlib.container import BarContainer
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Patch, Rectangle
from matplotlib.text import Annotation
from matplotlib.ticker import FixedLocator

SAME = "the same data as in the book"
SAMPLES = 200  # a longer coordinate is stored as so many of its values and the means of the stretches between them
DIGITS = 5  # kept of a coordinate's range


def drawn_data(fig: Figure) -> dict[str, dict]:
    """Every part of the figure by name ("axes 0 line 1"), in the form that the module describes."""
    legends = [text.get_text() for legend in fig.legends for text in legend.get_texts()]
    title = fig.get_suptitle()
    drawn = {"figure": _part(words={"title": title, "legend": legends, "texts": [t.get_text() for t in fig.texts]})}
    for a, ax in enumerate(fig.axes):
        drawn |= {f"axes {a}{name}": part for name, part in _parts(ax)}
    return {name: part for name, part in drawn.items() if part["size"] or part["words"]}


def compare_drawn(drawn: dict[str, dict], stored: dict[str, dict], tolerance: float) -> str:
    """SAME, or one sentence that names the part, its coordinate and how far it is from the stored one.

    tolerance  largest allowed difference of a value, relative to the range of its coordinate
    """
    if drawn.keys() != stored.keys():
        missing, added = sorted(stored.keys() - drawn.keys()), sorted(drawn.keys() - stored.keys())
        known = [f"without {', '.join(missing)}"] * bool(missing) + [f"with {', '.join(added)}"] * bool(added)
        return f"differs from the book's: drawn {' and '.join(known)}"
    worst, where = (False, 0.0), ""
    for name, new in drawn.items():
        old = stored[name]
        unlike = _unlike(new, old)
        if unlike:
            return f"differs from the book's: {name} {unlike}"
        for coordinate in old.get("numbers", {}):
            by = _difference(new["numbers"][coordinate], old["numbers"][coordinate])
            is_cause = by > tolerance and " " in name.removeprefix("axes ")  # limits follow from what is drawn
            worst, where = max((worst, where), ((is_cause, by), f"{coordinate} of {name}"))
    by = worst[1]
    if by == np.inf:
        return f"differs from the book's: {where} is not finite where the book's is, or the other way round"
    if by > tolerance:
        size = f"{100 * by:.2g} % of its range" if by < 1 else f"{by:.2g} times its range"
        return f"differs from the book's: {where} is off by {size}"
    return SAME


def _unlike(new: dict, old: dict) -> str:
    """What two parts differ in besides the values; empty if in nothing."""
    if new["size"] != old["size"]:
        return f"has {new['size']} entries, not {old['size']}"
    new_words, old_words = new.get("words", {}), old.get("words", {})
    for kind in sorted(new_words.keys() | old_words.keys()):
        one, other = new_words.get(kind, "none"), old_words.get(kind, "none")
        if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
            one, other = next(((a, b) for a, b in zip(one, other, strict=True) if a != b), ("", ""))
        if one != other:
            return f"has the {kind} {one!r}, not {other!r}"
    counts = [
        {name: len(coordinate["values"]) for name, coordinate in part.get("numbers", {}).items()} for part in (new, old)
    ]
    if counts[0] != counts[1]:
        return f"has {_counted(counts[0])}, not {_counted(counts[1])}"
    return ""


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} values of {name}" for name, count in counts.items()) or "no values"


def _difference(new: dict, old: dict) -> float:
    """The largest difference of two coordinates relative to the stored one's range; inf if nan or inf moved."""
    worst = 0.0
    for kind in ("values", "means"):
        a, b = (np.array(coordinate.get(kind, []), dtype=float) for coordinate in (new, old))
        finite = np.isfinite(b)
        if not np.array_equal(np.where(finite, 0, b), np.where(np.isfinite(a), 0, a), equal_nan=True):
            return np.inf
        worst = max(worst, np.abs(a[finite] - b[finite]).max(initial=0.0) / old["range"])
    return float(worst)


def _part(numbers: dict[str, dict] | None = None, words: dict | None = None, size: int = 0) -> dict:
    return {"size": size, "words": {k: w for k, w in (words or {}).items() if w}, "numbers": numbers or {}}


def _coordinate(values: np.ndarray, span: float) -> dict:
    """values [n] of one coordinate, rounded to its range.

    span  extent of the axis that the values are drawn on. A tenth of it is the least range, so that a flat
          line or a single point has one; so is a part of the values' size, below which all is rounding noise.
    """
    values = np.ma.filled(np.ma.asarray(values, dtype=float), np.nan).ravel()
    finite = values[np.isfinite(values)]
    own = np.ptp(finite) if finite.size else 0.0
    span = span if np.isfinite(span) else 0.0
    extent = float(f"{max(own, span / 10, 1e-4 * np.abs(finite).max(initial=0.0), 1e-9):.3g}")
    stretch = -(-values.size // SAMPLES)
    coordinate = {"range": extent, "values": _rounded(values[:: max(1, stretch)], extent)}
    if stretch > 1:
        with np.errstate(invalid="ignore"):  # inf - inf
            means = [part.mean() for part in np.split(values, range(stretch, values.size, stretch))]
        coordinate["means"] = _rounded(means, extent)
    return coordinate


def _rounded(values: np.ndarray | list[float], extent: float) -> list[float | str]:
    decimals = DIGITS - int(np.floor(np.log10(extent)))
    numbers = [round(float(value), decimals) + 0.0 for value in values]  # + 0.0: no -0.0
    return [(int(n) if n.is_integer() else n) if np.isfinite(n) else str(n) for n in numbers]


def _parts(ax: Axes) -> Iterator[tuple[str, dict]]:
    yield "", _panel(ax)
    for i, line in enumerate(ax.lines):
        look = f"{_color(line.get_color())} {line.get_linestyle()} {line.get_marker()} {line.get_drawstyle()}"
        points = {"x": line.get_xdata(orig=False), "y": line.get_ydata(orig=False)}
        yield f" line {i}", _drawn(ax, line, points, look)
    for i, collection in enumerate(ax.collections):
        yield f" collection {i}", _collection(ax, collection)
    bars = [c.patches for c in ax.containers if isinstance(c, BarContainer) and len(c.patches) > 1]
    for i, patches in enumerate(bars):
        yield f" bars {i}", _boxes(ax, patches)
    others = [patch for patch in ax.patches if not any(patch in patches for patches in bars)]
    boxes = [p for p in others if isinstance(p, Rectangle | FancyBboxPatch) and all(_in_data(ax, p))]
    yield " boxes", _boxes(ax, boxes)
    for i, patch in enumerate(patch for patch in others if patch not in boxes):
        x, y = patch.get_path().transformed(patch.get_patch_transform()).vertices.T
        yield f" patch {i}", _drawn(ax, patch, {"x": x, "y": y}, _color(patch.get_facecolor()))
    for i, image in enumerate(ax.images):
        left, right, bottom, top = image.get_extent()
        part = _drawn(ax, image, {"x": [left, right], "y": [bottom, top]}, image.get_cmap().name)
        values = image.get_array()
        part["numbers"] |= _colors(image)
        yield f" image {i}", part | {"size": int(np.size(values))}
    yield " texts", _texts(ax)


def _panel(ax: Axes) -> dict:
    """Limits, scales, and the words around the panel."""
    legend = ax.get_legend()
    words = {f"{where} title": ax.get_title(loc=where) for where in ("left", "center", "right")}
    words |= {"x label": ax.get_xlabel(), "y label": ax.get_ylabel()}
    words |= {"scales": f"{ax.get_xscale()} {ax.get_yscale()}"}
    words |= {"legend": [text.get_text() for text in legend.get_texts()] if legend else []}
    words |= {"x ticks": _fixed_ticks(ax.xaxis), "y ticks": _fixed_ticks(ax.yaxis)}
    return _drawn(ax, ax.patch, {"x": ax.get_xlim(), "y": ax.get_ylim()}, in_data=(True, True)) | {
        "words": {kind: word for kind, word in words.items() if word}
    }


def _fixed_ticks(axis: Axis) -> list[str]:
    """The words at an axis whose ticks the author or a category chose; automatic ones follow from the limits."""
    locator = axis.get_major_locator()
    if not (isinstance(locator, FixedLocator) or axis.have_units()):
        return []
    return [str(word) for word in axis.get_major_formatter().format_ticks(locator())]


def _texts(ax: Axes) -> dict:
    """The words in the panel, and where they or what they point at stand."""
    texts = [text for text in ax.texts if text.get_text() or isinstance(text, Annotation)]
    words = {"texts": [text.get_text() for text in texts]}
    numbers = {}
    for name, axis, at in (("x", ax.xaxis, 0), ("y", ax.yaxis, 1)):
        places = [text.xy if isinstance(text, Annotation) else text.get_position() for text in texts]
        data = [t.xycoords == "data" if isinstance(t, Annotation) else _in_data(ax, t)[at] for t in texts]
        values = [axis.convert_units(place[at]) for place in places]
        for part, kept in ((name, True), (f"{name} in the panel", False)):
            these = np.array([v for v, d in zip(values, data, strict=True) if d == kept], dtype=float)
            if these.size:
                numbers[part] = _along(axis, these, kept)
    return _part(numbers, words, len(texts))


def _collection(ax: Axes, collection: Collection) -> dict:
    if isinstance(collection, ContourSet):
        return _contours(ax, collection)
    if isinstance(collection, LineCollection | PolyCollection):
        vertices = np.concatenate([np.empty((0, 2)), *(path.vertices for path in collection.get_paths())])
        in_data = _in_data(ax, collection)
    elif isinstance(collection, QuadMesh):
        vertices, in_data = collection.get_coordinates().reshape(-1, 2), _in_data(ax, collection)
    else:  # a scatter: its marker's own shape is not data
        vertices = np.ma.filled(np.ma.asarray(collection.get_offsets(), dtype=float), np.nan)
        in_data = collection.get_offset_transform().contains_branch_seperately(ax.transData)
    colors = collection.get_array() is None
    shades = [*collection.get_facecolor(), *collection.get_edgecolor()] if colors else []
    points = dict(zip("xy", vertices.T, strict=True))
    part = _drawn(ax, collection, points, " ".join(dict.fromkeys(map(_color, shades))), in_data)
    part["numbers"] |= _colors(collection)
    return part


def _contours(ax: Axes, contours: ContourSet) -> dict:
    """Levels, and the box around each level's curve: the curve's number of points may rest on the last bit."""
    nothing = np.full((1, 2), np.nan)
    curves = [path.vertices if len(path.vertices) else nothing for path in contours.get_paths()]
    low, high = np.array([c.min(0) for c in curves]), np.array([c.max(0) for c in curves])
    part = _box_part(ax, low, high, [])
    part["numbers"]["level"] = _coordinate(contours.levels, np.ptp(contours.levels))
    return part


def _boxes(ax: Axes, patches: list[Patch]) -> dict:
    corners = [p.get_path().transformed(p.get_patch_transform()).vertices for p in patches]
    low = np.array([c.min(0) for c in corners]).reshape(-1, 2)
    high = np.array([c.max(0) for c in corners]).reshape(-1, 2)
    return _box_part(ax, low, high, [_color(patch.get_facecolor()) for patch in patches])


def _box_part(ax: Axes, low: np.ndarray, high: np.ndarray, looks: list[str]) -> dict:
    """low, high [n, 2]: the lower left and the upper right corners."""
    if not len(low):
        return _part()
    edges = {"left": (ax.xaxis, low[:, 0]), "right": (ax.xaxis, high[:, 0])}
    edges |= {"bottom": (ax.yaxis, low[:, 1]), "top": (ax.yaxis, high[:, 1])}
    numbers = {name: _along(axis, values, in_data=True) for name, (axis, values) in edges.items()}
    return _part(numbers, {"look": looks[0] if len(set(looks)) == 1 else looks}, len(low))


def _drawn(ax: Axes, artist: Artist, points: dict, look: str = "", in_data: tuple[bool, bool] | None = None) -> dict:
    in_data = in_data or _in_data(ax, artist)
    numbers = {
        name: _along(axis, points[name], inside)
        for name, axis, inside in zip("xy", (ax.xaxis, ax.yaxis), in_data, strict=True)
    }
    label = str(artist.get_label())
    return _part(numbers, {"look": look, "label": "" if label.startswith("_") else label}, len(points["x"]))


def _in_data(ax: Axes, artist: Artist) -> tuple[bool, bool]:
    """Whether x and y are counted along the axes; an axhline's x, say, is a share of the panel's width."""
    return artist.get_transform().contains_branch_seperately(ax.transData)


def _along(axis: Axis, values: np.ndarray, in_data: bool) -> dict:
    """A coordinate as the axis draws it: its logarithm on a log axis."""
    if not in_data:
        return _coordinate(values, span=1.0)
    return _coordinate(_scaled(axis, values), span=float(np.ptp(_scaled(axis, axis.get_view_interval()))))


def _scaled(axis: Axis, values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, dtype=float)
    scaled = axis.get_transform().transform(values)
    if axis.get_scale() == "log":  # Matplotlib has -1000 for the logarithm of nothing
        scaled = np.where(values > 0, scaled, np.where(np.isnan(values), np.nan, -np.inf))
    return scaled


def _colors(mappable: ScalarMappable) -> dict[str, dict]:
    """Values shown as colours, and the values at the two ends of the colour map."""
    values = mappable.get_array()
    if values is None:
        return {}
    ends = np.array(mappable.get_clim(), dtype=float)
    return {"color": _coordinate(values, np.ptp(ends)), "color limits": _coordinate(ends, np.ptp(ends))}


def _color(color: object) -> str:
    return to_hex(color, keep_alpha=True)
