"""Run chapters and keep each notebook and its text form the same.

    python -m tools.chapters run [NN ...]     text -> executed notebook (all chapters, or the numbers given)
    python -m tools.chapters sync [NN ...]    whichever of the pair is newer wins; outputs of unchanged cells stay
    python -m tools.chapters student [NN ...] notebooks without solutions, for a course: build/student/

A notebook is chapters/NN_slug.ipynb, its text form chapters/text/NN_slug.md (MyST Markdown, by jupytext).
"""

import argparse
import json
import os
import re
import sys
import time
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from tqdm import tqdm

from reference.files import write_text
from reference.manifest import ROOT, Chapter, read_manifest
from tools.references import HEADING, reference_list

RUN_SECONDS = ROOT / "figures" / "data" / "run_seconds.json"
SOLUTION = re.compile(r"^([ \t]*)### BEGIN SOLUTION\n.*?^[ \t]*### END SOLUTION\n?", re.S | re.M)
METADATA = {
    "jupytext": {"formats": "ipynb,text//md:myst", "notebook_metadata_filter": "-jupytext.text_representation"},
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def clean(notebook: nbformat.NotebookNode, number: int) -> nbformat.NotebookNode:
    """Keep what is ours: the same notebook gives the same file whoever ran it, and when."""
    notebook.metadata = nbformat.from_dict(METADATA)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for i, cell in enumerate(notebook.cells):
        cell.id = f"c{number:02d}-{i:03d}"
        for key in ("execution", "editable", "slideshow", "trusted", "collapsed"):
            cell.metadata.pop(key, None)
        cell.metadata = nbformat.from_dict(dict(sorted(cell.metadata.items())))
    return notebook


def as_text(notebook: nbformat.NotebookNode) -> str:
    return jupytext.writes(notebook, fmt="md:myst")


def read_text(chapter: Chapter) -> nbformat.NotebookNode:
    return clean(jupytext.read(chapter.text, fmt="md:myst"), chapter.number)


def read_notebook(chapter: Chapter) -> nbformat.NotebookNode:
    return clean(nbformat.read(chapter.notebook, as_version=4), chapter.number)


def write_pair(chapter: Chapter, notebook: nbformat.NotebookNode) -> None:
    fill_references(notebook)
    write_text(chapter.notebook, nbformat.writes(clean(notebook, chapter.number)) + "\n")
    write_text(chapter.text, as_text(notebook))


def fill_references(notebook: nbformat.NotebookNode) -> None:
    """Generate the last cell's list from the citations in the prose."""
    last = notebook.cells[-1]
    prose, heading, _ = last.source.partition(HEADING)
    if last.cell_type != "markdown" or not heading:
        sys.exit(f"the last cell must be Markdown and hold the line {HEADING!r}; its list is generated")
    if prose.strip():  # in the text form, neighbouring Markdown cells are one until `+++` parts them
        last.source = prose.strip()
        notebook.cells.append(nbformat.v4.new_markdown_cell())
    cited = "\n".join(c.source for c in notebook.cells[:-1] if c.cell_type == "markdown")
    notebook.cells[-1].source = reference_list(cited)
    clean(notebook, int(notebook.cells[0].id[1:3]))


def run(chapter: Chapter) -> None:
    """Execute the newer of the pair from a fresh kernel and write both, the figures and the run time."""
    notebook = newer(chapter)
    cells = sum(cell.cell_type == "code" for cell in notebook.cells)
    bar = tqdm(total=cells, desc=chapter.name, unit=" cells", leave=False)
    client = NotebookClient(
        notebook,
        timeout=60 * chapter.minutes,
        kernel_name="python3",
        resources={"metadata": {"path": str(ROOT / "chapters")}},
        coalesce_streams=True,
        extra_arguments=["--log-level=ERROR"],
        on_cell_executed=lambda **_: bar.update(),
    )
    began = time.perf_counter()
    client.execute(env={**os.environ, "BOOK_WRITE": "1"})
    seconds = time.perf_counter() - began
    bar.close()
    print(f"{chapter.name}: {cells} cells in {seconds:.0f} s")
    if seconds > 60 * chapter.minutes:
        sys.exit(f"{chapter.name} ran {seconds:.0f} s; book.yml allows it {chapter.minutes} minutes")
    note_seconds(chapter, notebook, seconds)
    write_pair(chapter, notebook)


def newer(chapter: Chapter) -> nbformat.NotebookNode:
    """The side of the pair that was changed last; outputs of unchanged cells are kept."""
    if not chapter.text.exists() and not chapter.notebook.exists():
        sys.exit(f"book.yml names {chapter.name}, but neither {chapter.notebook} nor {chapter.text} exists")
    if not chapter.text.exists():
        return read_notebook(chapter)
    text = read_text(chapter)
    if not chapter.notebook.exists():
        return text
    notebook = read_notebook(chapter)
    if as_text(notebook) == as_text(text) or chapter.notebook.stat().st_mtime > chapter.text.stat().st_mtime:
        return notebook
    print(f"{chapter.name}: the text form is newer")
    outputs = {cell.source: cell for cell in notebook.cells if cell.cell_type == "code"}
    for cell in text.cells:
        if cell.cell_type == "code" and cell.source in outputs:
            cell.outputs = outputs[cell.source].outputs
            cell.execution_count = outputs[cell.source].execution_count
    return text


def note_seconds(chapter: Chapter, notebook: nbformat.NotebookNode, seconds: float) -> None:
    """Remember the run time in steps of 5 s and state it in the head; noise up to twofold changes nothing."""
    known = json.loads(RUN_SECONDS.read_text()) if RUN_SECONDS.exists() else {}
    number = f"{chapter.number:02d}"
    if not known.get(number, 0) / 4 < seconds <= known.get(number, 0) * 1.5:
        known[number] = 5 * -(-int(seconds + 1) // 5)
        write_text(RUN_SECONDS, json.dumps(dict(sorted(known.items())), indent=0) + "\n")
    head = notebook.cells[0]
    head.source = re.sub(r"\d+( s\W*<!--claim figures/data/run_seconds)", rf"{known[number]}\1", head.source)


def student(chapter: Chapter) -> Path:
    """A copy for a course: solution cells dropped, solution bodies blanked, no outputs."""
    notebook = read_notebook(chapter)
    notebook.cells = [cell for cell in notebook.cells if "solution" not in cell.metadata.get("tags", [])]
    for cell in notebook.cells:
        cell.source = SOLUTION.sub(r"\1# YOUR CODE HERE\n", cell.source).rstrip()
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    path = ROOT / "build" / "student" / chapter.notebook.name
    write_text(path, nbformat.writes(notebook) + "\n")
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["run", "sync", "student"])
    parser.add_argument("numbers", nargs="*", type=int, help="chapter numbers; none means all")
    args = parser.parse_args()
    chapters = read_manifest().chapters
    unknown = set(args.numbers) - {chapter.number for chapter in chapters}
    if unknown:
        parser.error(f"book.yml has no chapter {sorted(unknown)}")
    for chapter in chapters:
        if args.numbers and chapter.number not in args.numbers:
            continue
        if args.action == "run":
            run(chapter)
        elif args.action == "sync":
            write_pair(chapter, newer(chapter))
        else:
            print(student(chapter))


if __name__ == "__main__":
    main()
