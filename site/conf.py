"""How Sphinx turns the staged sources (tools/build_site.py) into the site."""

import html
import subprocess
import tomllib

from reference.book.manifest import ROOT, read_manifest
from tools.site_cells import EXPLORABLE_SCRIPTS

book = read_manifest()
version = release = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
project, author = book.title, ", ".join(book.authors)
html_title = book.title
copyright = f"{author[0].lower() + author[1:] if author.startswith('The ') else author}"

extensions = [
    "myst_nb",
    "sphinx_external_toc",
    "sphinx_copybutton",
    "sphinx-mathjax-offline",
]
external_toc_path = "toc.yml"
nb_execution_mode = "off"  # the notebooks hold the outputs that the tests compared
nb_merge_streams = True
nb_ipywidgets_js = {}  # no widgets, so no script from outside
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3
copybutton_exclude = ".linenos, .gp, .go"


def last_change() -> str:
    """The day of the last commit, or nothing where this is no git checkout."""
    command = ["git", "log", "-1", "--format=%cs"]
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


html_theme = "sphinx_book_theme"
html_static_path = ["_static"]
html_favicon = "_static/favicon.svg"
html_css_files = ["book.css"]
html_js_files = ["fit_equations.js"]
html_copy_source = False
html_show_sourcelink = False
html_context = {"default_mode": "auto"}
html_theme_options = {
    "logo": {"text": book.title},
    "show_toc_level": 2,
    "use_download_button": False,  # each chapter links its own notebook, with outputs
    "use_fullscreen_button": False,
    "navbar_persistent": [],  # the side bar has the search field
    "footer_content_items": ["copyright.html", "extra-footer.html"],
    "extra_footer": f"Text: CC BY 4.0; code: MIT. Version {version}{', ' * bool(last_change())}{last_change()}.",
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
if book.repository:
    html_theme_options |= {"repository_url": book.repository, "use_repository_button": True}
suppress_warnings = ["myst.header"]  # the glossary goes from title to terms
mathjax3_config = {"tex": {"tags": "none"}}


def describe(app, page, template, context, doctree) -> None:
    """What search engines and previews of a link show: a chapter's question, else the book's description."""
    questions = {f"chapters/{chapter.name}": f"{chapter.title}. {chapter.question}" for chapter in book.chapters}
    title = book.title if page == "index" else f"{context.get('title', '')} · {book.title}"
    words = questions.get(page, " ".join(book.description.split()))
    tags = {"og:type": "book" if page == "index" else "article", "og:site_name": book.title, "og:title": title}
    lines = [f'<meta name="description" content="{html.escape(words)}"/>']
    lines += [f'<meta name="author" content="{html.escape(author)}"/>']
    for name, value in (tags | {"og:description": words}).items():
        lines.append(f'<meta property="{name}" content="{html.escape(value)}"/>')
    if page == "index":
        context["docstitle"] = ""  # or the browser's tab would have the title twice
    context["metatags"] = context.get("metatags", "") + "\n".join(lines)


def load_explorables(app, page, template, context, doctree) -> None:
    """Pages with a moving figure load its scripts; the others don't."""
    if 'class="explorable"' in context.get("body", ""):
        for name in EXPLORABLE_SCRIPTS:
            app.add_js_file(f"explore/{name}.js")
        app.add_css_file("explore/explore.css")


def setup(app) -> None:
    app.connect("html-page-context", describe)
    app.connect("html-page-context", load_explorables)
