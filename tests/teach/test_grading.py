"""Assignments for nbgrader: every exercise is graded once, what is released holds no solution, points are earned."""

import re

import nbformat
import pytest

from reference.book.manifest import read_manifest
from reference.checks import EXERCISES, grade
from tools.chapters import read_notebook
from tools.teach.grading import for_grading, write_grading

CLEARED = re.compile(r"### BEGIN SOLUTION\n.*?### END SOLUTION", re.S)  # as nbgrader's ClearSolutions does


def by_name(notebook):
    return {c.metadata.nbgrader.grade_id: c for c in notebook.cells if "nbgrader" in c.metadata}


def test_every_exercise_is_graded_once_and_no_solution_is_released(tmp_path):
    count = write_grading(read_manifest(), tmp_path)
    found = []
    for path in sorted((tmp_path / "source").rglob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        cells = by_name(notebook)
        for name, cell in cells.items():
            flags = cell.metadata.nbgrader
            assert flags.grade != flags.solution and flags.locked == flags.grade
            if flags.grade:
                number = name.removeprefix("grade-").replace("-", ".")
                assert f'grade("{number}", my_' in cell.source and flags.points == 1
                found.append(number)
        released = "\n".join(CLEARED.sub("", cell.source) for cell in notebook.cells)
        assert "solution_" not in released and "SOLUTION" not in released, path
    assert sorted(found) == sorted(EXERCISES) and count == len(found) == len(set(found))
    assert (tmp_path / "nbgrader_config.py").is_file()


@pytest.mark.parametrize("solved", [True, False])
def test_the_graded_cells_raise_for_a_blank_and_pass_for_the_solution(solved):
    chapter = next(c for c in read_manifest().chapters if c.number == 1)
    cells = by_name(for_grading(read_notebook(chapter))[0])
    answers = {}
    for name in ("1-1", "1-3", "1-4"):
        source = cells[f"exercise-{name}"].source
        exec("import numpy as np\n" + (source if solved else CLEARED.sub("", source)), answers)
        if solved:
            exec(cells[f"grade-{name}"].source, answers)
        else:
            with pytest.raises(AssertionError, match=r"no answer yet"):
                exec(cells[f"grade-{name}"].source, answers)


def test_a_wrong_answer_is_said_and_raised(capsys):
    with pytest.raises(AssertionError, match=r"Exercise 1\.4: not yet"):
        grade("1.4", "z")
    assert "Exercise 1.4: not yet" in capsys.readouterr().out


def test_an_exercise_without_its_solution_is_named():
    chapter = next(c for c in read_manifest().chapters if c.number == 1)
    notebook = read_notebook(chapter)
    notebook.cells = [c for c in notebook.cells if "solution_1_2(" not in c.source]
    with pytest.raises(ValueError, match=r"exercise 1\.2: expected the student's cell"):
        for_grading(notebook)
