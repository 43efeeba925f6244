"""Build the site: stage the chapters' sources, run Sphinx with warnings as errors, say where it is.

    python -m tools.build_site [--out DIR]

Chapters are plain Markdown, so that they read well in Jupyter and on GitHub. What only a site can do
is added on the staged copy: numbered equations and citations become links, figures become SVG with alt text,
and each chapter gets its links to the notebook.
"""

import argparse
import html
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import yaml

from reference.book.manifest import ROOT, Chapter, Manifest, online_links, read_manifest
from reference.files import write_text
from tools.chapters import downloadable, read_notebook
from tools.references import bibliography
from tools.results import results_table
from tools.site_cells import EXPLORABLE, explorable_html, figure_html, stage_code
from tools.site_finish import finish
from tools.symbols import EQUATION

EQUATION_REFERENCE = re.compile(r"(?<![\w`(\[$\\])\((\d+)\.(\d+)\)(?![`\w])")
CITATION = re.compile(r"\[(?P<text>[^\]\[]+)\]\(#(?P<key>[a-z][\w-]*)\)")
CODE = re.compile(r"(```.*?```|`[^`\n]*`|\$\$.*?\$\$|\$[^$\n]+\$)", re.S)
BIBLIOGRAPHY = re.compile(r"```\{bibliography\}.*?```", re.S)
FRONT_FIGURE = re.compile(r"<!--figure (?P<name>\d\d_\w+): (?P<alt>[^<]*)-->")
TABLE = re.compile(r"^\|.*\n\|[-| :]+\|\n(?:\|.*(?:\n|\Z))+", re.M)
PROSE_ROW = 120  # characters: a table with a row longer than this holds sentences
LAB = "http://localhost:8888/lab/tree/work"  # the working copies that `make lab` writes


def link_equations(text: str, here: int, pages: dict[int, str]) -> str:
    """(2.1) in prose becomes a link to the equation with that tag; code and mathematics stay."""

    def link(match: re.Match) -> str:
        chapter, number = int(match[1]), match[2]
        if chapter not in pages:
            return match[0]
        page = "" if chapter == here else f"{pages[chapter]}.html"
        return f'<a href="{page}#eq-{chapter}-{number}">({chapter}.{number})</a>'

    parts = CODE.split(text)
    return "".join(part if i % 2 else EQUATION_REFERENCE.sub(link, part) for i, part in enumerate(parts))


def number_equations(text: str) -> str:
    """A tagged equation gets an anchor, and its number as an element of its own: so the equation itself can break."""

    def block(match: re.Match) -> str:
        anchor = match["number"].replace(".", "-")
        equation = f"\\begin{{equation}}\n{match['body'].strip()}\n\\end{{equation}}"
        return (
            f'\n\n<div class="equation" id="eq-{anchor}">\n\n```{{math}}\n:no-wrap: true\n\n{equation}\n```\n\n'
            f'<span class="equation-number">({match["number"]})</span></div>\n\n'
        )

    return EQUATION.sub(block, text)


def link_citations(text: str, page: str = "") -> str:
    """[Hebb 1949](#hebb1949) becomes a link to the entry on the page, or on the bibliography's."""
    return CITATION.sub(lambda m: f'<a class="citation" href="{page}#{m["key"]}">{m["text"]}</a>', text)


def stage_chapter(chapter: Chapter, book: Manifest, pages: dict[int, str], target: Path) -> None:
    notebook, drawn = nbformat.read(chapter.notebook, as_version=4), 0
    for i, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown":
            cell.source = number_equations(link_equations(link_citations(cell.source), chapter.number, pages))
            cell.source = EXPLORABLE.sub(explorable_html, cell.source)
            if i == 0:
                title, _, rest = cell.source.partition("\n")
                cell.source = f"{title}\n\n{notebook_links(chapter, book)}\n{rest}"
        else:
            drawn = stage_code(cell, chapter.number, drawn)
    write_text(target / "chapters" / chapter.notebook.name, nbformat.writes(notebook))


def notebook_links(chapter: Chapter, book: Manifest) -> str:
    name = chapter.notebook.name
    links = online_links(book, chapter)
    online = "".join(f' · <a href="{address}">Open in {place}</a>' for place, address in links.items())
    return (
        f'<p class="notebook-links"><a href="../notebooks/{name}" download>Download the notebook</a> · '
        f'<a href="{LAB}/{name}">Open in Jupyter</a> (runs where <code>make lab</code> runs){online}</p>'
    )


def stage_appendix(name: str, book: Manifest) -> str:
    """The text of an appendix; the bibliography gets its entries and the links back to who cites them."""
    texts = {other: (ROOT / "appendix" / f"{other}.md").read_text(encoding="utf-8") for other in book.appendices}
    if name != "bibliography":
        return stack_tables(link_citations(texts[name], "bibliography.html"))
    pages = {
        f"{c.number:02d}": (f"../chapters/{c.name}.html#KEY", c.text.read_text(encoding="utf-8")) for c in book.chapters
    }
    pages |= {other: (f"{other}.html", text) for other, text in texts.items() if other != name}
    return BIBLIOGRAPHY.sub(lambda _: bibliography(pages), texts[name])


