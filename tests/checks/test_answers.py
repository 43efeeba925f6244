"""Every chapter's checks accept right answers and name what is wrong with wrong ones.

A chapter's cases are in chNN.py beside this file: RIGHT {number: answer}, WRONG [(number, answer, words that it gets)].
"""

from importlib import import_module

import numpy as np
import pytest

from reference.book.manifest import read_manifest
from reference.checks import EXERCISES, Wrong, verdict
from reference.checks.ch04 import museum_piece, suspect
from reference.equations import gated_delta_scan

CASES = {chapter.number: import_module(f"tests.checks.ch{chapter.number:02d}") for chapter in read_manifest().chapters}
RIGHT = [case for cases in CASES.values() for case in cases.RIGHT.items()]
WRONG = [case for cases in CASES.values() for case in cases.WRONG]
BLANKS = [(number, ...) for number, _ in RIGHT]
BLANKS += [(number, lambda *a: ...) for number, answer in RIGHT if callable(answer)]
BLANKS += [(number, lambda *a: None) for number, answer in RIGHT if callable(answer)]


def name_of(case: object) -> str | None:
    """Of a parametrised test: the number of the exercise and the sentence; an answer needs no name."""
    return case if isinstance(case, str) else None


@pytest.fixture
def said(capsys):
    """The verdict on an answer, without the line's end."""

    def judge(number: str, answer: object) -> str:
        verdict(number, answer)
        return capsys.readouterr().out.rstrip("\n")

    return judge


@pytest.mark.parametrize("chapter", CASES)
def test_every_exercise_of_the_chapter_is_tried(chapter):
    numbers = {number for number in EXERCISES if number.startswith(f"{chapter}.")}
    assert numbers == CASES[chapter].RIGHT.keys() == {number for number, _, _ in CASES[chapter].WRONG}


@pytest.mark.parametrize(("number", "answer"), RIGHT, ids=name_of)
def test_a_right_answer_is_accepted(number, answer, said):
    assert said(number, answer).startswith(f"Exercise {number}: right.")


@pytest.mark.parametrize(("number", "answer", "sentence"), WRONG, ids=name_of)
def test_a_mistake_is_named(number, answer, sentence, said):
    heard = said(number, answer)
    assert heard.startswith(f"Exercise {number}: not yet."), heard
    assert sentence in heard


@pytest.mark.parametrize(("number", "blank"), BLANKS, ids=name_of)
def test_a_blank_is_no_answer(number, blank, said):
    assert "no answer yet" in said(number, blank)


def test_upper_case_and_spaces_are_accepted(said):
    assert "right." in said("0.4", "B, C")


def test_a_check_raises_its_own_kind_of_error():
    with pytest.raises(Wrong):
        EXERCISES["0.5"].check("a")


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_suspect_of_chapter_04_is_wrong_where_its_fault_shows_and_right_on_one_token(number):
    inputs = CASES[4].inputs
    assert not np.allclose(suspect(number)(*inputs(6)), gated_delta_scan(*inputs(6))[0], atol=1e-3)
    unwritten = inputs(6, beta=np.zeros(6))
    assert np.allclose(suspect(number)(*unwritten), gated_delta_scan(*unwritten)[0])


@pytest.mark.parametrize("T", [1, 2, 3, 4])
def test_the_museum_piece_of_chapter_04_is_right_on_less_than_five_tokens(T):
    inputs = CASES[4].inputs
    assert np.allclose(museum_piece(*inputs(T)), gated_delta_scan(*inputs(T))[0])
