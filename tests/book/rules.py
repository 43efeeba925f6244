"""What the tests of the book share: its chapters as cells."""

import re
from collections.abc import Iterator

import nbformat

from reference.book.manifest import Chapter, read_manifest

BOOK = read_manifest()
WORD = re.compile(r"[A-Za-z][A-Za-z'-]*")
FOLDED = re.compile(r"<details><summary>(?P<summary>.*?)</summary>\n\n(?P<words>.*?)\n\n</details>", re.S)


def cells(chapter: Chapter, kind: str) -> list[nbformat.NotebookNode]:
    return [c for c in nbformat.read(chapter.notebook, as_version=4).cells if c.cell_type == kind]


def prose(chapter: Chapter) -> str:
    return "\n\n".join(cell.source for cell in cells(chapter, "markdown"))


def outputs(chapter: Chapter) -> Iterator[tuple[nbformat.NotebookNode, nbformat.NotebookNode]]:
    for cell in cells(chapter, "code"):
        for output in cell.outputs:
            yield cell, output


def tags(cell: nbformat.NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def is_ignored(cell: nbformat.NotebookNode) -> bool:
    return any("ignore" in tag.lower() for tag in tags(cell)) or "NBVAL_" in cell.source


def folded(text: str, summary: str) -> list[str]:
    """The words of the folded blocks whose summary begins with that word."""
    return [block["words"] for block in FOLDED.finditer(text) if block["summary"].startswith(summary)]
