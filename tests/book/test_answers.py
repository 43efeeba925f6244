"""A question that a chapter asks on the way has its answer on the page, folded.

A question is a **Predict**, or a change after which a cell is to run again. Its answer stands below it in the same
Markdown cell: a folded block whose summary begins with "Answer". What it states of results is bound to outputs like
any number of the prose (test_claims.py).
"""

import re

import nbformat
import pytest

from tests.book.rules import BOOK, FOLDED, WORD, cells, tags
from tools.site_cells import stage_code

QUESTION = re.compile(r"\*\*Predict\b|\brun(?: section [\d.]+\d)? again\b")
MOST_WORDS = 120  # an answer is an answer, not a section
ids = {"argvalues": BOOK.chapters, "ids": lambda c: c.name}


def unanswered(text: str) -> list[str]:
    """The questions of a Markdown cell that have no answer before the next question, heading or end.

    What one paragraph asks is one question.
    """
    bare = FOLDED.sub(lambda m: "<answer>" if m["summary"].startswith("Answer") else "", text)
    marks = [(m.start(), m[0]) for m in re.finditer(rf"{QUESTION.pattern}|<answer>|^#+ ", bare, re.M)]
    found = []
    for i, (at, mark) in enumerate(marks):
        end, after = marks[i + 1] if i + 1 < len(marks) else (len(bare), "")
        same = QUESTION.match(after) and "\n\n" not in bare[at:end]
        if QUESTION.match(mark) and after != "<answer>" and not same:
            found.append(bare[at : at + 80])
    return found


@pytest.mark.parametrize("chapter", **ids)
def test_every_question_has_its_answer_below_it(chapter):
    found = [question for cell in cells(chapter, "markdown") for question in unanswered(cell.source)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("chapter", **ids)
def test_an_answer_is_short_and_says_something(chapter):
    for cell in cells(chapter, "markdown"):
        for block in FOLDED.finditer(cell.source):
            if block["summary"].startswith("Answer"):
                assert 2 <= len(WORD.findall(block["words"])) <= MOST_WORDS, block["words"]


@pytest.mark.parametrize("chapter", **ids)
def test_every_folded_block_can_be_read_by_a_machine(chapter):
    """The site and Jupyter fold it, and Markdown inside is rendered, only in this form."""
    for cell in cells(chapter, "markdown"):
        assert cell.source.count("<details") == cell.source.count("</details>") == len(FOLDED.findall(cell.source))


@pytest.mark.parametrize("chapter", **ids)
def test_the_run_behind_an_answer_is_folded_too(chapter):
    """A cell named answer-... runs what the text asks to change; the answer's numbers are bound to its output."""
    for cell in cells(chapter, "code"):
        if cell.metadata.get("name", "").startswith("answer-"):
            assert "hide-cell" in tags(cell), cell.metadata.name
            assert f"<!--claim {cell.metadata.name}:" in chapter.text.read_text(encoding="utf-8"), cell.metadata.name


def test_the_site_says_what_is_folded():
    cell = nbformat.v4.new_code_cell("print(1)", metadata={"name": "answer-one", "tags": ["hide-cell"]})
    stage_code(cell, 1, 0)
    assert cell.metadata.mystnb["code_prompt_show"] == "Show the run behind the answer"


ANSWER = "\n\n<details><summary>Answer</summary>\n\nTwice as fast.\n\n</details>"


@pytest.mark.parametrize(
    ("text", "open_questions"),
    [
        ("**Predict.** How fast?" + ANSWER, 0),
        ("**Predict.** How fast?", 1),
        ("**Predict.** How fast?" + ANSWER.replace("Answer", "Hint 1"), 1),
        ("*Change `2` to `3` and run again*: what then?", 1),
        ("*Change `2` to `3` and run again*: what then?" + ANSWER, 0),
        ("Make it `3` and run section 02.6 again.", 1),
        ("**Predict.** One?\n\n**Predict.** Two?" + ANSWER, 1),
        ("**Predict.** One?\n\n## 1.2 Next" + ANSWER, 1),
        ("*Change `2` and run again*. **Predict** what then." + ANSWER, 0),
        ("*Change `2` and run again*. **Predict** what then.", 1),
        ("It ran twice. Predict nothing.", 0),
    ],
)
def test_a_question_without_an_answer_is_found(text, open_questions):
    assert len(unanswered(text)) == open_questions
