"""A right answer of the reader's is noted; the book's solutions, CI and wrong answers aren't."""

import json
import sys
from types import SimpleNamespace

import pytest

from reference.checks import progress, verdict
from tools.progress import progress_table


@pytest.fixture
def notebook(tmp_path, monkeypatch):
    """A file to note in, and a running cell: notebook(source) is what a reader has run."""
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.delenv("NO_PROGRESS", raising=False)
    monkeypatch.setattr(progress, "SOLVED", tmp_path / "solved.json")

    def run(source):
        shell = SimpleNamespace(user_ns={"In": ["", source]})
        monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))

    return run


def right(K, V, beta):
    return K.T @ (beta[:, None] * V)


def test_right_answers_are_noted_once_in_order(notebook, capsys):
    notebook("verdict('2.1', mine)")
    verdict("2.1", lambda K, V, beta: K.T @ V)
    assert progress.solved() == []
    verdict("2.1", right)
    progress.note_solved("10.2")
    progress.note_solved("2.10")
    verdict("2.1", right)
    assert progress.solved() == ["2.1", "2.10", "10.2"]
    capsys.readouterr()


@pytest.mark.parametrize("variable", ["CI", "NO_PROGRESS"])
def test_nothing_is_noted_where_it_is_switched_off(notebook, variable, monkeypatch, capsys):
    notebook("verdict('2.1', mine)")
    monkeypatch.setenv(variable, "1")
    verdict("2.1", right)
    assert progress.solved() == []
    capsys.readouterr()


def test_the_books_solutions_and_scripts_are_not_noted(notebook, monkeypatch, capsys):
    notebook("### BEGIN SOLUTION\ndef solution_2_1(K, V, beta): ...")
    verdict("2.1", right)
    monkeypatch.delitem(sys.modules, "IPython")
    verdict("2.1", right)
    assert progress.solved() == []
    capsys.readouterr()


def test_a_damaged_file_or_one_that_cannot_be_written_is_no_error(notebook, tmp_path, monkeypatch, capsys):
    notebook("verdict('2.1', mine)")
    progress.SOLVED.write_text("{")
    assert progress.solved() == []
    verdict("2.1", right)
    assert json.loads(progress.SOLVED.read_text()) == ["2.1"]
    monkeypatch.setattr(progress, "SOLVED", tmp_path / "solved.json" / "below")
    assert progress.note_solved("2.2") is False
    capsys.readouterr()


def test_the_table_counts():
    lines = progress_table(["2.1", "2.2"]).splitlines()
    chapter = next(line for line in lines if line.startswith("02"))
    assert "●●○" in chapter and "2 of 6" in chapter and "next: 2.3" in chapter
    assert lines[-1].startswith("2 of ") and "all solved" not in chapter
