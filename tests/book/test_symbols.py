"""The symbols at the end of a chapter are those of appendix/notation.md, and nothing is missing."""

import pytest

from tests.book.rules import BOOK, cells, prose
from tools.symbols import first_with, symbol_list

ids = {"argvalues": BOOK.chapters, "ids": lambda c: c.name}


@pytest.mark.parametrize("chapter", **ids)
def test_the_list_is_made_from_the_notation(chapter):
    found = cells(chapter, "markdown")[-2].source
    assert found == symbol_list(chapter.number, prose(chapter)), f"run `make sync CHAPTERS={chapter.number}`"


def test_a_chapters_list_holds_its_own_letters_and_the_shared_ones():
    words = symbol_list(1, r"$$ w \leftarrow w + \eta x \tag{1.1} $$ $$ S \leftarrow S + k v^\top \tag{1.9} $$")
    rows = [line for line in words.splitlines() if line.startswith("| $")]
    assert "| $w$ | weights | [D] | (1.1) |" in rows
    assert "| $S$ | state, the memory | [Dk, Dv] | (1.9) |" in rows
    assert not [row for row in rows if "write strength" in row]
    assert symbol_list(99, "no equation") is None


@pytest.mark.parametrize(
    ("letter", "formula", "stands"),
    [
        ("D_k", r"\sqrt{D_k}", True),
        ("D", r"\sqrt{D_k}", False),
        ("B", r"B_{cache}", False),
        ("g", r"G_t + \gamma", False),
        (r"\beta", r"1 - \beta k", True),
        ("k", r"\kappa + dK", False),
        ("v", r"d v", True),
        ("g", r"\sigma(W_g x)", False),
        ("k", r"2 m H D_k D_v", False),
        ("q", r"q^I_{th} \cdot k^I_s", False),
        ("q", r"q^\top k", True),
    ],
)
def test_a_letter_is_found_where_it_stands(letter, formula, stands):
    assert (first_with(letter, {"1.1": formula}, None) == "1.1") == stands


def test_a_capital_of_rows_counts_for_its_letter():
    assert first_with("q", {"1.1": r"Q K^\top"}, "Q") == "1.1"
    assert first_with("u", {"1.1": r"U_h c"}, "U") is None  # another matrix
