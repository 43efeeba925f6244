"""Running and pairing a chapter: nothing is lost, nothing changes without a reason."""

import json
import os

import nbformat
import pytest

from reference.book.manifest import Chapter
from tools import chapters as tool
from tools.references import reference_list

TEXT = """---
jupytext:
  formats: ipynb,text//md:myst
kernelspec:
  display_name: Python 3 (ipykernel)
  language: python
  name: python3
---

# 42 · A test

See [Hebb 1949](#hebb1949). About 1 s<!--claim figures/data/run_seconds.json: 42-->.

```{code-cell}
:name: sum

print(1 + 1)
```

```{code-cell}
---
tags: [hide-cell, solution]
jupyter:
  source_hidden: true
---
### BEGIN SOLUTION
secret = 1
### END SOLUTION
print(secret)
```

```{code-cell}
def mine():
    ### BEGIN SOLUTION
    return 7
    ### END SOLUTION
```

## Summary

Done.

## References
"""


@pytest.fixture
def chapter(tmp_path, monkeypatch):
    monkeypatch.setattr(tool, "ROOT", tmp_path)
    monkeypatch.setattr(tool, "RUN_SECONDS", tmp_path / "run_seconds.json")
    (tmp_path / "chapters" / "text").mkdir(parents=True)

    class Small(Chapter):
        notebook = tmp_path / "chapters" / "42_a.ipynb"
        text = tmp_path / "chapters" / "text" / "42_a.md"

    small = Small("42_a", "A test", "?", [], 1)
    small.text.write_text(TEXT, encoding="utf-8")
    return small


@pytest.fixture
def executed(chapter, capsys):
    tool.run(chapter)
    return chapter


def printed(chapter) -> list[str]:
    cells = nbformat.read(chapter.notebook, as_version=4).cells
    return ["".join(o.text for o in cell.outputs) for cell in cells if cell.cell_type == "code"]


def test_a_run_writes_both_forms_and_again_without_a_diff(executed):
    assert printed(executed) == ["2\n", "1\n", ""]
    first = executed.notebook.read_bytes(), executed.text.read_bytes()
    tool.run(executed)
    assert (executed.notebook.read_bytes(), executed.text.read_bytes()) == first


def test_references_are_generated_into_a_cell_of_their_own(executed):
    cells = nbformat.read(executed.notebook, as_version=4).cells
    assert cells[-2].source == "## Summary\n\nDone."
    assert cells[-1].source.startswith('## References\n\n- <a id="hebb1949"></a>Donald O. Hebb.')


def test_the_run_time_is_noted_in_steps_and_stated_in_the_head(executed):
    assert json.loads(tool.RUN_SECONDS.read_text())["42"] % 5 == 0
    seconds = json.loads(tool.RUN_SECONDS.read_text())["42"]
    assert f"About {seconds} s<!--claim" in executed.text.read_text(encoding="utf-8")


def test_sync_takes_the_newer_side_and_keeps_outputs_of_unchanged_cells(executed):
    text = executed.text.read_text(encoding="utf-8").replace("Done.", "Done well.").replace("secret = 1", "secret = 5")
    executed.text.write_text(text, encoding="utf-8")
    later = executed.notebook.stat().st_mtime + 5
    os.utime(executed.text, (later, later))
    tool.write_pair(executed, tool.newer(executed))
    assert "Done well." in executed.notebook.read_text(encoding="utf-8")
    assert printed(executed) == ["2\n", "", ""]


def test_sync_takes_an_edited_notebook_over_an_older_text(executed):
    notebook = nbformat.read(executed.notebook, as_version=4)
    notebook.cells[-2].source = "## Summary\n\nEdited in Jupyter."
    notebook.metadata["widgets"] = {"state": {}}
    nbformat.write(notebook, executed.notebook)
    later = executed.text.stat().st_mtime + 5
    os.utime(executed.notebook, (later, later))
    tool.write_pair(executed, tool.newer(executed))
    assert "Edited in Jupyter." in executed.text.read_text(encoding="utf-8")
    assert json.loads(executed.notebook.read_text(encoding="utf-8"))["metadata"] == tool.METADATA


