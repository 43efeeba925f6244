"""The chapters for the browser: they install what they need first, need no PyTorch, and the site overwrites nothing."""

import re

import nbformat
import pytest

from reference.book.manifest import read_manifest
from tools import lite
from tools.chapters import read_notebook
from tools.copies import RELATIVE_LINK, hold_images, lead_links

FOUND = {"sklearn": "scikit-learn", "yaml": "pyyaml"}  # where module and package have other names
CHAPTERS = [chapter for chapter in read_manifest().chapters if chapter.number in lite.CHAPTERS]
IMPORT = re.compile(r"^(?:import|from) (\w+)", re.M)


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda c: c.name)
def test_the_first_cell_installs_and_all_else_stays(chapter, tmp_path):
    [path] = lite.contents([chapter], tmp_path)
    copy, original = nbformat.read(path, as_version=4), read_notebook(chapter)
    nbformat.validate(copy)
    first = next(cell for cell in copy.cells if cell.cell_type == "code")
    assert lite.PROJECT in first.source and "deps=False" in first.source
    rest = [cell for cell in copy.cells if cell is not first]
    hold_images(original)
    lead_links(original, None, [path.name])
    assert [cell.source for cell in rest] == [cell.source for cell in original.cells]
    assert sum(bool(cell.get("outputs")) for cell in rest) > 20
    assert "jupytext" not in copy.metadata


def test_links_lead_to_a_chapter_that_is_there_or_are_plain_words(tmp_path):
    paths = lite.contents(CHAPTERS, tmp_path)
    found = set()
    for path in paths:
        cells = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown"]
        found |= {link["target"].partition("#")[0] for text in cells for link in RELATIVE_LINK.finditer(text)}
    assert {target for target in found if not target.startswith("attachment:")} <= {path.name for path in paths}
    assert CHAPTERS[0].notebook.name in found


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda c: c.name)
def test_every_package_of_a_chapter_is_installed(chapter):
    code = "\n".join(cell.source for cell in read_notebook(chapter).cells if cell.cell_type == "code")
    modules = set(IMPORT.findall(code)) - {"reference", "time", "itertools", "math", "json"}
    assert modules and {FOUND.get(module, module) for module in modules} <= set(lite.PACKAGES)


def test_what_is_missing_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(lite, "NEEDED", {"no_such_module": "no-such-package"})
    with pytest.raises(ValueError, match=r"it needs no-such-package: pip install '\.\[lite\]'"):
        lite.build(tmp_path / "lite")
    assert not (tmp_path / "lite").exists()


def test_a_folder_with_other_files_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(lite, "NEEDED", {})
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds other files"):
        lite.build(tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "mine"
