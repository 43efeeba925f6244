"""Every exercise has two folded hints, which help and don't tell, and says how much it matters.

In the Markdown cell of the exercise, below its text:

    <details><summary>Hint 1</summary>

    Where to look.

    </details>

and the same with "Hint 2".
"""

import re

import pytest

from reference.checks import EXERCISES
from tests.book.rules import BOOK, WORD, cells, folded, prose, tags

HEADING = re.compile(r"^### Exercise (\d+\.\d+) · .*$", re.M)
RATING = re.compile(r"^[●○]{3} · (core|useful|extra) · \d+ minutes\. ", re.M)
SOLUTION = re.compile(r"### BEGIN SOLUTION\n(.*?)### END SOLUTION", re.S)
GIVEN_AWAY = 8  # characters without spaces from which on a piece of code is the answer
ids = {"argvalues": BOOK.chapters, "ids": lambda c: c.name}


def exercises(text: str) -> dict[str, str]:
    """The number of each exercise in Markdown and what stands below its heading."""
    parts = HEADING.split(text)[1:]
    return {parts[i]: re.split(r"^#+ ", parts[i + 1], maxsplit=1, flags=re.M)[0] for i in range(0, len(parts), 2)}


def solutions(chapter) -> dict[str, str]:
    found = {}
    for cell in cells(chapter, "code"):
        if "solution" in tags(cell):
            number = re.search(r'^verdict\("([\d.]+)"', cell.source, re.M)[1]
            found[number] = SOLUTION.search(cell.source)[1]
    return found


def squeezed(text: str) -> str:
    return re.sub(r"[\s`$]", "", text)


def told(hint: str, solution: str) -> list[str]:
    """What a hint gives away: a line of the solution's code, or what such a line returns or assigns."""
    pieces = []
    for line in solution.splitlines():
        code = squeezed(line.split("#")[0])
        pieces += [code, re.sub(r"^return", "", code), re.split(r"(?<![=!<>])=(?!=)", code, maxsplit=1)[-1]]
    given = {piece for piece in pieces if len(piece) >= GIVEN_AWAY and piece in squeezed(hint)}
    final = re.search(r"^solution_\d+_\d+ = (\S.*?)(?:\s+#.*)?$", solution, re.M)
    if final and re.search(rf"\b(answer|letters?|result)\b\W*(is|are|:)?\W*{re.escape(final[1])}", hint):
        given.add(final[1])
    return sorted(given)


@pytest.mark.parametrize("chapter", **ids)
def test_every_exercise_has_two_hints(chapter):
    found = exercises(prose(chapter))
    assert found.keys() == {n for n in EXERCISES if n.split(".")[0] == str(chapter.number)}
    for number, text in found.items():
        for summary in ("Hint 1", "Hint 2"):
            hints = folded(text, summary)
            assert len(hints) == 1, f"exercise {number}: {len(hints)} blocks {summary!r}"
            assert 5 <= len(WORD.findall(hints[0])) <= 70, f"exercise {number}: {hints[0]}"
        assert text.index("Hint 1") < text.index("Hint 2"), f"exercise {number}: in this order"


@pytest.mark.parametrize("chapter", **ids)
def test_no_hint_holds_a_line_of_the_solution(chapter):
    solved = solutions(chapter)
    for number, text in exercises(prose(chapter)).items():
        for hint in folded(text, "Hint"):
            assert not told(hint, solved[number]), f"exercise {number}: {told(hint, solved[number])}"


@pytest.mark.parametrize("chapter", **ids)
def test_an_exercise_says_how_much_it_matters(chapter):
    ratings = {number: RATING.search(text) for number, text in exercises(prose(chapter)).items()}
    unrated = [number for number, rating in ratings.items() if rating is None]
    assert not unrated, f"{unrated}: '●○○ · core · 5 minutes. ', or useful, or extra, before the text"
    assert "core" in {rating[1] for rating in ratings.values()}


@pytest.mark.parametrize(
    ("hint", "solution"),
    [
        ("Return `S + np.outer(k, v)`.", "def f(S, k, v):\n    return S+np.outer(k, v)\n"),
        ("It is `np.cumsum(g)` in log space.", "    G = np.cumsum(g)\n"),
        ("The answer is 128.", "solution_1_1 = 128\n"),
        ('The letter is "b".', 'solution_1_1 = "b"\n'),
    ],
)
def test_a_hint_that_tells_is_found(hint, solution):
    assert told(hint, solution)


def test_a_hint_that_helps_is_none():
    assert not told("Read with the key first. What is missing is written.", "def f(S, k, v):\n    return S + k\n")
