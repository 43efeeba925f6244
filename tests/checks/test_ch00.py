"""The checks of chapter 00 accept right answers and name what is wrong with wrong ones."""

import numpy as np
import pytest

from reference.checks import EXERCISES, Wrong, verdict


def said(capsys, number, answer) -> str:
    verdict(number, answer)
    return capsys.readouterr().out


def right_bytes(layers, kv_heads, head_dim, T, width):
    return 2 * layers * kv_heads * head_dim * T * width


def decode(q, k, v, K, V, *, before=False, scale=None, divide=True, exp=np.exp, front=False):
    old = K, V
    K, V = (np.vstack([k, K]), np.vstack([v, V])) if front else (np.vstack([K, k]), np.vstack([V, v]))
    keys, values = old if before else (K, V)
    weights = exp(keys @ q * (len(q) ** -0.5 if scale is None else scale))
    return weights @ values / (weights.sum() if divide else 1), K, V


def in_place(q, k, v, K, V):
    K[0] = k
    return decode(q, k, v, K, V)


RIGHT = {
    "0.1": right_bytes,
    "0.2": 1820.4,
    "0.3": decode,
    "0.4": "bc",
    "0.5": "c",
}

WRONG = [
    ("0.1", lambda *a: right_bytes(*a) / 2, "keys *and* values"),
    ("0.1", lambda layers, *a: right_bytes(1, *a), "Every layer has its own cache"),
    ("0.1", lambda *a: right_bytes(*a) / a[4], "multiply by width"),
    ("0.1", lambda *a: right_bytes(*a) * 8, "counted bits"),
    ("0.1", lambda *a: right_bytes(*a) / a[3], "multiply by T"),
    ("0.1", lambda *a: right_bytes(*a) * a[3], "not to T squared"),
    ("0.1", lambda *a: right_bytes(*a) / a[1], "off by up to"),
    ("0.2", 1152 / 2097152, "inverse"),
    ("0.2", 910, "A factor of 2 is off"),
    ("0.2", 2048, "64 extra numbers"),
    ("0.2", 12, "off by up to"),
    ("0.3", lambda *a: decode(*a, before=True), "before you appended"),
    ("0.3", lambda *a: decode(*a, scale=1.0), "1 / sqrt(Dk) is missing"),
    ("0.3", lambda *a: decode(*a, scale=1 / 3), "it is 1 / sqrt(Dk)"),
    ("0.3", lambda *a: decode(*a, divide=False), "don't sum to 1"),
    ("0.3", lambda *a: decode(*a, divide=False, exp=lambda x: x), "not a softmax"),
    ("0.3", lambda *a: decode(*a, front=True), "at the end of K"),
    ("0.3", lambda *a: decode(*a)[0], "Return three things"),
    ("0.3", in_place, "in place"),
    ("0.4", "abc", "a: sharing key/value heads"),
    ("0.4", "bcd", "d: sparse attention reads"),
    ("0.4", "ce", "e: MLA compresses"),
    ("0.4", "b", "c: a linear layer's state"),
    ("0.4", "c", "b: with a window"),
    ("0.4", "window", "Give the letters"),
    ("0.5", "a", "Not the same"),
    ("0.5", "b", "Fewer"),
    ("0.5", "d", "More than that"),
    ("0.5", "four", "one letter"),
]


def test_every_exercise_of_the_chapter_is_tried_here():
    assert set(RIGHT) == {number for number in EXERCISES if number.startswith("0.")}


@pytest.mark.parametrize("number", RIGHT)
def test_a_right_answer_is_right(number, capsys):
    assert said(capsys, number, RIGHT[number]).startswith(f"Exercise {number}: right.")


@pytest.mark.parametrize(("number", "answer", "words"), WRONG)
def test_a_wrong_answer_gets_the_sentence_that_names_its_mistake(number, answer, words, capsys):
    verdict_line = said(capsys, number, answer)
    assert "not yet" in verdict_line and words in verdict_line


@pytest.mark.parametrize("number", ["0.1", "0.3"])
@pytest.mark.parametrize("nothing", [lambda *a: None, lambda *a: ...])
def test_a_stub_counts_as_no_answer(number, nothing, capsys):
    assert "no answer yet" in said(capsys, number, nothing)


def test_upper_case_and_spaces_are_accepted(capsys):
    assert "right." in said(capsys, "0.4", "B, C")


def test_a_check_raises_its_own_kind_of_error():
    with pytest.raises(Wrong):
        EXERCISES["0.5"].check("a")
