"""The site is built without a warning, asks no other host for anything, and its links lead somewhere."""

import json
import re
import runpy
from html import escape, unescape
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import nbformat
import pytest
from pybtex.database import parse_file

from reference.book.manifest import ROOT
from tests.book.rules import BOOK, cells, outputs, prose
from tools import build_site, measure_page, site_cells
from tools.chapters import downloadable, read_notebook
from tools.references import BIB, cited_keys, label

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


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


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


def test_everything_that_a_page_loads_is_there(pages):
    for path, page in pages.items():
        missing = [
            url for url in page.loads if url != "#" and not (path.parent / unquote(url.partition("?")[0])).exists()
        ]
        assert not missing, f"{path.name} loads {missing}"


def figures(chapter) -> list[tuple[str, str]]:
    """Name and alternative text of a chapter's figures, in order, as the notebook's outputs say."""
    words = [o.data["text/plain"] for _, o in outputs(chapter) if "image/png" in o.get("data", {})]
    return [(text.split(":")[0].removeprefix("Figure "), text.split("\n")[1]) for text in words]


def test_every_figure_has_an_anchor_a_number_a_caption_and_its_alternative_text(site, pages):
    for chapter in BOOK.chapters:
        path = site / "chapters" / f"{chapter.name}.html"
        shown = re.findall(r'<figure class="book-figure" id="fig-(\w+)">.*?<figcaption>(.*?)</figcaption>', read(path))
        captions = [(name, unescape(re.sub(r"<[^>]*>", "", caption))) for name, caption in shown]
        wanted = figures(chapter)
        assert captions == [(n, f"Figure {chapter.number}.{i}: {alt}") for i, (n, alt) in enumerate(wanted, start=1)]
        images = [image for image in pages[path].images if re.match(r"\.\./figures/\d", image["src"])]
        assert [image["alt"] for image in images] == [alt for _, alt in wanted]


def test_labels_of_a_figure_stay_legible_on_a_phone():
    assert 450 < least_width("07_attention") < 600  # small labels: this diagram scrolls on a phone
    assert least_width("02_stream") < 350  # large ones: this figure fits


def least_width(name: str) -> int:
    return int(re.search(r"min-width: (\d+)px", site_cells.figure_html(name, "words"))[1])


def test_cells_that_only_draw_are_folded_and_their_figure_is_not(site):
    for chapter in BOOK.chapters:
        html = read(site / "chapters" / f"{chapter.name}.html")
        sources = [cell.source for cell in cells(chapter, "code")]
        drawing = [
            s for s in sources if "show_figure(" in s and "print(" not in s and not re.search(r"^ *def ", s, re.M)
        ]
        assert html.count("Show the plotting code") == len(drawing)
        folded = re.findall(r"<details.*?</details>", html, re.S)
        assert not [block for block in folded if "book-figure" in block]


@pytest.mark.parametrize(
    ("source", "folded"),
    [
        ('show_figure(fig, "a", alt="b")', True),
        ('print(1)\nshow_figure(fig, "a", alt="b")', False),
        ('show(f)\nshow_figure(fig, "a", alt="b")', False),
        ('def f():\n    pass\nshow_figure(fig, "a", alt="b")', False),
        ("plt.plot(x)", False),
    ],
)
def test_a_cell_that_prints_or_defines_stays_open(source, folded):
    assert site_cells.only_draws(source) == folded


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ('show_figure(fig, "a", alt="some words")', 'show_figure(fig, "a", alt="...")'),
        (
            'show_figure(fig, "a",\n            alt="some "\n                "words")',
            'show_figure(fig, "a", alt="...")',
        ),
        (
            'β = 1; show_figure(f, "ä", alt=("ü"\n  "v"), timing=True)\nx = 1',
            'β = 1; show_figure(f, "ä", alt="...", timing=True)\nx = 1',
        ),
        ('other(alt="kept")', 'other(alt="kept")'),
    ],
)
def test_alternative_texts_are_left_out_of_the_code_shown(source, shown):
    assert site_cells.short_alt(source) == shown


def test_the_code_shown_is_the_chapters_code_and_has_no_markers(site):
    for chapter in BOOK.chapters:
        html = read(site / "chapters" / f"{chapter.name}.html")
        blocks = re.findall(r'<div class="cell_input.*?<pre>(.*?)</pre>', html, re.S)
        shown = [unescape(re.sub(r"<[^>]*>", "", block)).strip() for block in blocks]
        markers = re.compile(r"^ *### (?:BEGIN|END) SOLUTION\n?", re.M)
        wanted = [markers.sub("", site_cells.short_alt(cell.source)).strip() for cell in cells(chapter, "code")]
        assert shown == wanted
        assert "### BEGIN" not in html


def test_equations_are_numbered_and_references_to_them_are_links(site):
    for chapter in BOOK.chapters[1:]:
        html = read(site / "chapters" / f"{chapter.name}.html")
        numbers = re.findall(r"\\tag\{(\d+\.\d+)\}", prose(chapter))
        assert re.findall(r'<span class="equation-number">\((.*?)\)</span>', html) == numbers
        assert re.findall(r'<div class="equation" id="eq-(.*?)">', html) == [n.replace(".", "-") for n in numbers]
        assert f'href="#eq-{chapter.number}-' in html


