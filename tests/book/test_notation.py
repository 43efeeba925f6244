"""appendix/notation.md keeps its word: every letter of a numbered equation is listed, once, where it is first used."""

import re

import pytest

from reference.book.manifest import ROOT
from tests.book.rules import BOOK
from tools.symbols import EQUATION

PAGE = (ROOT / "appendix" / "notation.md").read_text(encoding="utf-8")
GENERAL, BY_CHAPTER = PAGE.split("## Letters by chapter")
INDICES = set("hijlnrst")
CAPITALS = set("QKVUO")  # matrices with a row per token
DECAY = {"G", "Gamma", "alpha", "e", "I"}
GREEK = {
    "alpha",
    "beta",
    "gamma",
    "Gamma",
    "delta",
    "epsilon",
    "eta",
    "theta",
    "kappa",
    "lambda",
    "sigma",
    "tau",
    "ell",
}
WORDS = re.compile(r"\\(?:text|operatorname|mathrm|mathbb|begin|end)\{[^{}]*\}")
ROW = re.compile(r"^\| \$(.+?)\$ \| (.+?) \| (.+?) \| \((\d+\.\d+)\) \|$", re.M)

ids = {"argvalues": BOOK.chapters, "ids": lambda c: c.name}


def letters(formula: str) -> set[str]:
    """Latin letters and names of Greek ones, without indices' braces, words and operators."""
    formula = WORDS.sub(" ", formula)
    found = re.findall(r"\\([A-Za-z]+)|([A-Za-z])", formula)
    return {greek for greek, _ in found if greek in GREEK} | {latin for _, latin in found if latin}


def general() -> set[str]:
    named = re.findall(r"^\| `(\w+)`", GENERAL, re.M)
    return {name if name in GREEK else name[0] for name in named} | CAPITALS | DECAY


def equations(chapter) -> dict[str, set[str]]:
    text = chapter.text.read_text(encoding="utf-8")
    return {number: letters(formula) for formula, number in EQUATION.findall(text)}


def rows(chapter) -> list[tuple[str, str, str, str]]:
    """(letter, meaning, shape, equation) of the chapter's table."""
    part = re.search(
        rf"\*\*\[Chapter {chapter.number:02d}\]\(.*?{chapter.name}.ipynb\)\*\*\n(.*?)(?=\n\*\*|\n## |\Z)", PAGE, re.S
    )
    return ROW.findall(part[1]) if part else []


def test_the_first_tables_hold_what_all_chapters_share():
    assert {"B", "T", "S", "H", "D", "d", "C", "q", "k", "v", "beta", "g", "u", "o"} <= general()
    for letter in ("Q", "K", "V", "U", "O", "G_t", "Gamma_{ts}", "alpha", "I"):
        assert re.search(rf"\$\\?{re.escape(letter)}", GENERAL), letter


@pytest.mark.parametrize("chapter", **ids)
def test_every_letter_of_a_numbered_equation_is_listed(chapter):
    listed = general() | INDICES | {x for symbol, *_ in rows(chapter) for x in letters(symbol)}
    missing = {number: found - listed for number, found in equations(chapter).items() if found - listed}
    assert not missing, f"{chapter.name}: add to its table in appendix/notation.md: {missing}"


@pytest.mark.parametrize("chapter", **ids)
def test_a_listed_letter_stands_in_the_equation_named(chapter):
    found = equations(chapter)
    for symbol, _, _, number in rows(chapter):
        assert number in found, f"{symbol}: chapter {chapter.number} has no equation ({number})"
        assert letters(symbol) <= found[number], f"{symbol} isn't in ({number})"


@pytest.mark.parametrize("chapter", **ids)
def test_a_letter_is_listed_once_and_first_where_it_is_first_used(chapter):
    symbols = [symbol for symbol, *_ in rows(chapter)]
    assert len(set(symbols)) == len(symbols), symbols
    for symbol, _, _, number in rows(chapter):
        base = letters(re.split(r"[_^' ]", symbol)[0])
        shared = [other for other in symbols if other != symbol and base & letters(other)]
        if base and not shared and not base & (general() | INDICES):
            first = next(n for n, found in equations(chapter).items() if base <= found)
            assert first == number, f"{symbol} is first used in ({first}), not in ({number})"


@pytest.mark.parametrize("chapter", **ids)
def test_a_chapter_gives_no_shared_letter_another_meaning(chapter):
    plain = {symbol for symbol, *_ in rows(chapter)} & (general() | CAPITALS)
    assert not plain, f"{plain} already stand in the first tables; give them an index here, or another letter"