def test_sync_keeps_what_the_older_side_said(executed, capsys):
    text = executed.text.read_text(encoding="utf-8")
    executed.text.write_text(text.replace("Done.", "Edited in the text."), encoding="utf-8")
    notebook = nbformat.read(executed.notebook, as_version=4)
    notebook.cells[-2].source = "## Summary\n\nEdited in Jupyter."
    nbformat.write(notebook, executed.notebook)
    for newer, kept in ((executed.notebook, "Edited in the text."), (executed.text, "Edited in Jupyter.")):
        other = executed.text if newer == executed.notebook else executed.notebook
        later = other.stat().st_mtime + 5
        os.utime(newer, (later, later))
        tool.newer(executed)
        said = capsys.readouterr().out.strip().replace("\\", "/")
        place = said.partition("what the other one said is kept in ")[2]
        assert place.startswith("build/older/42_a") and kept in (tool.ROOT / place).read_text(encoding="utf-8")


def test_sync_of_a_pair_that_agrees_changes_nothing_and_says_nothing(executed, capsys):
    before = executed.notebook.read_bytes(), executed.text.read_bytes()
    capsys.readouterr()
    for _ in range(2):
        tool.write_pair(executed, tool.newer(executed))
    assert (executed.notebook.read_bytes(), executed.text.read_bytes()) == before
    assert capsys.readouterr().out == "" and not (tool.ROOT / "build").exists()


def test_an_error_in_a_cell_stops_the_run_and_writes_nothing(executed):
    before = executed.notebook.read_bytes()
    executed.text.write_text(TEXT.replace("1 + 1", "1 / 0"), encoding="utf-8")
    later = executed.notebook.stat().st_mtime + 5
    os.utime(executed.text, (later, later))
    with pytest.raises(Exception, match="ZeroDivisionError"):
        tool.run(executed)
    assert executed.notebook.read_bytes() == before


def test_the_student_copy_has_blanks_for_solutions_and_no_outputs(executed):
    notebook = nbformat.read(tool.student(executed), as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.source for cell in code] == ["print(1 + 1)", "def mine():\n    # YOUR CODE HERE"]
    assert not any(cell.outputs for cell in code)


def test_a_folder_that_cannot_be_written_to_gets_a_sentence(monkeypatch):
    def refused(*_):
        raise OSError(30, "Read-only file system", "build/student")

    monkeypatch.setattr(tool, "act", refused)
    monkeypatch.setattr("sys.argv", ["chapters", "student"])
    with pytest.raises(SystemExit, match=r"^student: .*Read-only file system: 'build/student'"):
        tool.main()


def test_an_unknown_citation_is_named():
    with pytest.raises(KeyError, match="no hobb1949"):
        reference_list("[Hobb](#hobb1949)")


@pytest.mark.parametrize("side", ["notebook", "text"])
@pytest.mark.parametrize("content", [b"", b'{\n "cells": [\n  {', b"\xff\xfe", b"[]"])
def test_a_torn_side_is_named_and_nothing_is_written(executed, side, content):
    path = getattr(executed, side)
    whole, other = path.read_bytes(), executed.text if side == "notebook" else executed.notebook
    before = other.read_bytes()
    path.write_bytes(content)
    try:
        with pytest.raises(SystemExit, match=rf"{path.name}: is no whole chapter .*git checkout"):
            tool.newer(executed)
        assert path.read_bytes() == content and other.read_bytes() == before
    finally:
        path.write_bytes(whole)


def test_each_loser_is_kept(executed):
    first, again, second = (tool.keep_older("a.md", text) for text in ("one", "one", "two"))
    assert first == again != second and (first.read_text(), second.read_text()) == ("one", "two")
