"""Copies for download and for a course: they say what they need, link to something, and answer nothing."""

import re
import shutil
import subprocess
import sys

import nbformat
import pytest

from reference.book.manifest import ROOT
from tests.book.rules import BOOK
from tools import chapters as tool
from tools.copies import for_students, packed

LINK = re.compile(r"\]\((?!#|\w+:|\.\./figures/frames/)([^)#\s]+)")  # an image isn't a link
EVERY = {"argvalues": BOOK.chapters, "ids": lambda c: c.name}
RUN = """
import sys
from IPython.core.interactiveshell import InteractiveShell
if {blocked!r}: sys.modules[{blocked!r}] = None
shell = InteractiveShell.instance(colors="nocolor")
shell.run_cell(sys.stdin.read())
"""


def links(notebook: nbformat.NotebookNode) -> list[str]:
    return LINK.findall("\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown"))


def guarded(chapter, repository: str | None = None) -> str:
    notebook = tool.downloadable(tool.read_notebook(chapter), repository)
    return next(cell.source for cell in notebook.cells if cell.cell_type == "code")


def run_cell(source: str, folder, blocked: str | None) -> str:
    words = [sys.executable, "-c", RUN.format(blocked=blocked)]
    done = subprocess.run(words, input=source, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return done.stdout


@pytest.mark.parametrize("chapter", **EVERY)
def test_a_download_says_what_it_needs_and_has_no_dead_link(chapter):
    original = tool.read_notebook(chapter)
    before = tool.as_file(original)
    alone = tool.downloadable(original)
    assert tool.as_file(original) == before, "the chapter itself must stay as it is"
    head = alone.cells[0].source
    assert head.startswith(original.cells[0].source.splitlines()[0] + "\n\n**This is a downloaded copy.**")
    assert "get the book's folder, run `make lab` there" in head
    assert not links(alone) and "jupytext" not in alone.metadata
    assert [c.get("outputs") for c in alone.cells] == [c.get("outputs") for c in original.cells]


@pytest.mark.parametrize("chapter", **EVERY)
def test_with_an_address_its_links_lead_to_files_that_exist(chapter):
    base = "https://example.org/owner/book"
    original = tool.read_notebook(chapter)
    alone = tool.downloadable(original, base)
    text = "\n".join(cell.source for cell in alone.cells if cell.cell_type == "markdown")
    targets = re.findall(rf"\]\({base}/blob/main/([^)#]+)", text)
    assert not links(alone) and len(targets) == len(links(original))
    assert all((ROOT / target).exists() for target in targets)
    assert f"get it from {base}" in alone.cells[0].source


def test_without_the_book_its_first_cell_answers_with_a_sentence(tmp_path):
    said = run_cell(guarded(BOOK.chapters[2]), tmp_path, blocked="reference")
    assert said.startswith("This notebook needs the book's code and its packages, and Python doesn't find them here")
    assert "Get the book's folder, run `make lab` there" in said and "Traceback" not in said
    assert said.strip().count("\n") == 1


def test_a_missing_package_is_named(tmp_path):
    assert "matplotlib" in run_cell(guarded(BOOK.chapters[2]), tmp_path, blocked="matplotlib")


def test_with_the_book_its_first_cell_runs(tmp_path):
    said = run_cell(guarded(BOOK.chapters[2]) + "\nprint(rng.normal() < 9)", tmp_path, blocked=None)
    assert said.strip() == "True"


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """A folder for a course, with two chapters, made anew over an older one."""
    target = tmp_path_factory.mktemp("course") / "student"
    (target / "reference").mkdir(parents=True)
    (target / "reference" / "gone.py").touch()
    tool.course_folder(target)
    for chapter in BOOK.chapters[2:4]:
        (target / chapter.notebook.name).write_text(tool.as_file(for_students(tool.read_notebook(chapter))))
    return target


@pytest.mark.parametrize("chapter", **EVERY)
def test_students_have_no_solution_no_pairing_and_no_dead_link(chapter, course):
    notebook = for_students(tool.read_notebook(chapter))
    text = tool.as_file(notebook)
    assert "SOLUTION" not in text and "jupytext" not in notebook.metadata
    siblings = {c.notebook.name for c in BOOK.chapters}
    dead = [link for link in links(notebook) if link not in siblings and not (course / link).exists()]
    assert not dead


def test_the_course_folder_stands_alone_and_its_checks_answer(course, tmp_path):
    alone = shutil.copytree(course, tmp_path / "elsewhere")
    code = (
        "import numpy as np, reference\n"
        "from reference.checks import EXERCISES, verdict\n"
        "print(reference.__file__, len(EXERCISES))\n"
        "verdict('2.1', lambda K, V, beta: K.T @ (beta[:, None] * V))\n"
        "verdict('2.1', lambda K, V, beta: K.T @ V)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=alone, capture_output=True, text=True)
    first, *verdicts = done.stdout.splitlines()
    assert first.startswith(str(alone)), done.stderr
    assert verdicts[0].startswith("Exercise 2.1: right.") and "pair s is written with beta[s]" in done.stdout
    assert not (course / "reference" / "gone.py").exists() and not list(course.rglob("__pycache__"))


def test_no_check_shows_its_answer_at_a_glance(course):
    packed_checks = sorted((course / "reference" / "checks").glob("ch*.py"))
    assert len(packed_checks) == len(BOOK.chapters)
    for path in packed_checks:
        text, original = path.read_text(), (ROOT / "reference" / "checks" / path.name).read_text()
        for line in original.splitlines():
            assert len(line.strip()) < 12 or line.strip() not in text, f"{path.name} shows {line.strip()}"


def test_packed_code_does_what_it_did_and_its_errors_say_where():
    names: dict = {}
    exec(packed("def f(x):\n    return 1 / x\n", "chapter 99"), names)
    assert names["f"](2) == 0.5
    assert names["f"].__code__.co_filename == "<packed checks of chapter 99>"