def stack_tables(text: str) -> str:
    """Tables of sentences are marked, with the names of their columns: a phone shows their cells stacked."""

    def mark(match: re.Match) -> str:
        if max(len(row) for row in match[0].splitlines()) < PROSE_ROW:
            return match[0]
        names = [html.escape(name.strip()) for name in match[0].splitlines()[0].strip("|").split("|")]
        style = "; ".join(f"--column-{i}: '{name}: '" for i, name in enumerate(names[1:], start=2))
        return f'<div class="prose-table" style="{style}">\n\n{match[0].rstrip()}\n\n</div>\n'

    return TABLE.sub(mark, text)


def stage_front(text: str, book: Manifest) -> str:
    """The first page: its comments <!--chapters-->, <!--figure NAME: CAPTION--> and so on become what they name."""
    code = f"The code and the notebooks are at [{book.repository}]({book.repository})." if book.repository else ""
    words = {"subtitle": f"*{book.subtitle}.*", "chapters": chapter_table(book), "results": results_table(book)}
    for mark, said in (words | {"code": code}).items():
        text = text.replace(f"<!--{mark}-->", said)
    text = EXPLORABLE.sub(explorable_html, text)
    return stack_tables(FRONT_FIGURE.sub(lambda m: figure_html(m["name"], m["alt"], root=""), text))


def table_of_contents(book: Manifest) -> dict:
    """The manifest in the form that sphinx-external-toc reads."""
    chapters = [{"file": f"chapters/{c.name}", "title": f"{c.number:02d} {c.title}"} for c in book.chapters]
    appendices = [{"file": f"appendix/{name}"} for name in book.appendices]
    parts = [{"caption": "Chapters", "chapters": chapters}, {"caption": "Appendices", "chapters": appendices}]
    return {"format": "jb-book", "root": "index", "parts": parts}


def chapter_table(book: Manifest) -> str:
    """The chapters with questions, needs and run times; those not written yet come last, without a link."""
    seconds = json.loads((ROOT / "figures" / "data" / "run_seconds.json").read_text(encoding="utf-8"))
    rows = [
        f"| [{c.number:02d} {c.title}](chapters/{c.name}.ipynb) | {c.question} | {', '.join(c.needs)} "
        f"| {seconds[f'{c.number:02d}']} s |"
        for c in book.chapters
    ]
    rows += [f"| {p.number:02d} {p.title} *(planned)* | {p.question} | | |" for p in book.planned]
    return "\n".join(["| chapter | its question | you need | it runs in |", "|---|---|---|---|", *rows])


def stage(book: Manifest, target: Path) -> None:
    """Write everything Sphinx reads below target, from scratch."""
    shutil.rmtree(target, ignore_errors=True)
    pages = {chapter.number: chapter.name for chapter in book.chapters}
    for chapter in book.chapters:
        if not chapter.notebook.exists():
            sys.exit(f"book.yml names the chapter {chapter.name}, but {chapter.notebook} does not exist")
        stage_chapter(chapter, book, pages, target)
    for name in book.appendices:
        write_text(target / "appendix" / f"{name}.md", stage_appendix(name, book))
    front = (ROOT / "site" / "index.md").read_text(encoding="utf-8")
    write_text(target / "index.md", stage_front(front, book))
    write_text(target / "toc.yml", yaml.safe_dump(table_of_contents(book), sort_keys=False))


def build(out: Path) -> Path:
    """Stage, build, add the notebooks for download. Returns the first page's path."""
    book, source = read_manifest(), out / "source"
    stage(book, source)
    command = [sys.executable, "-m", "sphinx", "-b", "html", "-W", "--keep-going", "-q"]
    site = out / "html"
    status = subprocess.run([*command, "-c", ROOT / "site", "-d", out / "doctrees", source, site]).returncode
    if status:
        sys.exit(f"The site was not built: Sphinx's messages above name the page and line below {source}.")
    shutil.copytree(ROOT / "figures", site / "figures", ignore=shutil.ignore_patterns("data"), dirs_exist_ok=True)
    finish(site)
    for chapter in book.chapters:
        copy = downloadable(read_notebook(chapter), book.repository or None)
        write_text(site / "notebooks" / chapter.notebook.name, nbformat.writes(copy) + "\n")
    return site / "index.html"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "build", help="folder for the site (default: build)")
    args = parser.parse_args()
    print(f"Building the site of {len(read_manifest().chapters)} chapters ...", flush=True)
    page = build(args.out.resolve())
    print(f"The book is at {page}\nOpen it: {page.as_uri()}")


if __name__ == "__main__":
    main()
