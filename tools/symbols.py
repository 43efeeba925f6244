"""The list of symbols at the end of a chapter, generated from appendix/notation.md.

The appendix holds each letter's meaning; the chapter's equations say which of the letters that all chapters share
stand in it, and where each one first stands.
"""

import re
from pathlib import Path
from typing import NamedTuple

from reference.book.manifest import ROOT

NOTATION = ROOT / "appendix" / "notation.md"
HEADING = "## Symbols"
EQUATION = re.compile(r"\$\$(?P<body>(?:(?!\$\$).)*?)\\tag\{(?P<number>\d+\.\d+)\}\s*\$\$", re.S)
WORDS = re.compile(r"\\(?:text|operatorname|mathrm|mathbb|begin|end)\{?[^{}\s]*\}?|\\mathcal\s*\{?\w\}?")
OWN_ROW = re.compile(r"^\| (\$.+?\$) \| (.+?) \| (.+?) \| \((\d+\.\d+)\) \|$", re.M)
AXIS_ROW = re.compile(r"^\| `(\w+)` \| ([^|]+?) \|[^|]*\|$", re.M)
TENSOR_ROW = re.compile(r"^\| `(\w+)` \| (\[[^|]+\]) \| \[[^|]+\] \| ([^|]+?) \|$", re.M)
DECAY_ROW = re.compile(r"^\| (\$(?:G_t|\\Gamma)\S*?)(?: = [^|]*)?\$? \| ([^|]+?) \| [^|]+ \|$", re.M)
INDEXED = {"HK": "H_K", "HV": "H_V", "Dk": "D_k", "Dv": "D_v", "beta": r"\beta"}
BY_ROWS = {"q": "Q", "k": "K", "v": "V", "u": "U", "o": "O"}  # the capital holds one row per token
INTRODUCTION = (
    "What the letters of the numbered equations mean, each with the first one that it stands in. "
    "[Notation](../appendix/notation.md) has those of all chapters."
)


class Symbol(NamedTuple):
    """One row of a chapter's list."""

    letter: str
    meaning: str
    shape: str
    equation: str


def symbol_list(number: int, prose: str, notation: Path = NOTATION) -> str | None:
    """The Markdown of the symbols cell of chapter number, whose Markdown cells are prose; None without equations."""
    page = notation.read_text(encoding="utf-8")
    equations = {tag: WORDS.sub(" ", formula) for formula, tag in EQUATION.findall(prose)}
    symbols = own_symbols(number, page)
    symbols += shared_symbols(equations, page, {s.letter for s in symbols})
    if not symbols:
        return None
    order = list(equations)
    symbols.sort(key=lambda symbol: order.index(symbol.equation) if symbol.equation in order else len(order))
    rows = [f"| {s.letter} | {s.meaning} | {s.shape} | ({s.equation}) |" for s in symbols]
    head = ["| symbol | meaning | shape | first in |", "|---|---|---|---|"]
    return "\n".join([HEADING, "", INTRODUCTION, "", *head, *rows])


def own_symbols(number: int, page: str) -> list[Symbol]:
    """The chapter's own table in the appendix."""
    part = re.search(rf"\*\*\[Chapter {number:02d}\]\([^)]*\)\*\*\n(.*?)(?=\n\*\*|\n## |\Z)", page, re.S)
    return [Symbol(*row) for row in OWN_ROW.findall(part[1])] if part else []


def section(page: str, title: str) -> str:
    """What stands below the heading of that name."""
    return page.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def shared_symbols(equations: dict[str, str], page: str, taken: set[str]) -> list[Symbol]:
    """The rows of the first tables whose letter stands in an equation, without letters that the chapter redefines."""
    known = [(name, meaning, "number") for name, meaning in AXIS_ROW.findall(section(page, "Axes")) if name != "S"]
    known += [(name, meaning, shape) for name, shape, meaning in TENSOR_ROW.findall(section(page, "Tensors"))]
    found = []
    for name, meaning, shape in known:
        letter = INDEXED.get(name, name)
        both = rf"{letter}$ or ${BY_ROWS[name]}" if name in BY_ROWS else letter
        if f"${letter}$" not in taken and (tag := first_with(letter, equations, BY_ROWS.get(name))):
            found.append(Symbol(f"${both}$", meaning, shape, tag))
    for symbol, meaning in DECAY_ROW.findall(section(page, "Decay")):
        letter = symbol.strip("$")
        if f"${letter}$" not in taken and (tag := first_with(letter.split("_")[0], equations, None)):
            found.append(Symbol(f"${letter}$", meaning, "[T, T]" if "Gamma" in letter else "[T]", tag))
    return found


def first_with(letter: str, equations: dict[str, str], capital: str | None) -> str | None:
    r"""The number of the first equation that holds the letter: D_k is not D, dU not d, \beta not b.

    An index is no letter of its own (W_g holds no g), and one with a capital above it is another letter (q^I).
    """
    plain = "" if "_" in letter else r"(?![A-Za-z])" if letter[0] == "\\" else r"(?![A-Za-z]|_\{?[A-Za-z]{2})"
    if letter in ("B", "D", "H"):  # with an index they are other letters
        plain = r"(?![A-Za-z_])"
    another = r"(?!\^\{?[A-Z])"
    wanted = re.compile(rf"(?<![A-Za-z\\_]){re.escape(letter)}{plain}{another}")
    by_rows = re.compile(rf"(?<![A-Za-z\\_]){capital}(?![A-Za-z_])") if capital else None
    for tag, formula in equations.items():
        if wanted.search(formula) or (by_rows and by_rows.search(formula)):
            return tag
    return None
