"""The machinery of the checks: registry, comparison, and the sentence a learner reads."""

import dis
import functools
import importlib
import traceback
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from types import FunctionType
from typing import Any, NamedTuple

import numpy as np

from reference.checks.progress import note_solved


class Wrong(Exception):
    """Raised by a check; its text tells the learner what is wrong."""


class Exercise(NamedTuple):
    """A check, registered under the exercise that it answers."""

    number: str
    title: str
    check: Callable[[Any], str]


GREEK = ("alpha", "beta", "gamma", "delta", "eps")  # as the formulas have them


class _Exercises(dict):
    """The registered checks by number. A chapter's module is imported when its number is asked for, all of them when
    somebody counts or walks: the checks of the NumPy chapters must not wait for PyTorch, or need it."""

    def __missing__(self, number: str) -> Exercise:
        chapter, _, rest = number.partition(".")
        known = chapter.isdigit() and rest and find_spec(f"reference.checks.ch{int(chapter):02d}") is not None
        if known:
            importlib.import_module(f"reference.checks.ch{int(chapter):02d}")
        if not (known and super().__contains__(number)):
            raise KeyError(number)
        return super().__getitem__(number)

    def __contains__(self, number: object) -> bool:
        try:
            return isinstance(number, str) and self[number] is not None
        except KeyError:
            return False

    def all(self) -> "_Exercises":
        """Itself, complete."""
        for path in sorted(Path(__file__).parent.glob("ch[0-9][0-9].py")):
            importlib.import_module(f"reference.checks.{path.stem}")
        return self

    def __iter__(self) -> Iterator[str]:
        numbers = super(_Exercises, self.all()).keys()
        return iter(sorted(numbers, key=lambda number: [int(part) for part in number.split(".")]))

    def __len__(self) -> int:
        return super(_Exercises, self.all()).__len__()

    def keys(self) -> list[str]:
        return list(self)


EXERCISES = _Exercises()


def exercise(number: str, title: str) -> Callable:
    """Register a check under its number, "chapter.exercise".

    The decorated function takes the answer, raises Wrong, or returns one sentence that says why
    the answer is right or what to notice about it.
    """

    def register(check: Callable[[Any], str]) -> Callable[[Any], str]:
        if dict.__contains__(EXERCISES, number):
            raise ValueError(f"exercise {number} is registered twice")
        EXERCISES[number] = Exercise(number, title, check)
        return check

    return register


def verdict(number: str, answer: Any) -> None:
    """Print whether an answer (a value or a function) is right, and if not, what is wrong."""
    said = _said(number, answer)
    if said.startswith("right."):
        note_solved(number)
    print(f"Exercise {number}: {said}")


def grade(number: str, answer: Any) -> None:
    """A verdict for automatic grading: print it, and raise AssertionError with its words unless the answer is right."""
    said = _said(number, answer)
    print(f"Exercise {number}: {said}")
    if not said.startswith("right."):
        raise AssertionError(f"Exercise {number}: {said}")


def _said(number: str, answer: Any) -> str:
    if number not in EXERCISES:
        raise ValueError(f"number: no exercise {number!r}; known are {', '.join(sorted(EXERCISES))}")
    return _judge(EXERCISES[number], answer)


def _judge(task: Exercise, answer: Any) -> str:
    blank = "no answer yet. Fill in the cell above, then run it and this one again."
    if answer is None or answer is ... or _is_placeholder(answer):
        return blank
    returned: list[Any] = []
    task_answer = _watched(answer, returned) if isinstance(answer, FunctionType) else answer
    try:
        return f"right. {task.check(task_answer)}"
    except Exception as error:  # the learner's code may raise anything: tell it, keep the notebook alive
        if returned and all(found is None for found in returned):
            return "not yet. Your function returned None: is a `return` missing?"
        if isinstance(error, _NoAnswer) or (returned and all(found is ... for found in returned)):
            return f"not yet. {_as_sentence(str(error), answer)}" if returned and str(error) else blank
        if isinstance(error, Wrong):
            return f"not yet. {_as_sentence(str(error), answer)}"
        return f"not yet. Your answer raised {type(error).__name__}: {error}{_where(error, answer)}"


class _NoAnswer(Exception):
    """Nothing came. Its text, if any, says where a function that the learner has written left a gap."""


def _is_placeholder(answer: Any) -> bool:
    """Whether a function does nothing yet: `return ...`, `...`, `pass`, `return None`."""
    if not isinstance(answer, FunctionType):
        return False
    code = list(dis.get_instructions(answer))
    constants = [step.argval for step in code if step.opname in ("LOAD_CONST", "RETURN_CONST")]
    does = {step.opname for step in code} - {"RESUME", "NOP", "LOAD_CONST", "RETURN_CONST", "RETURN_VALUE", "POP_TOP"}
    return not does and all(x is None or x is ... for x in constants)


def _watched(function: FunctionType, returned: list[Any]) -> Callable:
    """The function; what its calls return is noted in `returned`."""

    @functools.wraps(function)
    def watched(*args: Any, **named: Any) -> Any:
        returned.append(function(*args, **named))
        return returned[-1]

    return watched


def _as_sentence(text: str, answer: Any) -> str:
    """With a capital, unless it begins with a name: "g has ...", "a: ...", "alpha is ...", an argument of answer."""
    first = text.partition(" ")[0]
    names = answer.__code__.co_varnames if isinstance(answer, FunctionType) else ()
    is_word = len(first) > 1 and first.isalpha() and first not in GREEK and first not in names
    return text[:1].upper() + text[1:] if is_word else text


def _where(error: Exception, answer: Any) -> str:
    """ " (line 3 of your cell: `...`)", the last line of the learner's code that the error came through, or ""."""
    steps = traceback.extract_tb(error.__traceback__)
    calls = [n for n, step in enumerate(steps) if (step.filename, step.name) == (__file__, "watched")]
    if not calls or not isinstance(answer, FunctionType):
        return ""
    lines = [step for step in steps[calls[-1] + 1 :] if step.filename == answer.__code__.co_filename]
    return f" (line {lines[-1].lineno} of your cell: `{lines[-1].line}`)" if lines else ""


def expect_shape(got: Any, want: tuple[int, ...], what: str) -> np.ndarray:
    """Return got as an array; raise Wrong where its shape is not the one wanted."""
    if got is ...:
        raise _NoAnswer
    if got is None:
        raise _NoAnswer(f"{what} is None.")
    array = np.asarray(got, dtype=float)
    if array.shape != want:
        turned = " It has the right shape transposed." if array.T.shape == want else ""
        raise Wrong(f"{what} should have shape {want}, yours has {array.shape}.{turned}")
    return array


def expect_close(got: Any, want: Any, what: str, mistakes: dict[str, Any] | None = None, tol: float = 1e-6) -> None:
    """Raise Wrong unless got equals want; if it equals a known mistake's result, name that mistake.

    mistakes maps a sentence ("You decayed after the error; (3.8) decays first.") to the array that
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
