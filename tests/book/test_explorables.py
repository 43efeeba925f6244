"""The moving figures: their numbers are NumPy's, and their buttons and sliders do what they say, on any width."""

import json
import re

import numpy as np
import pytest

from reference.book.manifest import ROOT
from reference.equations import delta_step, gated_delta_step, hebbian_step, read
from tools import explorables
from tools.measure_page import browser, find_browser
from tools.site_cells import EXPLORABLE, EXPLORABLE_SCRIPTS, explorable_html

SCRIPTS = ROOT / "site" / "_static" / "explore"
NAMES = ("state", "triangle", "cache", "select", "rotate")
CLOSE = 1e-9
PAGE = (
    '<!doctype html><html lang="en"><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width, initial-scale=1"></head>'
    '<body class="bd-article">{figures}{scripts}</body></html>'
)


def assert_close(found, wanted, path="data"):
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys(), path
        for key in wanted:
            assert_close(found[key], wanted[key], f"{path}.{key}")
    elif isinstance(wanted, list):
        assert len(found) == len(wanted), path
        for i, value in enumerate(wanted):
            assert_close(found[i], value, f"{path}[{i}]")
    elif isinstance(wanted, float):
        assert abs(found - wanted) <= CLOSE, path
    else:
        assert found == wanted, path


def test_the_stored_numbers_are_those_that_the_book_computes():
    assert_close(explorables.stored(), json.loads(json.dumps(explorables.compute())))


def test_every_mark_names_a_figure_and_every_figure_is_a_file():
    built = {re.search(r'explorables\.add\("(\w+)"', (SCRIPTS / f"{name}.js").read_text())[1] for name in NAMES}
    assert built == set(NAMES) and set(EXPLORABLE_SCRIPTS) == {path.stem for path in SCRIPTS.glob("*.js")}
    texts = [ROOT / "site" / "index.md", *(ROOT / "chapters" / "text").glob("*.md")]
    marks = [mark for path in texts for mark in re.findall(r"<!--explorable (\w+)", path.read_text(encoding="utf-8"))]
    complete = [m["name"] for path in texts for m in EXPLORABLE.finditer(path.read_text(encoding="utf-8"))]
    assert marks == complete and set(marks) <= set(NAMES) and "state" in marks


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    """A page with all figures, in a browser."""
    if not (program := find_browser()):
        pytest.skip("no Chromium or Chrome is installed")
    figures = "".join(EXPLORABLE.sub(explorable_html, f"<!--explorable {name}: A caption.-->") for name in NAMES)
    sources = [(SCRIPTS / f"{name}.js").as_uri() for name in EXPLORABLE_SCRIPTS]
    scripts = "".join(f'<script src="{source}"></script>' for source in sources)
    sheets = [(path / name).as_uri() for path, name in ((SCRIPTS.parent, "book.css"), (SCRIPTS, "explore.css"))]
    style = "".join(f'<link rel="stylesheet" href="{sheet}">' for sheet in sheets)
    page = tmp_path_factory.mktemp("page") / "page.html"
    page.write_text(PAGE.format(figures=style + figures, scripts=scripts), encoding="utf-8")
    with browser(program) as tab:
        tab.width(1400)
        tab.open(page.as_uri())
        yield tab


def test_the_rules_answer_the_transcript_as_numpy_does(tab):
    rules = explorables.compute()["rules"]
    script = """(() => {
      const one = (c) => ({read: rules.read(c.S, c.k), hebb: rules.hebb(c.S, c.k, c.v, c.beta),
        decayed: rules.hebb(rules.decay(c.S, c.factors), c.k, c.v, c.beta),
        delta: rules.step(c.S, {...c, rule: "delta"}), kda: rules.step(c.S, {...c, rule: "kda"}),
        gated: rules.step(c.S, {...c, rule: "gated", factors: c.factors.map(() => c.factors[0])})});
      const t = exploreData.rules.triangle, A = rules.triangle(t.keys, t.betas), X = [];
      while (X.length < A.length) X.push(rules.inverseRow(A, X));
      return {steps: exploreData.rules.steps.map(one), A, X,
        turned: exploreData.rules.turned.map((c) => rules.turn(c.pair, c.angle)),
        chosen: exploreData.selection.tokens.map((_, i) => rules.topK(exploreData.selection.scores[i], i + 1, 4))};
    })()"""
    found = tab.value(script)
    for answer, case in zip(found["steps"], rules["steps"], strict=True):
        assert_close(answer, {key: case[key] for key in answer})
    assert_close([found["A"], found["X"]], [rules["triangle"]["A"], rules["triangle"]["X"]])
    assert_close(found["turned"], [case["turned"] for case in rules["turned"]])
    assert found["chosen"] == explorables.compute()["selection"]["chosen"]


def press(tab, figure: str, do: str) -> None:
    tab.value(f"document.querySelector('[data-name={figure}] [data-do={do}]').click()")


def choose(tab, value: str) -> None:
    tab.value(f"document.querySelector('[data-name=state] input[value={value}]').click()")


def slide(tab, figure: str, n: int, value: float) -> None:
    tab.value(f"""(() => {{const s = document.querySelectorAll('[data-name={figure}] input[type=range]')[{n}];
        s.value = {value}; s.dispatchEvent(new Event("input", {{bubbles: true}}));}})()""")


def table(tab, figure: str, n: int = 0) -> np.ndarray:
    """The numbers of a matrix on the page."""
    script = f"""[...document.querySelectorAll('[data-name={figure}] table')[{n}].querySelectorAll("tr")]
        .map((row) => [...row.querySelectorAll("td[style]")].map((cell) => cell.textContent))
        .filter((row) => row.length)"""
    return np.array([[float(x.replace("−", "-")) for x in row] for row in tab.value(script)])


