"""A verdict says what is wrong, in words that help; the machinery behind all exercises."""

import numpy as np
import pytest

from reference.checks import EXERCISES, Wrong, exercise, expect_close, expect_shape, verdict


@pytest.fixture
def said(capsys):
    """Register exercise 99.1, whose right answer is a function that returns [[1, 2, 3]]; return its verdict."""

    @exercise("99.1", "a test")
    def check(answer):
        want = np.array([[1.0, 2.0, 3.0]])
        expect_close(answer(), want, "The row", {"You forgot to add one.": want - 1})
        return "Well counted."

    def judge(answer):
        verdict("99.1", answer)
        return capsys.readouterr().out.strip()

    yield judge
    del EXERCISES["99.1"]


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (lambda: [[1, 2, 3]], "right. Well counted."),
        (None, "no answer yet."),
        (..., "no answer yet."),
        (lambda: ..., "no answer yet."),
        (lambda: None, "no answer yet."),
        (lambda: [[0, 1, 2]], "not yet. You forgot to add one."),
        (lambda: [[-1, -2, -3]], "not yet. The row has the wrong sign everywhere."),
        (
            lambda: [[1], [2], [3]],
            "not yet. The row should have shape (1, 3), yours has (3, 1). It has the right shape tr",
        ),
        (lambda: [1, 2], "not yet. The row should have shape (1, 3), yours has (2,)."),
        (lambda: [[1, 2, 4]], "not yet. The row is off by up to 1 (values reach 3)."),
        (lambda: [[1, 2, np.nan]], "not yet. The row is off by up to nan"),
        (lambda: 1 / 0, "not yet. Your answer raised ZeroDivisionError: division by zero"),
    ],
)
def test_the_verdict_names_what_is_wrong(said, answer, sentence):
    assert said(answer).startswith(f"Exercise 99.1: {sentence}")


def test_an_unknown_exercise_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"no exercise '7\.77'; known are"):
        verdict("7.77", 1)


def test_an_exercise_cannot_be_registered_twice(said):
    with pytest.raises(ValueError, match="registered twice"):
        exercise("99.1", "again")(lambda answer: "")


def test_shapes_are_compared_before_values():
    with pytest.raises(Wrong, match=r"shape \(2,\)"):
        expect_shape([1.0, 2.0, 3.0], (2,), "It")
