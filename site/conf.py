"""How Sphinx turns the staged sources (tools/build_site.py) into the site."""

from reference.manifest import ROOT, read_manifest

book = read_manifest()
project, author = book.title, ", ".join(book.authors)
html_title = book.title
copyright = f"{author}. Text: CC BY 4.0; code: MIT"

extensions = [
    "myst_nb",
    "sphinx_external_toc",
    "sphinxcontrib.bibtex",
    "sphinx_copybutton",
    "sphinx-mathjax-offline",
]
external_toc_path = "toc.yml"
nb_execution_mode = "off"  # the notebooks hold the outputs that the tests compared
nb_merge_streams = True
nb_ipywidgets_js = {}  # no widgets, so no script from outside
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3
bibtex_bibfiles = [str(ROOT / "appendix" / "references.bib")]
bibtex_cite_id = "{key}"
copybutton_exclude = ".linenos, .gp, .go"

html_theme = "sphinx_book_theme"
html_static_path = ["_static"]
html_css_files = ["book.css"]
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "show_toc_level": 2,
    "use_download_button": False,  # each chapter links its own notebook, with outputs
    "use_fullscreen_button": False,
    "home_page_in_toc": True,
    "navbar_persistent": [],  # the side bar has the search field
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
suppress_warnings = ["myst.header"]  # the glossary goes from title to terms
mathjax3_config = {"tex": {"tags": "none"}}