def test_written_colours_are_in_the_state_as_numpy_writes_them(tab):
    A, B, AB = np.eye(4)[0], np.eye(4)[1], np.sqrt(0.5) * (np.eye(4)[0] + np.eye(4)[1])
    orange, sky, green = np.array([0.9, 0.6, 0.0]), np.array([0.3, 0.7, 0.9]), np.array([0.0, 0.6, 0.5])
    writes = [("A", A, "orange", orange), ("B", B, "sky", sky), ("AB", AB, "green", green), ("A", A, "sky", sky)]
    for rule, step in (
        ("hebb", lambda S, k, v: hebbian_step(S, k, v, 0.8)),
        ("delta", lambda S, k, v: delta_step(S, k, v, 0.8)),
        ("gated", lambda S, k, v: gated_delta_step(S, k, v, np.log(0.5), 0.8)),
    ):
        press(tab, "state", "restart")
        choose(tab, rule)
        slide(tab, "state", 0, 0.8)
        if rule == "gated":
            slide(tab, "state", 1, 0.5)
        S, states = np.zeros((4, 3)), []
        for name, k, colour, v in writes:
            choose(tab, name)
            choose(tab, colour)
            press(tab, "state", "write")
            states.append(S)
            S = step(S, k, v)
            assert np.abs(table(tab, "state") - S).max() <= 0.0051, (rule, name)
        said = tab.value("document.querySelector('[data-name=state] tr[data-key=B]').textContent")
        returned = [float(x.replace("−", "-")) for x in re.findall(r"[−\d.]+\d", said)][:3]
        assert np.abs(np.array(returned) - read(S, B)).max() <= 0.0051
        press(tab, "state", "undo")
        assert np.abs(table(tab, "state") - states[-1]).max() <= 0.0051


def test_the_triangle_is_filled_row_by_row(tab):
    slide(tab, "triangle", 0, 0.6)
    slide(tab, "triangle", 1, 0.5)
    press(tab, "triangle", "all")
    A = np.tril(0.5 * np.full((5, 5), 0.6), -1)
    X = np.linalg.inv(np.eye(5) + A)
    script = """[...document.querySelectorAll("[data-name=triangle] table")[1].querySelectorAll("td[style]")]
        .map((cell) => Number(cell.textContent.replace("−", "-")))"""
    assert np.abs(np.array(tab.value(script)) - X[np.tril_indices(5)]).max() <= 0.0051
    press(tab, "triangle", "back")
    assert len(tab.value(script)) == 10


def test_the_cache_grows_and_the_state_does_not(tab):
    cells = """[...document.querySelectorAll("[data-name=cache] tr[data-model]")]
        .map((row) => [...row.querySelectorAll("td.number")].map((cell) => cell.textContent))"""
    slide(tab, "cache", 0, 10)
    short = tab.value(cells)
    slide(tab, "cache", 0, 20)
    long = tab.value(cells)
    models = explorables.stored()["models"]
    assert [row[0] for row in short] == [row[0] for row in long] and len(long) == len(models)
    assert long[0][1] == f"{models[0]['per_token'] * 2**20 / 2**30:.0f} GiB"


def test_the_selection_reads_k_tokens_and_never_a_later_one(tab):
    slide(tab, "select", 0, 3)
    tab.value("document.querySelector('[data-name=select] [data-token=\"8\"]').click()")
    script = "[...document.querySelectorAll('[data-name=select] button.read')].map((b) => Number(b.dataset.token))"
    chosen = tab.value(script)
    assert 2 <= len(chosen) <= 3 and max(chosen) <= 8
    assert not tab.value("document.querySelectorAll('[data-name=select] button.later.read').length")


def test_moving_both_positions_keeps_the_product(tab):
    product = (
        "document.querySelector('[data-name=rotate] .explorable-said').textContent.match(/product is ([^ ]+?)\\. /)[1]"
    )
    first = tab.value(product)
    slide(tab, "rotate", 2, 9)
    assert tab.value(product) == first
    slide(tab, "rotate", 1, 5)
    assert tab.value(product) != first


def test_everything_has_a_name_and_nothing_is_wider_than_a_phone(tab):
    nameless = """[...document.querySelectorAll(".explorable :is(button, input)")].filter((e) =>
        !(e.textContent.trim() || e.getAttribute("aria-label") || e.closest("label")?.textContent.trim())).length"""
    assert tab.value(nameless) == 0
    assert tab.value("document.querySelectorAll('.explorable [tabindex=\"-1\"]').length") == 0
    tab.width(390)
    tab.open(tab.value("location.href"))
    wide = """[...document.querySelectorAll(".explorable *")].filter((e) => e.getBoundingClientRect().right > 390)
        .filter((e) => !e.closest("table")).map((e) => e.outerHTML.slice(0, 80))"""
    assert tab.value(wide) == [] and tab.value("document.documentElement.scrollWidth") <= 390
    matrix = "[...document.querySelectorAll('.explorable-matrix')].map((e) => e.getBoundingClientRect().right)"
    assert max(tab.value(matrix)) <= 390
    bars = "[...document.querySelectorAll('[data-name=cache] td.bar')].map((e) => e.getBoundingClientRect())"
    assert tab.value(f"{bars}.filter((box) => box.width > 200 && box.right <= 390).length") == 6
    tab.width(1400)
    assert tab.errors == []
