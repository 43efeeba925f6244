"""Figures with their captions, equations as LaTeX, cards, and the book as one PDF."""

import base64
import csv
import html
import io
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from tqdm import tqdm

from reference.book.manifest import ROOT, Manifest
from reference.files import write_bytes, write_text
from tools.measure_page import browser, find_browser
from tools.teach.questions import questions_of
from tools.teach.reading import Lesson, plain

LICENCE = "Text and figures: CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/). Name the book: {title}."
STAMP = (1980, 1, 1, 0, 0, 0)  # the same bytes every time
TERM = re.compile(r"^### (?P<term>[^\n]+)\n\n(?P<text>(?:(?!^#).)+)", re.M | re.S)
CARDS = """#separator:tab
#html:true
#notetype:Basic
#tags column:3
"""
MARKUP = ((re.compile(r"\*\*([^*]+)\*\*"), r"<b>\1</b>"), (re.compile(r"\*(?=\S)([^*]+)(?<=\S)\*"), r"<i>\1</i>"))
PARTS = re.compile(r"(`[^`]+`|\$[^$]+\$)")
PREAMBLE = "% Every numbered equation of the book, by chapter. Needs amsmath and amssymb.\n"


def figure_rows(lessons: list[Lesson], title: str = "") -> list[dict[str, str]]:
    """File, number, chapter, section, caption (with the book's name and licence) and text alternative of every figure,
    each once."""
    rows, credit = {}, f"From “{title}”, CC BY 4.0."
    for lesson in lessons:
        figures = [(section, figure) for section in lesson.sections for figure in section.figures]
        for n, (section, figure) in enumerate(figures, 1):
            number = f"{lesson.chapter.number}.{n}"  # as on the site
            caption = f"Figure {number}: {figure.alt} {credit}"
            row = {"file": f"{figure.name}.svg", "number": number, "chapter": lesson.title, "section": section.title}
            rows.setdefault(figure.name, row | {"caption": caption, "alt": figure.alt})
    return list(rows.values())


