"""Questions with answers, from the chapters' exercises and predictions: Markdown, text2qti's format, QTI archives.

Exercises whose answer is a letter, or a number for which the book knows wrong results, become questions with options:
what the verdict says of each wrong answer is that option's explanation. Predictions become questions of free answers.
"""

import importlib.util
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType

import numpy as np

from reference.checks import EXERCISES
from reference.files import write_text
from tools.teach.reading import Exercise, Lesson

OPTION = re.compile(r"(?:^|\s)(?:- ([a-e]): |`\"([a-d])\"`:? |(?<=[:;] )([a-d]), )")
TO_THE_CELL = re.compile(r"\s*(?:Answer (?:with (?:one letter|a number|two numbers)|`)[^.:]*[.:]?|Predict$)")
PROBES = (0.0, (0.0, 0.0), [0.0] * 6)  # answers, wrong on purpose, of the kinds that checks ask for


class _Asked(Exception):
    """Raised in place of a verdict: the right answer, and what is said of wrong ones."""


@dataclass
class Option:
    """One of a question's answers, and why it is right or wrong."""

    text: str
    right: bool
    why: str


@dataclass
class Choice:
    """A question with options, one of them right."""

    number: str
    title: str
    text: str
    options: list[Option]


def choices_of(lesson: Lesson) -> list[Choice]:
    """The chapter's exercises that can be asked with options."""
    return [choice for exercise in lesson.exercises if (choice := _choice(exercise))]


def _choice(exercise: Exercise) -> Choice | None:
    check = EXERCISES[exercise.number].check
    asked = _what_is_asked(check)
    if asked is None:
        return None
    right, said = asked
    if isinstance(right, str):
        words = _lettered(exercise.text)
        options = [
            Option(words.get(letter, letter), letter == right, check(right) if letter == right else said[letter])
            for letter in sorted([right, *said])
        ]
    else:
        wrong = [Option(_as_text(value), False, sentence) for sentence, value in said.items()]
        options = sorted([Option(_as_text(right), True, check(right)), *wrong], key=lambda option: _number(option.text))
    if len({option.text for option in options}) < len(options):
        return None
    first = OPTION.search(exercise.text) if isinstance(right, str) else None
    text = (exercise.text[: first.start()] if first else exercise.text).rstrip(" :-")
    return Choice(exercise.number, exercise.title, TO_THE_CELL.sub("", text), options)


def _what_is_asked(check: Callable) -> tuple[object, dict[str, object]] | None:
    """(the right answer, wrong letter -> sentence, or sentence -> wrong value); None where a check asks for code."""

    def note_choice(answer: object, right: str, sentences: dict[str, str]) -> None:
        raise _Asked(right, sentences)

    def note_value(got: object, want: object, what: str, mistakes: dict | None = None, tol: float = 0) -> None:
        raise _Asked(want, mistakes or {})

    noting = {**check.__globals__, "expect_choice": note_choice, "expect_close": note_value}
    for probe in PROBES:
        try:
            FunctionType(check.__code__, noting)(probe)
        except _Asked as asked:
            right, said = asked.args
            return (right, said) if len(said) >= 2 or (isinstance(right, list) and said) else None
        except Exception:  # a check may do anything with an answer of a kind that it doesn't ask for
            continue
    return None


def _lettered(text: str) -> dict[str, str]:
    """letter -> its words, in the ways in which the book's exercises name them."""
    parts = OPTION.split(text)
    letters = ["".join(filter(None, found)) for found in zip(parts[1::4], parts[2::4], parts[3::4], strict=True)]
    first = (words.strip().partition(". ")[0].rstrip(" .;,") for words in parts[4::4])
    return dict(zip(letters, first, strict=True))


def _as_text(value: object) -> str:
    """A number of four digits, or several in parentheses."""
    numbers = [f"{x:,.0f}" if abs(x) >= 1000 or x == round(x) else f"{x:.4g}" for x in np.ravel(value).tolist()]
    return numbers[0] if len(numbers) == 1 else f"({', '.join(numbers)})"


def _number(text: str) -> float:
    return float(re.search(r"-?[\d.]+(?:e-\d+)?", text.replace(",", ""))[0])


def questions_of(lesson: Lesson) -> list[tuple[str, str, str]]:
    """(title, question, answer) of every prediction with an answer on the page; a question that leans on what stands
    before it begins with that."""
    found = []
    for section in lesson.sections:
        for n, prediction in enumerate(p for p in section.predictions if p.answer):
            letter = f" ({chr(ord('a') + n)})" if n else ""
            question = f"{prediction.context} {prediction.text}".strip()
            found.append((f"{section.title.partition(' ')[0]}{letter}", question, prediction.away))
    return found


def as_markdown(lessons: list[Lesson]) -> str:
    """All questions; the answers folded."""
    about = "Those with options come from the exercises, the others from the predictions, which their chapter answers."
    lines = ["# Questions", "", about, ""]
    for lesson in lessons:
        lines += [f"## {lesson.title}", ""]
        for choice in choices_of(lesson):
            letters = "abcdefgh"[: len(choice.options)]
            lines += [f"**{choice.number} {choice.title}.** {choice.text}", ""]
            lines += [f"- {letter}) {o.text}" for letter, o in zip(letters, choice.options, strict=True)]
            why = [
                f"- {letter}) {'**right.** ' if o.right else ''}{o.why}"
                for letter, o in zip(letters, choice.options, strict=True)
            ]
            lines += ["", *_folded("\n".join(why))]
        for title, question, answer in questions_of(lesson):
            lines += [f"**{title}** {question}", "", *_folded(answer)]
    return "\n".join(lines)


def _folded(answer: str) -> list[str]:
    return [f"<details><summary>Answer</summary>\n\n{answer}\n\n</details>", ""]


def as_text2qti(lesson: Lesson) -> str:
    """A quiz in text2qti's format: options with an explanation each, then free answers with the book's as feedback."""
    blocks = []
    for choice in choices_of(lesson):
        lines = [f"Title: {choice.number} {choice.title}", f"{{n}}. {_one_line(choice.text)}"]
        for letter, option in zip("abcdefgh", choice.options, strict=False):
            lines += [
                f"{'*' if option.right else ''}{letter}) {_one_line(option.text)}",
                f"... {_one_line(option.why)}",
            ]
        blocks.append(lines)
    for title, question, answer in questions_of(lesson):
        blocks.append([f"Title: {title}", f"{{n}}. {_one_line(question)}", f"... {_one_line(answer)}", "____"])
    numbered = ["\n".join([b[0], b[1].replace("{n}", str(n), 1), *b[2:], ""]) for n, b in enumerate(blocks, 1)]
    return "\n".join([f"Quiz title: {lesson.title}", "", *numbered])


def _one_line(text: str) -> str:
    return " ".join(text.split())


def write_questions(lessons: list[Lesson], out: Path) -> bool:
    """questions.md, questions/NN.txt, and questions/NN.zip if text2qti is there: whether it was."""
    write_text(out / "questions.md", as_markdown(lessons))
    there = importlib.util.find_spec("text2qti") is not None
    for lesson in lessons:
        if not questions_of(lesson) and not choices_of(lesson):
            continue
        path = out / "questions" / f"{lesson.chapter.name}.txt"
        write_text(path, as_text2qti(lesson))
        if there:
            command = [sys.executable, "-c", "from text2qti.cmdline import main; main()", path.name]
            done = subprocess.run(command, cwd=path.parent, capture_output=True, text=True)
            if done.returncode:
                raise OSError(f"text2qti can't read {path}: {(done.stdout + done.stderr)[-500:]}")
    return there
