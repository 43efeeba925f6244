"""The claims ledger: every measured number in the prose names the output that it came from.

In a chapter, behind the number:       0.83<!--claim hebb-error: Hebb-->
    the cell named hebb-error prints a line with the word Hebb, and on it, behind the word, 0.83
From another chapter or the README:    0.83<!--claim 02/hebb-error: Hebb-->
From a stored result:                  4.1<!--claim figures/data/bench.json: ratios.forward-->

A claim holds where the source's number, rounded to the digits that the prose states, is the prose's.
Cell outputs are themselves compared with a fresh run by the tests, so text can't drift from results.
"""

import json
import re
from pathlib import Path
from typing import NamedTuple

import nbformat

from reference.book.manifest import ROOT, Manifest

NUMBER = r"[-−]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?"
UNIT = r"%|ms|µs|s|MB|GB|KB|kB|MiB|GiB|KiB|times|tokens?"
STATED = rf"(?P<number>{NUMBER})\W{{0,4}}(?P<unit>{UNIT})?\W{{0,4}}"
CLAIM = re.compile(STATED + r"<!--claim (?P<source>[^:>]+): (?P<key>.+?)-->")
MARKER = re.compile(r"<!--\s*claim.*?-->")
# A decimal, a percentage, or a number with a unit: what a measurement looks like in prose.
MEASURED = re.compile(r"(?<![\w.:/-])\d[\d,]*(?:\.\d+|\s?%|(?:\.\d+)?\s(?:ms|µs|s|seconds|MB|GB|KB|kB|times)\b)")
NOT_PROSE = re.compile(r"```.*?```|`[^`\n]+`|\$\$.*?\$\$|\$[^$\n]+\$|^#+ .*?$|\]\([^)]*\)|^\|[-| :]+\|$", re.S | re.M)
NAMES = re.compile(r"\(\d+\.\d+\)|[Ss]ections? \d+\.\d+|[Ee]xercises? \d+\.\d+|Python 3\.\d+(?: to 3\.\d+)?|CC BY 4\.0")


class Claim(NamedTuple):
    number: str
    unit: str | None
    source: str
    key: str


def claims_in(text: str) -> list[Claim]:
    """All claims of a text. A marker that does not follow a number is a ValueError."""
    text = re.sub(r"```.*?```|`[^`\n]*`(?!\W*<!--)", " ", text, flags=re.S)  # a marker quoted as code is none
    found = [Claim(m["number"], m["unit"], m["source"].strip(), m["key"].strip()) for m in CLAIM.finditer(text)]
    markers = MARKER.findall(text)
    if len(markers) != len(found):
        read = "\n".join(m.group(0) for m in CLAIM.finditer(text))
        broken = [marker for marker in markers if marker not in read]
        raise ValueError(f"a claim marker must stand directly behind its number: {broken}")
    return found


def unbound_numbers(text: str) -> list[str]:
    """Measured-looking numbers in prose that carry neither a claim marker nor a citation nearby."""
    text = NOT_PROSE.sub(lambda m: m[0][:3] if m[0].startswith("](#") else " ", text)
    unbound = []
    for paragraph in re.split(r"\n\s*\n|\n(?=[-*|] ?)", text):
        if "](#" in paragraph:
            continue
        bare = NAMES.sub(" ", CLAIM.sub(" ", paragraph))
        unbound += [f"{m[0]!r} in {bare[max(0, m.start() - 40) : m.end() + 20]!r}" for m in MEASURED.finditer(bare)]
    return unbound


def check(claim: Claim, chapter: int | None, book: Manifest, root: Path = ROOT) -> str | None:
    """None where the claim holds, else a sentence that says what its source holds."""
    stated = f"the prose states {claim.number} ({claim.source}: {claim.key})"
    try:
        candidates = _candidates(claim, chapter, book, root)
    except (KeyError, IndexError, FileNotFoundError, ValueError) as error:
        return f"{stated}, but its source can't be read: {error}"
    value, digits = _parse(claim.number)
    for number, unit in candidates:
        if _rounded(number, claim.number, digits) == value and (claim.unit is None or unit in (None, claim.unit)):
            return None
    return f"{stated}, but the source has {', '.join(n for n, _ in candidates) or 'no number'}"


def _parse(number: str) -> tuple[float, int]:
    plain = number.replace(",", "").replace("−", "-")
    mantissa = plain.split("e")[0]
    return float(plain), len(mantissa.split(".")[1]) if "." in mantissa else 0


def _rounded(number: str, stated: str, digits: int) -> float:
    value, _ = _parse(number)
    return float(f"{value:.{digits}e}") if "e" in stated else round(value, digits)


def _candidates(claim: Claim, chapter: int | None, book: Manifest, root: Path) -> list[tuple[str, str | None]]:
    if claim.source.endswith(".json"):
        value = json.loads((root / claim.source).read_text(encoding="utf-8"))
        for part in claim.key.split("."):
            value = value[int(part)] if isinstance(value, list) else value[part]
        return [(repr(value), None)]
    where, _, cell = claim.source.rpartition("/")
    number = int(where) if where else chapter
    pages = [c for c in book.chapters if c.number == number]
    if not pages:
        raise KeyError(f"no chapter {number!r}")
    lines = [line for line in cell_output(pages[0].notebook, cell).splitlines() if claim.key in line]
    behind = [line[line.index(claim.key) + len(claim.key) :] for line in lines]
    return [(m[1], m[2]) for tail in behind for m in re.finditer(rf"({NUMBER})\s?({UNIT})?(?!\w)", tail)]


def cell_output(notebook: Path, name: str) -> str:
    """The printed output of the cell with that name."""
    cells = [c for c in nbformat.read(notebook, as_version=4).cells if c.metadata.get("name") == name]
    if len(cells) != 1:
        raise KeyError(f"{len(cells)} cells named {name!r} in {notebook.name}")
    texts = [o.get("text") or o.get("data", {}).get("text/plain", "") for o in cells[0].outputs]
    return "\n".join(texts)