def write_figures(lessons: list[Lesson], out: Path, title: str) -> int:
    """figures.zip: SVG (and PNG where a browser can draw them), a table of captions, the licence. Returns how many."""
    rows, table = figure_rows(lessons, title), io.StringIO()
    writer = csv.DictWriter(table, [*rows[0]], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        _add(file, "LICENCE.txt", LICENCE.format(title=title).encode())
        _add(file, "captions.csv", table.getvalue().encode())
        for row in rows:
            _add(file, f"svg/{row['file']}", (ROOT / "figures" / row["file"]).read_bytes())
        for name, data in _as_png([ROOT / "figures" / row["file"] for row in rows]):
            _add(file, f"png/{name}", data)
    write_bytes(out / "figures.zip", packed.getvalue())
    return len(rows)


def _add(file: zipfile.ZipFile, name: str, data: bytes) -> None:
    file.writestr(zipfile.ZipInfo(name, STAMP), data, zipfile.ZIP_DEFLATED)


def _as_png(paths: list[Path]) -> list[tuple[str, bytes]]:
    """The figures as pixels, drawn by the browser that is installed; none without one."""
    if not (program := find_browser()):
        return []
    found = []
    with browser(program) as tab:
        for path in paths:
            width, height = _size(path)
            box = {"width": width, "height": height, "deviceScaleFactor": 2, "mobile": False}
            tab.call("Emulation.setDeviceMetricsOverride", **box)
            tab.open(path.as_uri())
            data = tab.call("Page.captureScreenshot", format="png")["data"]
            found.append((f"{path.stem}.png", base64.b64decode(data)))
    return found


def _size(path: Path) -> tuple[int, int]:
    """Width and height in CSS pixels: Matplotlib writes points, 4/3 of a pixel."""
    head = path.read_text(encoding="utf-8")[:2000]
    sizes = [re.search(rf'<svg[^>]*\b{name}="([\d.]+)pt"', head, re.S) for name in ("width", "height")]
    return tuple(round(float(size[1]) * 4 / 3) if size else 800 for size in sizes)


def equations_tex(lessons: list[Lesson]) -> str:
    """equations.tex: each with the number that the book gives it."""
    lines = [PREAMBLE]
    for lesson in lessons:
        lines.append(f"% {lesson.title}\n")
        for section in lesson.sections:
            lines += [
                f"\\begin{{equation*}}\n{body} \\tag{{{n}}}\n\\end{{equation*}}\n" for n, body in section.equations
            ]
    return "\n".join(lines)


def cards_tsv(lessons: list[Lesson]) -> str:
    """Cards for Anki and the like, front, back and tag: terms of the glossary, and the predictions."""
    glossary = (ROOT / "appendix" / "glossary.md").read_text(encoding="utf-8")
    rows = [(match["term"], plain(match["text"]), "glossary") for match in TERM.finditer(glossary)]
    for lesson in lessons:
        tag = f"chapter-{lesson.chapter.number:02d}"
        rows += [(question, answer, tag) for _, question, answer in questions_of(lesson)]
    return CARDS + "".join(f"{as_html(front)}\t{as_html(back)}\t{tag}\n" for front, back, tag in rows)


def as_html(text: str) -> str:
    """Plain Markdown as Anki shows it: formulas between \\( and \\), code, bold and italic words."""
    parts = []
    for part in PARTS.split(" ".join(text.split())):
        escaped = html.escape(part, quote=False)
        if part.startswith("`"):
            parts.append(f"<code>{escaped[1:-1]}</code>")
        elif part.startswith("$"):
            parts.append(f"\\({escaped[1:-1]}\\)")
        else:
            for pattern, tag in MARKUP:
                escaped = pattern.sub(tag, escaped)
            parts.append(escaped)
    return "".join(parts)


def write_pdf(book: Manifest, site: Path, out: Path) -> list[Path]:
    """pdf/*.pdf, a page of the site each, printed by the browser that is installed, and all of them with an outline in
    pdf/book.pdf where pypdf is. Returns what was written: nothing without a browser."""
    if not (program := find_browser()):
        return []
    pages = {"index": book.title}
    pages |= {f"chapters/{c.name}": f"{c.number:02d} {c.title}" for c in book.chapters}
    pages |= {f"appendix/{name}": name.capitalize() for name in book.appendices}
    parts = {}
    for name, title in tqdm(pages.items(), desc="pdf", file=sys.stdout):
        parts[title] = out / "pdf" / f"{Path(name).name}.pdf"
        _print_page(program, site / f"{name}.html", parts[title])
    joined = _join(parts, out / "pdf" / "book.pdf", book.title)
    return [*parts.values(), *joined]


def _print_page(program: str, page: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    for _ in range(2):  # on a busy machine a browser may end before it has begun
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
            command = [program, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
            command += ["--no-pdf-header-footer", "--virtual-time-budget=10000", f"--print-to-pdf={target}"]
            subprocess.run([*command, page.as_uri()], capture_output=True, check=False, timeout=300)
        if target.exists():
            return
    raise ValueError(f"{program} couldn't print {page}")


def _join(parts: dict[str, Path], target: Path, title: str) -> list[Path]:
    """[target] with all parts, an entry of its outline for each; [] without pypdf."""
    try:
        from pypdf import PdfWriter
    except ImportError:
        return []
    with PdfWriter() as whole:
        for name, part in parts.items():
            whole.append(part, outline_item=name, import_outline=False)
        whole.add_metadata({"/Title": title})
        whole.write(target)
    return [target]


def write_texts(lessons: list[Lesson], out: Path) -> None:
    """equations.tex and cards.tsv."""
    write_text(out / "equations.tex", equations_tex(lessons))
    write_text(out / "cards.tsv", cards_tsv(lessons))
