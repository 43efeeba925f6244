"""Copies of a chapter's notebook for readers: to work in, to download, for a course.

Each is a new notebook without jupytext's pairing: saving it writes no text form.
"""

import copy
import re
from base64 import b64encode, b85encode
from collections.abc import Container
from pathlib import Path
from zlib import compress

import nbformat

from reference.book.manifest import ROOT

SOLUTION = re.compile(r"^([ \t]*)### BEGIN SOLUTION\n(?P<body>.*?)^[ \t]*### END SOLUTION\n?", re.S | re.M)
APPENDIX_LINK = re.compile(r"\]\(\.\./appendix/")
IMAGE = re.compile(r"!\[(?P<alt>[^\]]*)\]\(\.\./figures/(?P<path>[^)\s]+\.png)\)")
RELATIVE_LINK = re.compile(r"\[(?P<words>[^\]\[]+)\]\((?P<target>(?!#|/|\w+:)[^)\s]+)\)")
NEEDS = "**This is a downloaded copy.** Its code is the book's: {where}, run `make lab` there, and open this chapter."
GUARD = """try:  # this copy was downloaded: say so where the book isn't
    import reference.notebook
except ImportError as error:
    class BookMissing(Exception):
        def _render_traceback_(self):
            return [str(self)]

    raise BookMissing(
        f"This notebook needs the book's code and its packages, and Python doesn't find them here ({{error}}).\\n"
        "{where}, run `make lab` there, and open the chapter."
    ) from None

"""
PACKED = '''"""The checks of {name}, packed so that the answers can't be read at a glance. They are no secret."""

from base64 import b85decode
from zlib import decompress

exec(compile(decompress(b85decode({packed!r})), "<packed checks of {name}>", "exec"))
'''


def check_ours(out: Path, mark: str) -> None:
    """ValueError if the folder `out`, to be written from scratch, holds files and not the one that says it is ours."""
    if out.is_dir() and any(out.iterdir()) and not (out / mark).is_file():
        raise ValueError(f"--out: {out} holds other files; choose an empty folder")


def working(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The copy that a reader works in: all of the chapter, with its outputs, unpaired."""
    own = copy.deepcopy(notebook)
    own.metadata.pop("jupytext", None)
    return own


def hold_images(notebook: nbformat.NotebookNode) -> None:
    """Put the images that Markdown cells link to into the notebook, in place: a copy lies where their files don't."""
    for cell in notebook.cells:
        for image in IMAGE.finditer(cell.source) if cell.cell_type == "markdown" else ():
            data = (ROOT / "figures" / image["path"]).read_bytes()
            name = image["path"].replace("/", "_")
            cell.setdefault("attachments", {})[name] = {"image/png": b64encode(data).decode("ascii")}
            cell.source = cell.source.replace(image[0], f"![{image['alt']}](attachment:{name})")


def lead_links(notebook: nbformat.NotebookNode, repository: str | None, beside: Container[str] = ()) -> None:
    """Let relative links lead to the book's address, in place; without one they become plain words.

    beside: names of files that lie beside the copy; links to those stay.
    """

    def led(link: re.Match) -> str:
        if link["target"].partition("#")[0] in beside:
            return link[0]
        if repository is None:
            return link["words"]
        inside, up = re.subn(r"^\.\./", "", link["target"])
        return f"[{link['words']}]({repository}/blob/main/{inside if up else 'chapters/' + inside})"

    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = RELATIVE_LINK.sub(led, cell.source)


def downloadable(notebook: nbformat.NotebookNode, repository: str | None = None) -> nbformat.NotebookNode:
    """The copy that the site offers: it says what it needs, in its first cell and where its first code cell fails.

    repository: the address of the book, "https://github.com/owner/name"; its relative links lead there. Without
    one, links within the book become plain words.
    """
    own = working(notebook)
    hold_images(own)
    where = f"get it from {repository}" if repository else "get the book's folder"
    lead_links(own, repository)
    title, _, rest = own.cells[0].source.partition("\n")
    own.cells[0].source = f"{title}\n\n{NEEDS.format(where=where)}\n{rest}"
    first = next(cell for cell in own.cells if cell.cell_type == "code")
    first.source = GUARD.format(where=where[0].upper() + where[1:]) + first.source
    return own


def for_students(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The copy for a course: solution cells dropped, solution bodies blanked, no outputs, links to appendix/ beside."""
    own = working(notebook)
    hold_images(own)
    own.cells = [cell for cell in own.cells if "solution" not in cell.metadata.get("tags", [])]
    for cell in own.cells:
        cell.source = SOLUTION.sub(r"\1# YOUR CODE HERE\n", cell.source).rstrip()
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
        else:
            cell.source = APPENDIX_LINK.sub("](appendix/", cell.source)
    return own


def packed(source: str, name: str) -> str:
    """A module that does what source does and does not show it. name: what it holds, for its docstring."""
    return PACKED.format(name=name, packed=b85encode(compress(source.encode("utf-8"), 9)).decode("ascii"))
