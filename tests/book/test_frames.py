"""The stored frames of the moving figures: their numbers are computed anew, and each stands below its mark."""

import re

import numpy as np
import pytest
from PIL import Image

from reference.book.manifest import ROOT
from tests.book.rules import BOOK, prose
from tests.book.test_explorables import assert_close
from tools import frames
from tools.chapters import read_notebook
from tools.copies import downloadable, for_students
from tools.site_cells import EXPLORABLE, explorable_html

MARKED = [chapter for chapter in BOOK.chapters if "<!--explorable" in prose(chapter)]


@pytest.mark.parametrize("name", frames.STRIPS)
def test_the_numbers_in_the_file_are_those_that_the_book_computes(name):
    assert_close(frames.stored(frames.FOLDER / f"{name}.png"), frames.STRIPS[name].numbers())


def test_there_is_no_strip_without_a_mark_and_none_is_blank():
    assert {path.stem for path in frames.FOLDER.iterdir()} == set(frames.STRIPS)
    assert {m["name"] for c in MARKED for m in EXPLORABLE.finditer(prose(c))} == set(frames.STRIPS)
    for name in frames.STRIPS:
        with Image.open(frames.FOLDER / f"{name}.png") as image:
            grey = np.asarray(image.convert("L"))
            assert image.width < 1300 and grey.std() > 10
            rim = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
            assert rim.min() == 255, f"{name}: something is cut at the rim"


def test_the_frames_show_what_their_words_say():
    state, cache = frames.state_numbers(), frames.cache_numbers()
    assert np.allclose(state["delta rule"][2]["returned"], frames.ORANGE)
    assert np.allclose(state["delta rule"][3]["returned"], frames.SKY)
    assert not np.allclose(np.clip(state["Hebb"][3]["returned"], 0, 1), frames.SKY)
    triangle = {key: np.array(x) for key, x in frames.triangle_numbers().items()}
    assert np.allclose(triangle["X"], np.linalg.inv(np.eye(5) + triangle["A"]))
    same, moved, other = (turned["product"] for turned in frames.rotate_numbers().values())
    assert same == pytest.approx(moved) and abs(same - other) > 0.1
    short, _, long = cache.values()
    state_of_most, most = max(short.values(), key=lambda kept: kept[1])
    assert state_of_most > 0.8 * most
    with_state = [kept[1] for kept in long.values() if kept[0]]
    assert len(with_state) == 3 and max(with_state) < min(kept[1] for kept in long.values() if not kept[0])
    assert all(len(found["read"]) == 4 for found in frames.select_numbers().values())


@pytest.mark.parametrize("chapter", MARKED, ids=lambda c: c.name)
def test_each_mark_of_a_chapter_is_followed_by_its_frames(chapter):
    text = chapter.text.read_text(encoding="utf-8")
    assert frames.with_frames(text) == text, "python -m tools.frames, then make sync"


@pytest.mark.parametrize("chapter", MARKED, ids=lambda c: c.name)
def test_copies_hold_the_frames_and_the_chapter_links_to_them(chapter):
    original = read_notebook(chapter)
    for copy in (downloadable(original), for_students(original)):
        held = [name for cell in copy.cells for name in cell.get("attachments", {})]
        said = "\n".join(cell.source for cell in copy.cells if cell.cell_type == "markdown")
        assert held and re.findall(r"\]\(attachment:([^)]+)\)", said) == held
        assert "figures/frames" not in said
    assert not any("attachments" in cell for cell in original.cells)
    assert all((ROOT / "chapters" / path).exists() for path in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", prose(chapter)))


def test_the_site_shows_the_frames_only_without_scripts_and_on_paper():
    text = frames.with_frames("<!--explorable state: A caption.-->\n\nThe next paragraph.")
    page = EXPLORABLE.sub(explorable_html, text)
    still = re.search(r"<noscript>This figure needs JavaScript\.<img src=\"([^\"]+)\" alt=\"[^\"]+\"></noscript>", page)
    assert still[1] == "../figures/frames/state.png" and "![" not in page
    assert re.search(r'<div class="explorable-still"><img src="([^"]+)"', page)[1] == still[1]
    assert "explorable-still" not in EXPLORABLE.sub(explorable_html, "<!--explorable state: A caption.-->")
    assert page.endswith("</figure>\n\nThe next paragraph.")
