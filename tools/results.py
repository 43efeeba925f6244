"""The table of results on the first page: what the matrix of chapter 10 printed, a row for each task."""

import re

from reference.book.manifest import Chapter, Manifest
from tools.chapters import read_notebook

CELL = "matrix"  # prints a line for each task and, indented, one for each stack
TASK = re.compile(
    r"(?P<section>\d+\.\d+) (?P<task>.+) \((?P<test>[^;]+); (?P<steps>[\d,]+) steps; chance (?P<chance>[\d.]+)\)"
)
STACK = re.compile(r" +(?P<kind>\S+) +(?P<verdict>yes|partly|no) +(?P<share>[\d.]+ ± [\d.]+) +(?P<layers>\d+ x .+)")
NO_BREAK, HYPHEN = "\N{NO-BREAK SPACE}", "\N{NON-BREAKING HYPHEN}"
COLUMNS = ("linear", "hybrid", "softmax")  # every other kind is a share of softmax layers, such as 3:1


def results_table(book: Manifest) -> str:
    """Markdown, from the stored outputs of the chapter that has the matrix. ValueError if a line can't be read."""
    chapter, printed = next((c, text) for c in book.chapters if (text := _printed(c)) is not None)
    rows: list[tuple[re.Match, dict[str, list[str]]]] = []
    for line in printed.splitlines():
        if task := TASK.fullmatch(line):
            rows.append((task, {column: [] for column in COLUMNS}))
        elif rows and (stack := STACK.fullmatch(line)):
            kind = stack["kind"]
            if kind in COLUMNS:
                rows[-1][1][kind].append(stack["share"])
            else:
                rows[-1][1]["hybrid"].append(f"{kind} {stack['share']}")
        else:
            raise ValueError(f"{chapter.name}, cell {CELL}: expected a task or one of its stacks, got {line!r}")
    lines = [f"| task | chance | {' | '.join(COLUMNS)} | section |", "|---|---|---|---|---|---|"]
    for task, found in rows:
        test = task["test"].removeprefix(f"{task['task'].split()[0]}, ")  # "recall beside parity", "recall, 48 pairs"
        test = "" if test in task["task"] else f", {test}"
        cells = ["<br>".join(found[column]).replace(" ", NO_BREAK).replace("-", HYPHEN) or "–" for column in COLUMNS]
        lines.append(f"| {task['task']}{test} | {task['chance']} | {' | '.join(cells)} | {task['section']} |")
    return "\n".join(lines)


def _printed(chapter: Chapter) -> str | None:
    """What the cell has printed; None if the chapter has no such cell."""
    for cell in read_notebook(chapter).cells:
        if cell.cell_type == "code" and cell.metadata.get("name") == CELL:
            return "".join(output["text"] for output in cell.outputs if output.output_type == "stream")
    return None
