"""What a code cell of a chapter becomes on the site: figures with captions, folded drawings, no markers.

All of it happens on the staged copy (tools/build_site.py); the notebooks stay as they are.
"""

import ast
import html
import re

import nbformat

from reference.book.manifest import ROOT

FIGURE = re.compile(r"Figure (?P<name>\d\d_\w+): .*\n(?P<alt>.*)")
EXPLORABLE = re.compile(  # and, in a chapter, the line below it: the frames that a notebook shows (tools/frames.py)
    r"(?P<mark><!--explorable (?P<name>\w+): (?P<caption>[^<]*)-->)(?:\n\n!\[(?P<alt>[^\]]*)\]\((?P<frames>[^)\s]+)\))?"
)
EXPLORABLE_SCRIPTS = ("explore", "rules", "data", "state", "triangle", "cache", "select", "rotate")  # in this order
MARKER = re.compile(r"^[ \t]*### (BEGIN|END) SOLUTION\n?", re.M)
PARENTHESES = re.compile(r'alt=\(\s*"\.\.\."\s*\)')
OWN_LINE = re.compile(r',\n +(alt="\.\.\.")')
SIZE = re.compile(r'width="(?P<width>[\d.]+)pt"')
GLYPHS = re.compile(r"scale\((0\.\d+) ")  # Matplotlib draws a label of 7.5 pt as outlines, scaled by 0.075
LEGIBLE = 6.6  # pixels: a narrow window may shrink labels to this size; from there on the figure scrolls sideways


def explorable_html(match: re.Match) -> str:
    """The place of a moving figure on the page; without scripts, and on paper, it shows the stored frames, if the text
    has them."""
    still = f'<img src="{match["frames"]}" alt="{html.escape(match["alt"])}">' if match["frames"] else ""
    paper = f'<div class="explorable-still">{still}</div>' if still else ""
    return (
        f'<figure class="explorable" data-name="{match["name"]}">{paper}<figcaption>{html.escape(match["caption"])}'
        f" <noscript>This figure needs JavaScript.{still}</noscript></figcaption></figure>"
    )


def stage_code(cell: nbformat.NotebookNode, chapter: int, drawn: int) -> int:
    """Change cell in place; drawn counts the chapter's figures so far. Returns the new count."""
    extras = cell.metadata.setdefault("mystnb", {})
    tags = cell.metadata.get("tags", [])
    if "solution" in tags:
        extras |= {"code_prompt_show": "Show the solution", "code_prompt_hide": "Hide the solution"}
    elif cell.metadata.get("name", "").startswith("answer-"):
        extras |= {"code_prompt_show": "Show the run behind the answer", "code_prompt_hide": "Hide the run"}
    elif only_draws(cell.source):
        extras |= {"code_prompt_show": "Show the plotting code", "code_prompt_hide": "Hide the plotting code"}
        cell.metadata["tags"] = [*tags, "hide-input"]
    cell.source = MARKER.sub("", short_alt(cell.source)).rstrip()
    for output in cell.outputs:
        if figure := FIGURE.match(output.get("data", {}).get("text/plain", "")):
            drawn += 1
            output.data = {"text/html": figure_html(figure["name"], figure["alt"], f"{chapter}.{drawn}")}
    return drawn


def only_draws(source: str) -> bool:
    """A cell that shows a figure and neither prints nor defines something: the picture says what it has to say."""
    return "show_figure(" in source and not re.search(r"\bprint\(|\bshow\(|^\s*(def|class) ", source, re.M)


def short_alt(source: str) -> str:
    """The code with alt="..." for every alternative text of a figure: the words stand below the figure."""
    if "show_figure(" not in source:
        return source
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    texts = [k.value for c in calls if getattr(c.func, "id", "") == "show_figure" for k in c.keywords if k.arg == "alt"]
    lines = source.encode().splitlines(keepends=True)  # ast counts columns in bytes
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    code = source.encode()
    for text in sorted(texts, key=lambda node: node.lineno, reverse=True):
        begin = starts[text.lineno - 1] + text.col_offset
        end = starts[text.end_lineno - 1] + text.end_col_offset
        code = code[:begin] + b'"..."' + code[end:]
    return OWN_LINE.sub(r", \1", PARENTHESES.sub('alt="..."', code.decode()))


def figure_html(name: str, alt: str, number: str = "", root: str = "../") -> str:
    """A figure with its caption and an anchor; a click opens the picture by itself.

    number  "4.1" in a chapter; without one the caption has no number
    root    the way from the page to the site's first folder
    """
    svg = (ROOT / "figures" / f"{name}.svg").read_text(encoding="utf-8")
    points, labels = float(SIZE.search(svg)["width"]), [100 * float(scale) for scale in GLYPHS.findall(svg)]
    smallest = min((size for size in labels if size >= LEGIBLE), default=10)  # below that are exponents and indices
    least = round(points * LEGIBLE / smallest)
    words, address = html.escape(alt), f"{root}figures/{name}.svg"
    numbered = f'<a class="number" href="#fig-{name}">Figure {number}:</a> ' if number else ""
    return (
        f'<figure class="book-figure" id="fig-{name}"><a href="{address}" title="Open the figure by itself">'
        f'<img src="{address}" alt="{words}" style="min-width: {least}px" loading="lazy"></a>'
        f"<figcaption>{numbered}{words}</figcaption></figure>"
    )
