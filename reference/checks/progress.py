"""Which exercises a reader has solved: kept in one file on the reader's own disk, and nowhere else.

`verdict` notes a right answer of the reader's own. It notes nothing in the book's solutions, where the file can't be
written, or where CI or NO_PROGRESS is set.
"""

import json
import os
import sys
from pathlib import Path

from reference.files import BOOK, IN_WHEEL, write_text

SOLVED = BOOK / ".progress.json"
SOLUTION_CELL = "### BEGIN SOLUTION"


def solved(path: Path | None = None) -> list[str]:
    """Numbers of the exercises that were solved, in the order of the book; none where there is no such file."""
    try:
        found = json.loads((path or SOLVED).read_text(encoding="utf-8"))
        return sorted({str(number) for number in found}, key=lambda n: [int(part) for part in n.split(".")])
    except (OSError, ValueError, TypeError):
        return []


def note_solved(number: str, path: Path | None = None) -> bool:
    """Add an exercise: whether it was noted."""
    path = path or SOLVED
    if os.environ.get("CI") or os.environ.get("NO_PROGRESS") or BOOK == IN_WHEEL or _in_a_solution():
        return False
    known = solved(path)
    if number in known:
        return True
    try:
        write_text(path, json.dumps([*known, number]) + "\n")
    except (OSError, ValueError):
        return False
    return True


def _in_a_solution() -> bool:
    """Whether the running notebook cell is one of the book's solutions, or no notebook is running."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    cells = getattr(shell, "user_ns", {}).get("In", [])
    return not cells or SOLUTION_CELL in cells[-1]
