"""Run chapters and keep each notebook and its text form the same.

    python -m tools.chapters run [NN ...]     text -> executed notebook (all chapters, or the numbers given)
    python -m tools.chapters sync [NN ...]    whichever of the pair is newer wins; outputs of unchanged cells stay
    python -m tools.chapters student [NN ...] notebooks without solutions, with all they need: build/student/

A notebook is chapters/NN_slug.ipynb, its text form chapters/text/NN_slug.md (MyST Markdown, by jupytext).
"""

import argparse
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from tqdm import tqdm

from reference.book.manifest import ROOT, Chapter, read_manifest
from reference.files import write_bytes, write_text
from tools.copies import downloadable, for_students, packed
from tools.metadata import METADATA, clean
from tools.references import HEADING, reference_list
from tools.symbols import HEADING as SYMBOLS
from tools.symbols import symbol_list

__all__ = ["METADATA", "clean", "downloadable"]  # of what others take from here, the imported ones

RUN_SECONDS = ROOT / "figures" / "data" / "run_seconds.json"
COURSE = ["book.yml", "requirements.txt", "constraints.txt", "LICENSE", "LICENSE-text"]
COURSE_README = """# For a course: chapters without solutions

Everything that the notebooks here need lies beside them. With Python 3.11 or newer, in this folder:

    python3 -m venv .venv
    .venv/bin/python -m pip install -r requirements.txt
    .venv/bin/python -m jupyter lab

On Windows: `py -m venv .venv`, and `.venv\\Scripts\\python` in place of `.venv/bin/python`.
The exercises say by themselves whether an answer is right; reference/checks holds how, packed against a glance.
"""


def as_text(notebook: nbformat.NotebookNode) -> str:
    return jupytext.writes(notebook, fmt="md:myst")


def as_file(notebook: nbformat.NotebookNode) -> str:
    return nbformat.writes(notebook) + "\n"


def read_text(chapter: Chapter) -> nbformat.NotebookNode:
    return clean(_whole(chapter.text, lambda path: jupytext.read(path, fmt="md:myst")), chapter.number)


def read_notebook(chapter: Chapter) -> nbformat.NotebookNode:
    return clean(_whole(chapter.notebook, lambda path: nbformat.read(path, as_version=4)), chapter.number)


def _whole(path: Path, read: Callable[[Path], nbformat.NotebookNode]) -> nbformat.NotebookNode:
    """What read(path) finds; ends with a sentence where the file is torn, empty or another kind of file."""
    try:
        notebook = read(path)
        if notebook.cells and "kernelspec" in notebook.metadata:
            return notebook
        problem = "it has no cells, or a text without its head"
    except Exception as error:  # JSON, YAML, encodings, attributes that are missing
        problem = str(error).splitlines()[0][:80] or type(error).__name__
    shown = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
    sys.exit(
        f"{shown}: is no whole chapter ({problem}). Nothing was written. `git checkout {shown}` brings the last "
        "committed one back; or delete it, and it is made anew from the other of the pair"
    )


def write_pair(chapter: Chapter, notebook: nbformat.NotebookNode) -> None:
    fill_references(notebook)
    fill_symbols(notebook, chapter.number)
    write_text(chapter.notebook, as_file(clean(notebook, chapter.number)))
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


def fill_symbols(notebook: nbformat.NotebookNode, number: int) -> None:
    """Generate the list of symbols, the cell before the references, from appendix/notation.md."""
    notebook.cells = [c for c in notebook.cells if c.cell_type != "markdown" or not c.source.startswith(SYMBOLS)]
    words = "\n\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")
    if (symbols := symbol_list(number, words)) is not None:
        notebook.cells.insert(-1, nbformat.v4.new_markdown_cell(symbols))
    clean(notebook, number)


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
    if as_text(notebook) == as_text(text):
        return notebook
    notebook_wins = chapter.notebook.stat().st_mtime > chapter.text.stat().st_mtime
    older = keep_older(chapter.text.name, as_text(text if notebook_wins else notebook))
    side = "notebook" if notebook_wins else "text form"
    print(f"{chapter.name}: the {side} is newer; what the other one said is kept in {older.relative_to(ROOT)}")
    if notebook_wins:
        return notebook
    outputs = {cell.source: cell for cell in notebook.cells if cell.cell_type == "code"}
    for cell in text.cells:
        if cell.cell_type == "code" and cell.source in outputs:
            cell.outputs = outputs[cell.source].outputs
            cell.execution_count = outputs[cell.source].execution_count
    return text


def keep_older(name: str, text: str) -> Path:
    """Write what would be lost into build/older, beside what earlier losers said."""
    folder, stem = ROOT / "build" / "older", Path(name).stem
    path, n = folder / name, 1
    while path.exists() and path.read_text(encoding="utf-8") != text:
        n += 1
        path = folder / f"{stem}_{n}.md"
    write_text(path, text)
    return path


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
    """Write the chapter's copy for a course."""
    path = ROOT / "build" / "student" / chapter.notebook.name
    write_text(path, as_file(for_students(read_notebook(chapter))))
    return path


def course_folder(target: Path) -> None:
    """Put beside the students' notebooks what they need, so that the folder can be handed out as it is.

    The checks compute the right answers, so they are packed (tools/copies.py): not readable at a glance, and
    no secret either. The rest of reference/ is the book's library; some exercises ask for a function of it.
    """
    for name in ("reference", "appendix", "figures"):
        shutil.rmtree(target / name, ignore_errors=True)
    for path in [
        *(ROOT / "reference").rglob("*"),
        *(ROOT / "appendix").glob("*.md"),
        *(ROOT / "figures/data").iterdir(),
    ]:
        if path.is_file() and "__pycache__" not in path.parts:
            data = path.read_bytes()
            if path.match("reference/checks/ch[0-9][0-9].py"):
                data = packed(data.decode("utf-8"), f"chapter {path.stem[2:]}").encode("utf-8")
            write_bytes(target / path.relative_to(ROOT), data)
    for name in COURSE:
        write_bytes(target / name, (ROOT / name).read_bytes())
    write_text(target / "README.md", COURSE_README)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["run", "sync", "student"])
    parser.add_argument("numbers", nargs="*", type=int, help="chapter numbers; none means all")
    args = parser.parse_args()
    chapters = read_manifest().chapters
    unknown = set(args.numbers) - {chapter.number for chapter in chapters}
    if unknown:
        parser.error(f"book.yml has no chapter {sorted(unknown)}")
    chosen = [chapter for chapter in chapters if not args.numbers or chapter.number in args.numbers]
    try:
        act(args.action, chosen)
    except OSError as error:
        sys.exit(f"{args.action}: {error}")


def act(action: str, chapters: list[Chapter]) -> None:
    for chapter in chapters:
        if action == "run":
            run(chapter)
        elif action == "sync":
            write_pair(chapter, newer(chapter))
        else:
            print(student(chapter))
    if action == "student":
        course_folder(ROOT / "build" / "student")


if __name__ == "__main__":
    main()
