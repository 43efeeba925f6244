"""The machinery of the checks: registry, comparison, and the sentence a learner reads."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class Wrong(Exception):
    """Raised by a check; its text tells the learner what is wrong."""


class Exercise(NamedTuple):
    number: str
    title: str
    check: Callable[[Any], str]


EXERCISES: dict[str, Exercise] = {}


def exercise(number: str, title: str) -> Callable:
    """Register a check under its number, "chapter.exercise".

    The decorated function takes the answer, raises Wrong, or returns one sentence that says why
    the answer is right or what to notice about it.
    """

    def register(check: Callable[[Any], str]) -> Callable[[Any], str]:
        if number in EXERCISES:
            raise ValueError(f"exercise {number} is registered twice")
        EXERCISES[number] = Exercise(number, title, check)
        return check

    return register


def verdict(number: str, answer: Any) -> None:
    """Print whether an answer (a value or a function) is right, and if not, what is wrong."""
    if number not in EXERCISES:
        raise ValueError(f"number: no exercise {number!r}; known are {', '.join(sorted(EXERCISES))}")
    print(f"Exercise {number}: {_judge(EXERCISES[number], answer)}")


def _judge(task: Exercise, answer: Any) -> str:
    blank = "no answer yet. Fill in the cell above, then run it and this one again."
    if answer is None or answer is ...:
        return blank
    try:
        return f"right. {task.check(answer)}"
    except _NoAnswer:
        return blank
    except Wrong as mistake:
        return f"not yet. {mistake}"
    except Exception as error:  # the learner's code may raise anything: tell it, keep the notebook alive
        return f"not yet. Your answer raised {type(error).__name__}: {error}"


class _NoAnswer(Exception):
    pass


def expect_shape(got: Any, want: tuple[int, ...], what: str) -> np.ndarray:
    """Return got as an array; raise Wrong where its shape is not the one wanted."""
    if got is None or got is ...:
        raise _NoAnswer
    array = np.asarray(got, dtype=float)
    if array.shape != want:
        turned = " It has the right shape transposed." if array.T.shape == want else ""
        raise Wrong(f"{what} should have shape {want}, yours has {array.shape}.{turned}")
    return array


def expect_close(got: Any, want: Any, what: str, mistakes: dict[str, Any] | None = None, tol: float = 1e-6) -> None:
    """Raise Wrong unless got equals want; if it equals a known mistake's result, name that mistake.

    mistakes maps a sentence ("You decayed after the error; (3.3) decays first.") to the array that
    this mistake gives on the same input.
    """
    want = np.asarray(want, dtype=float)
    got = expect_shape(got, want.shape, what)
    size = max(np.abs(want).max(initial=0.0), 1.0)
    if np.allclose(got, want, rtol=0, atol=tol * size):
        return
    for sentence, array in (mistakes or {}).items():
        if np.shape(array) == got.shape and np.allclose(got, array, rtol=0, atol=tol * size):
            raise Wrong(sentence)
    if np.allclose(got, -want, rtol=0, atol=tol * size):
        raise Wrong(f"{what} has the wrong sign everywhere.")
    raise Wrong(f"{what} is off by up to {np.abs(got - want).max():.3g} (values reach {np.abs(want).max():.3g}).")


def expect_choice(answer: Any, right: str, sentences: dict[str, str]) -> None:
    """Raise Wrong unless answer is the right letter; sentences says for each other letter what is wrong with it."""
    choice = str(answer).strip().lower()
    if choice in sentences:
        raise Wrong(sentences[choice])
    if choice != right:
        *first, last = sorted([right, *sentences])
        raise Wrong("Answer with one letter: " + ", ".join(f'"{letter}"' for letter in first) + f' or "{last}".')
