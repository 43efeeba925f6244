"""Chapters 01 to 03 in the browser: `python -m tools.lite [--out DIR]` writes a JupyterLite site to build/lite/.

The chapters that need no PyTorch run by Pyodide, a Python inside the page; nothing is sent anywhere. Pyodide itself
comes from its public address when a page is opened, so this site, unlike the book's own, needs the network. Serve it
over http (`python -m http.server -d build/lite`): a browser doesn't run it from a file.
`pip install '.[lite]'` brings jupyterlite-core and jupyterlite-pyodide-kernel.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import nbformat

from reference.book.manifest import ROOT, Chapter, read_manifest
from reference.files import write_text
from tools.chapters import read_notebook
from tools.copies import check_ours, hold_images, lead_links, working

CHAPTERS = (1, 2, 3)  # NumPy alone: a test imports what they import with PyTorch blocked
PACKAGES = ("matplotlib", "numpy", "pyyaml", "scikit-learn", "threadpoolctl", "tqdm")  # Pyodide has them all
MARK = "lite.txt"  # says that this folder is ours to write again
NEEDED = {"jupyterlite_core": "jupyterlite-core", "jupyterlite_pyodide_kernel": "jupyterlite-pyodide-kernel"}
FIRST_CELL = """import piplite  # in the browser: the book's code, and what it needs

await piplite.install({packages})
await piplite.install("{project}", deps=False)  # PyTorch isn't there, and isn't needed here"""
PROJECT = "delta-rule-to-hybrid-llm"


def in_the_browser(notebook: nbformat.NotebookNode, beside: list[str]) -> nbformat.NotebookNode:
    """The copy for JupyterLite: its first code cell installs, its outputs stay, its kernel is Pyodide's.

    beside: the notebooks' names; links to anything else lead to the book's address, if it has one.
    """
    own = working(notebook)
    hold_images(own)
    lead_links(own, read_manifest().repository or None, beside)
    first = next(n for n, cell in enumerate(own.cells) if cell.cell_type == "code")
    install = nbformat.v4.new_code_cell(FIRST_CELL.format(packages=list(PACKAGES), project=PROJECT))
    install["id"] = "install"
    own.cells.insert(first, install)
    own.metadata["kernelspec"] = {"name": "python", "display_name": "Python (Pyodide)", "language": "python"}
    return own


def build_wheel(folder: Path) -> Path:
    """The wheel of `reference`, with the book's data in it."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "wheel", "--no-deps"]
    subprocess.run([*pip, "--wheel-dir", str(folder), str(ROOT)], check=True)
    [wheel] = folder.glob("*.whl")
    return wheel


def contents(chapters: list[Chapter], folder: Path) -> list[Path]:
    """The notebooks, written to `folder`."""
    paths = [folder / chapter.notebook.name for chapter in chapters]
    for chapter, path in zip(chapters, paths, strict=True):
        copy = in_the_browser(read_notebook(chapter), [p.name for p in paths])
        write_text(path, nbformat.writes(copy))
    return paths


def build(out: Path) -> None:
    """Write the site, from scratch. ValueError if packages are missing, or `out` holds something else."""
    if missing := [name for module, name in NEEDED.items() if find_spec(module) is None]:
        raise ValueError(f"it needs {' and '.join(missing)}: pip install '.[lite]' in the book's environment")
    check_ours(out, MARK)
    chapters = [chapter for chapter in read_manifest().chapters if chapter.number in CHAPTERS]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        contents(chapters, folder / "files")
        wheel = build_wheel(folder / "wheels")
        lite = [sys.executable, "-m", "jupyterlite_core.app", "build", "--contents", str(folder / "files")]
        lite += ["--piplite-wheels", str(wheel), "--output-dir", str(folder / "site"), "--no-unused-shared-packages"]
        subprocess.run(lite, cwd=folder, check=True)
        write_text(folder / "site" / MARK, __doc__)
        shutil.rmtree(out, ignore_errors=True)
        shutil.move(folder / "site", out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "lite", help="default: build/lite")
    chosen = parser.parse_args()
    try:
        build(chosen.out.resolve())
    except ValueError as error:
        parser.error(str(error))
    print(f"The site is in {chosen.out}. To read it: python -m http.server -d {chosen.out} 8000")


if __name__ == "__main__":
    main()
