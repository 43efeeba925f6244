"""In every figure of the book, any part that changes is noticed, by name; rounding noise is not."""

import json
import re
from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
import pytest

from reference.book.manifest import ROOT, read_manifest
from reference.plotting._drawn import SAME, compare_drawn
from reference.plotting._figures import STRICT

TOLERANCE = re.compile(r'show_figure\(\s*\w+,\s*"([^"]+)"(?:(?!show_figure).)*?\btolerance=([\d.e+-]+)', re.S)


def stated_tolerances() -> dict[str, float]:
    texts = [chapter.text.read_text(encoding="utf-8") for chapter in read_manifest().chapters]
    return {name: float(tolerance) for text in texts for name, tolerance in TOLERANCE.findall(text)}


STORED = sorted((ROOT / "figures" / "data").glob("[0-9][0-9]_*.json"))
FIGURES = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in STORED}
COMPARED = {name: drawn for name, drawn in FIGURES.items() if any(part.get("numbers") for part in drawn.values())}
TOLERANCES = {name: STRICT for name in FIGURES} | stated_tolerances()


def coordinates() -> Iterator[tuple[str, str, str]]:
    for figure, drawn in COMPARED.items():
        for part, record in drawn.items():
            for coordinate in record["numbers"]:
                yield figure, part, coordinate


def values_of(coordinate: dict) -> np.ndarray:
    return np.array(coordinate["values"] + coordinate.get("means", []), dtype=float)


def changed(coordinate: dict, change: Callable[[np.ndarray], np.ndarray]) -> dict:
    """The coordinate with change(array) in place of its values, and of its means."""
    new = {kind: change(np.array(coordinate[kind], dtype=float)) for kind in ("values", "means") if kind in coordinate}
    return coordinate | {kind: [float(x) for x in array] for kind, array in new.items()}


def verdict(figure: str, part: str, numbers: dict) -> str:
    """Of one part of the stored figure with other numbers; alone, since whole figures would take a minute."""
    stored = COMPARED[figure][part]
    return compare_drawn({part: stored | {"numbers": stored["numbers"] | numbers}}, {part: stored}, TOLERANCES[figure])


def expect_a_verdict(said: str, figure: str, *names: str) -> None:
    assert said != SAME, f"{figure}: a change of {names} isn't noticed"
    assert all(name in said for name in names), f"{figure}: {said!r} doesn't name {names}"


def test_the_tests_below_see_all_figures_and_their_tolerances():
    assert len(FIGURES) == len(list((ROOT / "figures").glob("[0-9][0-9]_*.svg")))
    assert len(COMPARED) > 100 and len(list(coordinates())) > 2000
    calls = sum(chapter.text.read_text(encoding="utf-8").count("tolerance=") for chapter in read_manifest().chapters)
    assert all(STRICT < tolerance <= 1 for tolerance in stated_tolerances().values())
    assert len(stated_tolerances()) == calls and stated_tolerances().keys() <= COMPARED.keys()


def test_an_unchanged_figure_is_the_same():
    for figure, drawn in FIGURES.items():
        assert compare_drawn(json.loads(json.dumps(drawn)), drawn, tolerance=0.0) == SAME, figure


@pytest.mark.parametrize("size", [1e-7, 1e-6])
def test_noise_of_the_last_bits_is_the_same(size):
    rng = np.random.default_rng(0)

    def noisy(coordinate: dict) -> dict:
        return changed(coordinate, lambda a: a + size * coordinate["range"] * rng.uniform(-1, 1, a.shape))

    for figure, drawn in COMPARED.items():
        new = {p: r | {"numbers": {c: noisy(v) for c, v in r["numbers"].items()}} for p, r in drawn.items()}
        assert compare_drawn(new, drawn, STRICT) == SAME, figure


def shifted(coordinate: dict, tolerance: float) -> dict:
    by = max(0.03, 1.5 * tolerance) * coordinate["range"]
    return changed(coordinate, lambda a: a + by)


def scaled(coordinate: dict, tolerance: float) -> dict:
    """Stretched about its lowest value."""
    low = values_of(coordinate)[np.isfinite(values_of(coordinate))].min()
    return changed(coordinate, lambda a: a + max(0.05, 2 * tolerance) * (a - low))


def test_a_shifted_coordinate_is_noticed_and_named():
    for figure, part, name in coordinates():
        old = COMPARED[figure][part]["numbers"][name]
        if np.isfinite(values_of(old)).any():
            said = verdict(figure, part, {name: shifted(old, TOLERANCES[figure])})
            expect_a_verdict(said, figure, part, name)