def test_solutions_are_folded_and_the_notebook_can_be_had(site):
    for chapter in BOOK.chapters:
        html = read(site / "chapters" / f"{chapter.name}.html")
        solutions = [cell for cell in cells(chapter, "code") if "solution" in cell.metadata.get("tags", [])]
        assert html.count("Show the solution") >= len(solutions) > 0
        assert f"../notebooks/{chapter.notebook.name}" in html
        had = nbformat.read(site / "notebooks" / chapter.notebook.name, as_version=4)
        wanted = downloadable(read_notebook(chapter), BOOK.repository or None)
        assert [cell.source for cell in had.cells] == [cell.source for cell in wanted.cells]
        assert "jupytext" not in had.metadata


def test_the_bibliography_has_the_chapters_labels_and_links_back(site):
    entries = parse_file(str(BIB), bib_format="bibtex").entries
    html = read(site / "appendix" / "bibliography.html")
    for key, entry in entries.items():
        assert f'<a id="{key}"></a><strong>{escape(label(entry))}.</strong>' in html, key
    for chapter in BOOK.chapters:
        text = prose(chapter)
        for words, key in re.findall(r"\[([^\]\[]+ \d{4})\]\(#([\w-]+)\)", text):
            assert words == label(entries[key]), (
                f"{chapter.name} cites {key} as {words!r}; its label is {label(entries[key])!r}"
            )
        for key in cited_keys(text):
            assert f'<a href="../chapters/{chapter.name}.html#{key}">' in html, (
                f"no way back from {key} to {chapter.name}"
            )


def test_the_glossary_speaks_of_planned_chapters_only_while_there_are_some():
    assert BOOK.planned or "planned" not in (ROOT / "appendix" / "glossary.md").read_text(encoding="utf-8")


def test_every_page_says_what_it_is(site, pages):
    for path in pages:
        html = read(path)
        for name in ('name="description"', 'name="author"', 'property="og:title"', 'property="og:description"'):
            assert re.search(rf'<meta {name} content="[^"]+"', html), f"{path.name}: no {name}"
        assert "favicon.svg" in html
    for chapter in BOOK.chapters:
        assert escape(chapter.question) in read(site / "chapters" / f"{chapter.name}.html").partition("</head>")[0]


def test_the_first_page_shows_the_book(site):
    html = read(site / "index.html")
    assert f"<title>{BOOK.title}</title>" in re.sub(r"\s*(</?title>)\s*", r"\1", html)
    assert BOOK.title not in re.search(r"<nav.*?</nav>", html, re.S)[0], "the side bar has it in its head"
    assert html.count('<figure class="book-figure"') >= 2
    assert "<!--" not in re.search(r"<article.*?</article>", html, re.S)[0], (
        "a comment of site/index.md was not replaced"
    )
    for chapter in BOOK.chapters:
        assert all(escape(words) in html for words in (chapter.question, ", ".join(chapter.needs)))


@pytest.mark.parametrize("address", ["", "https://example.org/owner/name"])
def test_the_repository_is_linked_where_book_yml_names_one(monkeypatch, address):
    named = BOOK._replace(repository=address)
    monkeypatch.setattr("reference.book.manifest.read_manifest", lambda: named)
    options = runpy.run_path(str(ROOT / "site" / "conf.py"))["html_theme_options"]
    assert options.get("repository_url", "") == address
    assert options.get("use_repository_button", False) == bool(address)
    assert (address in build_site.stage_front("<!--code-->", named)) and bool(
        build_site.stage_front("<!--code-->", named)
    ) == bool(address)


def test_tables_of_sentences_are_marked_and_others_are_not():
    short, sentence = "| a | b |\n|---|---|\n| a few words | and a few more of them |\n", "word " * 30
    assert build_site.stack_tables(short) == short
    marked = build_site.stack_tables(f"| a | b's |\n|---|---|\n| 1 | {sentence} |\n")
    assert marked.startswith('<div class="prose-table" style="--column-2: \'b&#x27;s: \'">')


def test_every_column_of_a_stacked_table_has_its_name_on_a_phone(site, pages):
    styles = read(ROOT / "site" / "_static" / "book.css")
    named = {int(n) for page in pages for n in re.findall(r"--column-(\d+):", read(page))}
    shown = {int(n) for n in re.findall(r"td:nth-child\((\d+)\)::before \{ content: var\(--column-\1\)", styles)}
    assert max(named) >= 6 and named <= shown


def test_search_reads_its_excerpts_from_a_script(site, pages):
    html = read(site / "search.html")
    scripts = [html.index(name) for name in ("search_texts.js", "search_offline.js", "searchtools.js")]
    assert scripts == sorted(scripts)
    texts = json.loads(read(site / "_static" / "search_texts.js").removeprefix("window.searchTexts = ").rstrip(";\n"))
    for chapter in BOOK.chapters:
        text = texts[f"chapters/{chapter.name}.html"]
        assert unescape(text).count("<section") > 5 and "Exercise" in text and 'id="references"' in text
    assert "fetch(requestUrl)" in read(site / "_static" / "searchtools.js"), "Sphinx now asks for pages in another way"


def test_nothing_is_cut_in_a_browser(site):
    """The worst pages at two widths; `python -m tools.measure_page` looks at all of them at three."""
    if not (program := measure_page.find_browser()):
        pytest.skip("no Chromium or Chrome on the PATH: the pages can't be measured here")
    names = [
        "index",
        "appendix/evidence",
        "chapters/02_a_matrix_as_memory",
        "chapters/04_chunks",
        "chapters/07_the_two_blocks",
    ]
    assert measure_page.report(site, [site / f"{name}.html" for name in names], [390, 1400], program)


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
