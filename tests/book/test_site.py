"""The site is built without a warning, asks no other host for anything, and its links lead somewhere."""

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.book.rules import BOOK, cells
from tools import build_site

LOADING = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src", "object": "data"}


class Page(HTMLParser):
    """Collects what a page loads, links to, and can be linked at."""

    def __init__(self, text: str):
        super().__init__()
        self.loads, self.links, self.ids, self.images = [], [], set(), []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attrs = dict(attributes)
        self.ids |= {value for name, value in attrs.items() if name in ("id", "name") and value}
        if tag in LOADING and attrs.get(LOADING[tag]) and attrs.get("rel") not in ("next", "prev", "canonical"):
            self.loads.append(attrs[LOADING[tag]])
        if tag == "a" and attrs.get("href"):
            self.links.append(attrs["href"])
        if tag == "img":
            self.images.append(attrs)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    return build_site.build(tmp_path_factory.mktemp("site")).parent


@pytest.fixture(scope="module")
def pages(site) -> dict[Path, Page]:
    paths = [path for path in site.rglob("*.html") if "_static" not in path.parts]
    return {path: Page(path.read_text(encoding="utf-8")) for path in paths}


def test_every_chapter_and_appendix_has_its_page(site):
    chapters, appendices = (
        [f"chapters/{c.name}" for c in BOOK.chapters],
        [f"appendix/{name}" for name in BOOK.appendices],
    )
    wanted = ["index", *chapters, *appendices]
    assert not [name for name in ["index", *wanted] if not (site / f"{name}.html").exists()]


def test_no_page_loads_anything_from_another_host(site, pages):
    for path, page in pages.items():
        outside = [url for url in page.loads if re.match(r"(https?:)?//", url)]
        assert not outside, f"{path.name} loads {outside}"
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*[\"']?(https?:)?//", sheet.read_text(encoding="utf-8")), sheet


def test_every_inner_link_leads_to_a_page_and_an_anchor(site, pages):
    dead = []
    for path, page in pages.items():
        for link in page.links:
            if re.match(r"[a-z]+:", link):
                continue
            target, _, anchor = unquote(link).partition("#")
            aim = (path.parent / target).resolve() if target else path
            if not aim.exists() or (anchor and aim in pages and anchor not in pages[aim].ids):
                dead.append(f"{path.name}: {link}")
    assert not dead, dead


def test_every_figure_is_shown_with_its_alternative_text(site, pages):
    for chapter in BOOK.chapters:
        page = pages[site / "chapters" / f"{chapter.name}.html"]
        figures = [o for c in cells(chapter, "code") for o in c.outputs if "image/png" in o.get("data", {})]
        shown = [image for image in page.images if image["src"].endswith(".svg") and "_images" in image["src"]]
        assert len(shown) == len(figures)
        assert all(len(image.get("alt", "")) > 20 and not image["alt"].endswith(".svg") for image in shown)


def test_equations_are_numbered_and_references_to_them_are_links(site, pages):
    for chapter in BOOK.chapters[1:]:
        html = (site / "chapters" / f"{chapter.name}.html").read_text(encoding="utf-8")
        assert f"\\tag{{{chapter.number}.1}}" in html
        assert f'href="#eq-{chapter.number}-' in html


def test_solutions_are_folded_and_the_notebook_can_be_had(site):
    for chapter in BOOK.chapters:
        html = (site / "chapters" / f"{chapter.name}.html").read_text(encoding="utf-8")
        solutions = [cell for cell in cells(chapter, "code") if "solution" in cell.metadata.get("tags", [])]
        assert html.count("Show the solution") >= len(solutions) > 0
        assert f"../notebooks/{chapter.notebook.name}" in html
        original = chapter.notebook.read_text(encoding="utf-8")
        assert (site / "notebooks" / chapter.notebook.name).read_text(encoding="utf-8") == original


@pytest.mark.parametrize(
    ("text", "linked"),
    [
        ("by (2.1).", 'by <a href="#eq-2-1">(2.1)</a>.'),
        ("by (1.3)", 'by <a href="01_x.html#eq-1-3">(1.3)</a>'),
        ("`f(2.1)` and $g(2.1)$ and (7.1)", "`f(2.1)` and $g(2.1)$ and (7.1)"),
    ],
)
def test_equation_references_are_linked_in_prose_only(text, linked):
    assert build_site.link_equations(text, 2, {1: "01_x", 2: "02_y"}) == linked


def test_a_missing_chapter_stops_the_build_with_a_sentence(tmp_path, monkeypatch):
    missing = BOOK.chapters[0]._replace(name="00_nowhere")
    with pytest.raises(SystemExit, match=r"book\.yml names the chapter 00_nowhere"):
        build_site.stage(BOOK._replace(chapters=[missing]), tmp_path / "source")