def test_a_scaled_coordinate_is_noticed_and_named():
    tried = 0
    for figure, part, name in coordinates():
        old = COMPARED[figure][part]["numbers"][name]
        finite = values_of(old)[np.isfinite(values_of(old))]
        if finite.size and np.ptp(finite) > 0.9 * old["range"]:  # else it is flat: a point, a constant
            tried += 1
            said = verdict(figure, part, {name: scaled(old, TOLERANCES[figure])})
            expect_a_verdict(said, figure, part, name)
    assert tried > 1000


def test_one_shifted_line_is_named_in_the_whole_figure():
    for figure, drawn in COMPARED.items():
        part = list(drawn)[-1]
        if not drawn[part]["numbers"]:
            continue
        numbers = {name: shifted(old, TOLERANCES[figure]) for name, old in drawn[part]["numbers"].items()}
        expect_a_verdict(
            compare_drawn(drawn | {part: drawn[part] | {"numbers": numbers}}, drawn, TOLERANCES[figure]), part
        )


def test_nan_in_place_of_a_number_and_a_number_in_place_of_nan_are_noticed_and_named():
    for figure, part, name in coordinates():
        old = COMPARED[figure][part]["numbers"][name]
        if not old["values"]:
            continue
        middle = len(old["values"]) // 2
        other = "nan" if np.isfinite(float(old["values"][middle])) else 0.0
        values = [*old["values"][:middle], other, *old["values"][middle + 1 :]]
        expect_a_verdict(verdict(figure, part, {name: old | {"values": values}}), figure, part, name)


def alike(one: dict, other: dict, tolerance: float) -> bool:
    """Whether a reader of two parts would call them the same."""
    if one["words"] != other["words"] or one["size"] != other["size"]:
        return False
    pairs = [(one["numbers"][c], other["numbers"][c]) for c in one["numbers"]]
    apart = [np.nan_to_num(values_of(a)) - np.nan_to_num(values_of(b)) for a, b in pairs]
    reach = [3 * tolerance * max(a["range"], b["range"]) for a, b in pairs]
    return all(np.abs(d).max(initial=0) < r for d, r in zip(apart, reach, strict=True))


def test_two_swapped_lines_are_noticed_even_if_they_look_the_same():
    tried = 0
    for figure, drawn in COMPARED.items():
        lines = [part for part in drawn if re.search(r"line \d+$", part)]
        for one, other in pairwise(lines):
            pair = drawn[one] | {"words": {}}, drawn[other] | {"words": {}}
            if one.split(" line")[0] != other.split(" line")[0] or alike(*pair, TOLERANCES[figure]):
                continue
            tried += 1
            old = drawn | {one: pair[0], other: pair[1]}
            assert compare_drawn(old | {one: pair[1], other: pair[0]}, old, TOLERANCES[figure]) != SAME, (
                figure,
                one,
                other,
            )
    assert tried > 150


def test_swapped_x_and_y_are_noticed():
    tried = 0
    for figure, drawn in COMPARED.items():
        for part, record in drawn.items():
            if {"x", "y"} <= record["numbers"].keys():
                swapped = {"x": record["numbers"]["y"], "y": record["numbers"]["x"]}
                if alike(record, record | {"numbers": record["numbers"] | swapped}, TOLERANCES[figure]):
                    continue
                tried += 1
                expect_a_verdict(verdict(figure, part, swapped), figure)
    assert tried > 500


def test_a_part_more_or_less_is_noticed_and_named():
    for figure, drawn in FIGURES.items():
        for part in drawn:
            fewer = {name: record for name, record in drawn.items() if name != part}
            expect_a_verdict(compare_drawn(fewer, drawn, TOLERANCES[figure]), figure, f"without {part}")
            expect_a_verdict(compare_drawn(drawn, fewer, TOLERANCES[figure]), figure, f"with {part}")


def test_a_point_less_is_noticed_and_named():
    for figure, drawn in FIGURES.items():
        for part, record in drawn.items():
            new = record | {"size": record["size"] - 1}
            expect_a_verdict(compare_drawn({part: new}, {part: record}, TOLERANCES[figure]), figure, part)


def test_a_changed_word_or_color_is_noticed_and_named():
    tried = 0
    for figure, drawn in COMPARED.items():
        for part, record in drawn.items():
            for kind, word in record["words"].items():
                tried += 1
                other = [*word[:-1], word[-1] + "?"] if isinstance(word, list) else word + "?"
                new = record | {"words": record["words"] | {kind: other}}
                expect_a_verdict(compare_drawn({part: new}, {part: record}, TOLERANCES[figure]), figure, part, kind)
    assert tried > 1000


def test_swapped_words_of_a_legend_are_noticed():
    for figure, drawn in COMPARED.items():
        for part, record in drawn.items():
            words = record["words"].get("legend", [])
            if words != words[::-1]:
                new = drawn | {part: record | {"words": record["words"] | {"legend": words[::-1]}}}
                expect_a_verdict(compare_drawn(new, drawn, TOLERANCES[figure]), figure, part, "legend")
