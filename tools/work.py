"""Working copies of the chapters, in work/: a reader's answers survive `git pull`, and saving never changes the book.

    python -m tools.work                 write what is missing; copies that nobody edited follow the book
    python -m tools.work reset NN ...    take clean copies of these chapters (or ALL); the old ones move to work/old/

work/ lies beside chapters/, so that links to ../appendix/ and to other chapters lead to the same places.
work/.versions.json holds the version of the book's chapter that each copy came from.
"""

import argparse
import hashlib
import json
import sys
import time
from pathlib import Path

import nbformat

from reference.book.manifest import ROOT, Chapter, read_manifest
from reference.files import write_text
from tools.copies import working

WORK = ROOT / "work"
VERSIONS = ".versions.json"


def version(notebook: nbformat.NotebookNode) -> str:
    """A hash of what was written: kinds and sources of the cells, not outputs or an editor's metadata."""
    cells = [[cell.cell_type, cell.source.replace("\r\n", "\n").rstrip()] for cell in notebook.cells]
    return hashlib.sha256(json.dumps(cells).encode("utf-8")).hexdigest()


def read(path: Path) -> nbformat.NotebookNode | None:
    """The notebook; None where the file is not a notebook (any more)."""
    try:
        return nbformat.read(path, as_version=4)
    except (ValueError, TypeError, KeyError, AttributeError, nbformat.ValidationError):
        return None


def read_versions(folder: Path) -> dict[str, str]:
    path = folder / VERSIONS
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except ValueError:
        return {}  # then a copy is taken for edited unless it equals the book's chapter


def copy_path(chapter: Chapter, folder: Path | None = None) -> Path:
    return (folder or WORK) / chapter.notebook.name


def refresh(chapters: list[Chapter], folder: Path | None = None) -> list[Chapter]:
    """Write the copies that are missing or that nobody edited since they were made. An edited copy is never touched.

    Returns the chapters whose copy was edited and whose original has changed since that copy was made.
    """
    folder = folder or WORK
    versions, behind = read_versions(folder), []
    for chapter in chapters:
        book, path = nbformat.read(chapter.notebook, as_version=4), copy_path(chapter, folder)
        new, came_from = version(book), versions.get(chapter.name)
        mine = read(path) if path.exists() else None
        if path.exists() and (mine is None or version(mine) not in (came_from, new)):
            if came_from != new:
                behind.append(chapter)
            continue
        if mine is None or version(mine) != new:
            write_text(path, nbformat.writes(working(book)) + "\n")
        versions[chapter.name] = new
    write_versions(folder, versions)
    return behind


def write_versions(folder: Path, versions: dict[str, str]) -> None:
    write_text(folder / VERSIONS, json.dumps(dict(sorted(versions.items())), indent=0) + "\n")


def reset(chapters: list[Chapter], folder: Path | None = None) -> list[Path]:
    """Move these chapters' copies to old/ and write clean ones. Returns where the old ones are."""
    folder, kept = folder or WORK, []
    for chapter in chapters:
        path = copy_path(chapter, folder)
        if path.exists():
            kept.append(unused(folder / "old" / f"{path.stem}-{time.strftime('%Y-%m-%d')}.ipynb"))
            kept[-1].parent.mkdir(exist_ok=True)
            path.rename(kept[-1])
    refresh(chapters, folder)
    return kept


def unused(path: Path) -> Path:
    """path, or path-2, path-3, ...: the first that does not exist."""
    beside = [path, *(path.with_stem(f"{path.stem}-{i}") for i in range(2, 1000))]
    return next(candidate for candidate in beside if not candidate.exists())


def say_behind(behind: list[Chapter]) -> None:
    if behind:
        numbers = " ".join(f"{chapter.number:02d}" for chapter in behind)
        print(
            f"Changed in the book since you edited your copy in work/, which stays as it is: {numbers}. "
            f'For new copies (yours move to work/old/): make reset CHAPTERS="{numbers}"'
        )


def choose(names: list[str], chapters: list[Chapter]) -> list[Chapter]:
    """The chapters of these numbers, or of ALL. No or an unknown number ends with a sentence."""
    if not names:
        sys.exit('reset: which chapter? make reset CHAPTERS=02, CHAPTERS="02 04", or CHAPTERS=ALL for every one')
    if [name.upper() for name in names] == ["ALL"]:
        return chapters
    known = {f"{chapter.number:02d}": chapter for chapter in chapters}
    unknown = [name for name in names if name.zfill(2) not in known]
    if unknown:
        sys.exit(f"book.yml has no chapter {', '.join(unknown)}; it has {min(known)} to {max(known)}")
    return [known[number] for number in sorted({name.zfill(2) for name in names})]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", nargs="?", choices=["reset"])
    parser.add_argument("numbers", nargs="*", help="chapter numbers, or ALL")
    args, chapters = parser.parse_args(), read_manifest().chapters
    try:
        if args.action == "reset":
            chosen = choose(args.numbers, chapters)
            kept = reset(chosen)
            print(f"Clean in work/: {' '.join(f'{chapter.number:02d}' for chapter in chosen)}")
            for path in kept:
                print(f"Your old copy: {path.relative_to(ROOT)}")
        else:
            say_behind(refresh(chapters))
            print(f"Your working copies are in {WORK}")
    except OSError as error:
        sys.exit(f"work/: {error}")


if __name__ == "__main__":
    main()
