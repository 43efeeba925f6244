"""What is done to the site's pages after Sphinx has written them.

Lines of code get a hanging indent, so that a line that has to wrap still reads as one line; the search page gets
the texts that it quotes as a script, because a browser lets no page read another one from disk.
"""

import json
import re
from pathlib import Path

CODE = re.compile(r'(<div class="highlight"><pre>(?:<span></span>)?)(?P<code>.*?)(</pre></div>)', re.S)
TAG = re.compile(r"<[^>]*>")
ARTICLE = re.compile(r'<article class="bd-article">(.*?)</article>', re.S)
UNREAD = re.compile(
    r'<(script|style|figure)\b.*?</\1>|<div class="math\b.*?</div>|<a class="headerlink".*?</a>|<!--.*?-->', re.S
)
SECTION = re.compile(r"</?section\b[^>]*>|<h\d\b[^>]*>|</(p|h\d|li|td|pre)>")
SEARCH = '<script src="_static/searchtools.js'


def finish(site: Path) -> None:
    """Change every page below site in place and add the search's texts."""
    texts = {}
    for path in sorted(site.rglob("*.html")):
        if "_static" in path.parts:
            continue
        page = path.read_text(encoding="utf-8")
        if article := ARTICLE.search(page):
            texts[path.relative_to(site).as_posix()] = f'<div role="main">{plain(article[1])}</div>'
        path.write_text(CODE.sub(hang, page), encoding="utf-8")
    (site / "_static" / "search_texts.js").write_text(f"window.searchTexts = {json.dumps(texts)};\n", encoding="utf-8")
    search = site / "search.html"
    page = search.read_text(encoding="utf-8")
    if SEARCH not in page:
        raise ValueError(f"search.html: expected {SEARCH!r} in the page that Sphinx wrote; search can't quote pages")
    ours = "".join(f'<script src="_static/{name}.js"></script>\n    ' for name in ("search_texts", "search_offline"))
    if ours not in page:
        search.write_text(page.replace(SEARCH, ours + SEARCH, 1), encoding="utf-8")


def hang(block: re.Match) -> str:
    """The lines of a highlighted block, each in a span that knows its own indent (Pygments closes spans per line)."""
    if 'class="line"' in block["code"]:  # an older page that Sphinx had no reason to write again
        return block[0]
    lines = block["code"].split("\n")
    if lines[-1] == "":
        lines.pop()
    return (
        block[1]
        + "".join(f'<span class="line" style="--indent:{indent(li)}ch">{li}\n</span>' for li in lines)
        + block[3]
    )


def indent(line: str) -> int:
    text = TAG.sub("", line)
    return len(text) - len(text.lstrip(" "))


def plain(article: str) -> str:
    """The words of an article with its sections' anchors, for the search page's excerpts."""
    kept = SECTION.sub(
        lambda m: m[0] if "section" in m[0] else " ", UNREAD.sub(" ", article).replace("<section", "\0<section")
    )
    words = re.sub(r"<(?!/?section\b)[^>]*>", "", kept).replace("\0", " ")
    return re.sub(r"\s+", " ", words)
