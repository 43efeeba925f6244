"""A chapter that was opened, run and saved in any editor is the same file again after `make sync`.

samples/book.ipynb is a small chapter as the book stores it; the others are the same one as editors save it.
jupyterlab.ipynb was made by JupyterLab 4 in a browser (run, code unfolded, outputs folded and scrolled, saved);
the others were written by hand after what these editors write.
"""

import json
import warnings
from pathlib import Path

import nbformat
import pytest

from tools import chapters as tool

SAMPLES = Path(__file__).parent / "samples"
EDITORS = ["jupyterlab", "vscode", "colab", "classic", "papermill"]
BOOK = (SAMPLES / "book.ipynb").read_text(encoding="utf-8")


def read(name: str) -> nbformat.NotebookNode:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nbformat mends what an older format lacks
        return nbformat.read(SAMPLES / f"{name}.ipynb", as_version=4)


@pytest.mark.parametrize("editor", EDITORS)
def test_what_an_editor_saved_becomes_the_books_file_again(editor):
    assert (SAMPLES / f"{editor}.ipynb").read_text(encoding="utf-8") != BOOK
    assert tool.as_file(tool.clean(read(editor), 42)) == BOOK


@pytest.mark.parametrize("editor", EDITORS)
def test_so_does_its_text_form(editor):
    assert tool.as_text(tool.clean(read(editor), 42)) == tool.as_text(read("book"))


def test_the_samples_hold_what_editors_write():
    """If a sample lost its editor's keys, the test above would pass for nothing."""
    told = {
        "jupyterlab": ["outputs_hidden", "collapsed", "scrolled", "pygments_lexer"],
        "vscode": ["vscode", "orig_nbformat", "languageId", "340.0", "needs_background", "\\r\\n", "attachments"],
        "colab": ["provenance", "outputId", "base_uri", "intrinsic+json", '"nbformat_minor": 0'],
        "classic": ["ExecuteTime", "scrolled", "toc", "varInspector", "conda-env", "heading_collapsed"],
        "papermill": ["papermill", "iopub.execute_input", "widgets", "jetTransient", "jp-MarkdownHeadingCollapsed"],
    }
    assert list(told) == EDITORS
    for editor, words in told.items():
        text = (SAMPLES / f"{editor}.ipynb").read_text(encoding="utf-8")
        assert not [word for word in words if word not in text], editor


@pytest.mark.parametrize("editor", EDITORS)
def test_cleaning_twice_is_cleaning_once(editor):
    once = tool.as_file(tool.clean(read(editor), 42))
    assert tool.as_file(tool.clean(nbformat.reads(once, as_version=4), 42)) == once


def test_what_a_cell_says_and_shows_is_never_dropped():
    notebook = read("jupyterlab")
    notebook.cells[1].source += "\nprint(3)"
    notebook.cells[1].outputs[0].text += "3\n"
    notebook.cells[3].outputs[0].data["text/plain"] = "43"
    notebook.cells[3].metadata["tags"] = ["mine"]
    cleaned = json.loads(tool.as_file(tool.clean(notebook, 42)))["cells"]
    assert cleaned[1]["source"][-1] == "print(3)" and cleaned[1]["outputs"][0]["text"][-1] == "3\n"
    assert cleaned[3]["outputs"][0]["data"]["text/plain"] == ["43"] and cleaned[3]["metadata"] == {"tags": ["mine"]}


def test_cells_that_ran_out_of_order_keep_their_counts():
    notebook = read("book")
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for cell, count in zip(code, (1, 3, 2, 4, 5, 6), strict=True):
        cell.execution_count = count
    tool.clean(notebook, 42)
    assert [cell.execution_count for cell in code] == [1, 3, 2, 4, 5, 6]


@pytest.mark.parametrize("folded", [True, False])
def test_a_solution_is_folded_whatever_a_reader_left_open(folded):
    notebook = read("book")
    for cell in notebook.cells[1:]:
        cell.metadata["jupyter"] = {"source_hidden": folded, "outputs_hidden": True}
    tool.clean(notebook, 42)
    assert [cell.metadata.get("jupyter") for cell in notebook.cells] == [None] * 6 + [{"source_hidden": True}, None]
