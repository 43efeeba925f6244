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
        (lambda: [None].pop(), "not yet. Your function returned None: is a `return` missing?"),
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


def untouched():
    """What a chapter's cell looks like."""
    return ...


def passed(S, k):
    pass


def forgot_to_return(x=2):
    np.zeros(x)


def returns_a_pair_without_a_return():
    found = [1, 2]
    found.append(3)


def divides():
    above = 1
    return above / (above - 1)  # the line that fails


@pytest.mark.parametrize(("answer", "blank"), [(untouched, True), (passed, True), (forgot_to_return, False)])
def test_a_cell_that_was_changed_and_returns_nothing_hears_of_its_return(said, answer, blank):
    sentence = "no answer yet." if blank else "not yet. Your function returned None: is a `return` missing?"
    assert said(answer).startswith(f"Exercise 99.1: {sentence}")


def test_a_check_that_unpacks_says_it_too(capsys):
    @exercise("99.2", "a test")
    def check(answer):
        first, *_ = answer()
        return f"Well unpacked, {first}."

    try:
        for answer, sentence in (
            (returns_a_pair_without_a_return, "returned None: is a `return`"),
            (untouched, "no answer yet."),
        ):
            verdict("99.2", answer)
            assert sentence in capsys.readouterr().out
    finally:
        del EXERCISES["99.2"]


def test_an_error_names_the_line_of_the_cell(said):
    line = divides.__code__.co_firstlineno + 2
    assert said(divides).endswith(
        f"division by zero (line {line} of your cell: `return above / (above - 1)  # the line that fails`)"
    )
    assert said(lambda x: x).endswith("missing 1 required positional argument: 'x'")  # raised before its first line


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("the state is off.", "The state is off."),
        ("alpha is what survives.", "alpha is what survives."),
        ("g has the wrong sign.", "g has the wrong sign."),
        ("d: keeps all.", "d: keeps all."),
        ("sliding_window should be 4.", "sliding_window should be 4."),
    ],
)
def test_a_verdict_begins_with_a_capital_unless_with_a_name(capsys, text, sentence):
    @exercise("99.3", "a test")
    def check(answer):
        raise Wrong(text)

    verdict("99.3", 1)
    del EXERCISES["99.3"]
    assert capsys.readouterr().out.strip() == f"Exercise 99.3: not yet. {sentence}"
