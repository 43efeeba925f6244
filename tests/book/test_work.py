"""Working copies: what a reader wrote is never lost, what the book changed is never hidden."""

import json
import re

import nbformat
import pytest

from reference.book.manifest import ROOT, Chapter
from tests.book.rules import BOOK
from tools import work

v4 = nbformat.v4


class Book:
    """One chapter and a reader's folder."""

    def __init__(self, folder) -> None:
        self.folder, self.original = folder / "work", folder / "chapters" / "42_a.ipynb"
        self.original.parent.mkdir()

        class Small(Chapter):
            notebook = self.original

        self.chapter = Small("42_a", "A", "?", [], 1)
        self.write("first")

    def write(self, source: str) -> None:
        metadata = {"jupytext": {"formats": "ipynb,text//md:myst"}}
        output = v4.new_output("stream", name="stdout", text="shown\n")
        cells = [v4.new_markdown_cell("# 42 · A"), v4.new_code_cell(source, outputs=[output])]
        nbformat.write(v4.new_notebook(metadata=metadata, cells=cells), self.original)

    @property
    def mine(self):
        return self.folder / "42_a.ipynb"

    def edit(self, source: str) -> bytes:
        notebook = nbformat.read(self.mine, as_version=4)
        notebook.cells[1].source = source
        notebook.metadata["language_info"] = {"name": "python", "version": "3.11.7"}
        nbformat.write(notebook, self.mine)
        return self.mine.read_bytes()

    def source(self) -> str:
        return nbformat.read(self.mine, as_version=4).cells[1].source

    def refresh(self) -> list:
        return work.refresh([self.chapter], self.folder)

    def reset(self) -> list:
        return work.reset([self.chapter], self.folder)


@pytest.fixture
def book(tmp_path):
    return Book(tmp_path)


def test_a_copy_has_outputs_and_is_not_paired(book):
    assert book.refresh() == []
    copy = nbformat.read(book.mine, as_version=4)
    assert copy.cells[1].outputs[0].text == "shown\n" and "jupytext" not in copy.metadata
    assert "jupytext" in nbformat.read(book.original, as_version=4).metadata


def test_an_edited_copy_stays_and_is_named_once_the_book_has_changed(book):
    book.refresh()
    mine = book.edit("my answer")
    assert book.refresh() == [], "the book has not changed"
    book.write("second")
    for _ in range(2):
        assert book.refresh() == [book.chapter]
        assert book.mine.read_bytes() == mine


def test_a_copy_that_was_only_opened_follows_the_book(book):
    book.refresh()
    book.edit("first")
    book.write("second")
    assert book.refresh() == [] and book.source() == "second"


def test_an_edit_equal_to_the_new_version_is_up_to_date(book):
    book.refresh()
    mine = book.edit("second")
    book.write("second")
    assert book.refresh() == [] and book.mine.read_bytes() == mine
    book.write("third")
    assert book.refresh() == [] and book.source() == "third"


@pytest.mark.parametrize("damage", ["", "{", "[]", "{}", '{"cells": 3}', "\x00"])
def test_a_copy_that_cannot_be_read_is_left_alone(book, damage):
    book.refresh()
    book.mine.write_text(damage)
    book.write("second")
    assert book.refresh() == [book.chapter] and book.mine.read_text() == damage
    assert book.reset()[0].read_text() == damage and book.source() == "second"


@pytest.mark.parametrize("record", [None, "{"])
def test_without_its_record_an_edited_copy_stays_too(book, record):
    book.refresh()
    mine = book.edit("my answer")
    (book.folder / work.VERSIONS).unlink() if record is None else (book.folder / work.VERSIONS).write_text(record)
    assert book.refresh() == [book.chapter] and book.mine.read_bytes() == mine


def test_reset_gives_a_clean_copy_and_keeps_every_old_one(book):
    book.refresh()
    answers = [book.edit("one"), b""]
    first = book.reset()
    answers[1] = book.edit("two")
    second = book.reset()
    assert book.source() == "first" and book.refresh() == []
    assert [path.read_bytes() for path in first + second] == answers
    assert re.fullmatch(r"42_a-\d{4}-\d\d-\d\d\.ipynb", first[0].name) and second[0].stem == first[0].stem + "-2"


def test_a_write_that_fails_leaves_no_half_copy(book, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    book.refresh()
    monkeypatch.setattr("pathlib.Path.replace", full)
    book.write("second")
    with pytest.raises(OSError, match="No space"):
        book.refresh()
    assert book.source() == "first"


def test_reset_wants_to_know_which():
    for names, sentence in (([], "which chapter"), (["99"], "no chapter 99; it has 00 to 16"), (["x"], "no chapter x")):
        with pytest.raises(SystemExit, match=sentence):
            work.choose(names, BOOK.chapters)
    assert [chapter.number for chapter in work.choose(["2", "00"], BOOK.chapters)] == [0, 2]
    assert work.choose(["ALL"], BOOK.chapters) == BOOK.chapters


def test_what_is_behind_is_said_in_one_line_with_the_way_out(capsys):
    work.say_behind([])
    work.say_behind(BOOK.chapters[2:4])
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and 'make reset CHAPTERS="02 03"' in said


def test_git_does_not_see_the_working_copies():
    assert "work/" in (ROOT / ".gitignore").read_text().split()


def test_links_lead_to_the_same_places_as_from_chapters():
    """Copies keep their names, one folder below the book's root, as chapters/ is."""
    assert work.WORK.parent == ROOT == BOOK.chapters[0].notebook.parents[1]
    assert all(work.copy_path(chapter).name == chapter.notebook.name for chapter in BOOK.chapters)


def test_the_record_is_readable(book):
    book.refresh()
    assert json.loads((book.folder / work.VERSIONS).read_text()).keys() == {"42_a"}
