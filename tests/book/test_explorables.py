"""The moving figures: their numbers are NumPy's, and their buttons and sliders do what they say, on any width."""

import json
import re

import numpy as np
import pytest

from reference.book.manifest import ROOT
from reference.checkpoints.published import published_config
from reference.equations import delta_step, gated_delta_step, hebbian_step, kda_step, read
from reference.model.costs import bytes_of_cache
from tools import explorables
from tools.measure_page import browser, find_browser
from tools.site_cells import EXPLORABLE, EXPLORABLE_SCRIPTS, explorable_html

SCRIPTS = ROOT / "site" / "_static" / "explore"
NAMES = ("state", "triangle", "cache", "select", "rotate")
CLOSE = 1e-9
PAGE = (
    '<!doctype html><html lang="en"><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width, initial-scale=1">'
    "<style>:root {{ --pst-color-primary: #0a5; --pst-color-text-base: #000 }}</style></head>"
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
    frames = (ROOT / "figures" / "frames").as_uri()
    marks = [f"<!--explorable {name}: A caption.-->\n\n![Frames.]({frames}/{name}.png)" for name in NAMES]
    figures = "".join(EXPLORABLE.sub(explorable_html, mark) for mark in marks)
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
        ("kda", lambda S, k, v: kda_step(S, k, v, np.log([0.5, 0.9, 0.5, 0.2]), 0.8)),
    ):
        press(tab, "state", "restart")
        choose(tab, rule)
        slide(tab, "state", 0, 0.8)
        if rule == "gated":
            slide(tab, "state", 1, 0.5)
        if rule == "kda":
            slide(tab, "state", 2, 0.9)
            slide(tab, "state", 4, 0.2)
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


@pytest.mark.parametrize(("cosine", "beta"), [(0.6, 0.5), (0.95, 1.0), (0.0, 0.3)])
def test_the_triangle_is_filled_row_by_row(tab, cosine, beta):
    slide(tab, "triangle", 0, cosine)
    slide(tab, "triangle", 1, beta)
    press(tab, "triangle", "all")
    A = np.tril(beta * np.full((5, 5), cosine), -1)
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
    assert [row[0] for row in short] == [row[0] for row in long] and len(long) == len(explorables.MODELS)
    units = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
    for T, rows in ((2**10, short), (2**20, long)):
        for family, row in zip(explorables.MODELS, rows, strict=True):
            state, cache, both = (float(x.split()[0]) * units[x.split()[1]] for x in row)
            assert both == pytest.approx(bytes_of_cache(published_config(family), T), rel=0.01)
            assert state + cache == pytest.approx(both, rel=0.01)


def test_the_selection_reads_k_tokens_and_never_a_later_one(tab):
    slide(tab, "select", 0, 3)
    tab.value("document.querySelector('[data-name=select] [data-token=\"8\"]').click()")
    script = "[...document.querySelectorAll('[data-name=select] button.read')].map((b) => Number(b.dataset.token))"
    chosen = tab.value(script)
    assert 2 <= len(chosen) <= 3 and max(chosen) <= 8
    assert not tab.value("document.querySelectorAll('[data-name=select] button.later.read').length")
    scores = explorables.selection()["scores"]
    for k in (1, 4, 12):
        slide(tab, "select", 0, k)
        for query, row in enumerate(scores):
            tab.value(f"document.querySelector('[data-name=select] [data-token=\"{query}\"]').click()")
            marked = (
                "[...document.querySelectorAll('[data-name=select] button')].map((b) => b.getAttribute('aria-label'))"
            )
            read_ones = [i for i, words in enumerate(tab.value(marked)) if ": read, score" in words]
            best = np.sort(np.argsort(-np.array(row[: query + 1]), kind="stable")[:k])  # of equal ones the earlier
            assert read_ones == [i for i in best if i != query], (k, query)


def test_the_query_keeps_the_focus(tab):
    tab.value("document.querySelector('[data-name=select] [data-token=\"11\"]').click()")
    assert tab.value("document.activeElement.dataset.token") == "11"


def test_moving_both_positions_keeps_the_product(tab):
    product = (
        "document.querySelector('[data-name=rotate] .explorable-said').textContent.match(/product is ([^ ]+?)\\. /)[1]"
    )
    first = tab.value(product)
    for _ in range(3):
        press(tab, "rotate", "next")
    assert tab.value(product) == first
    positions = "[...document.querySelectorAll('[data-name=rotate] output')].map((e) => Number(e.textContent))"
    m, n, turn = tab.value(positions)
    assert (m, n) == (9, 5) and f"q turned by {m} × {turn:.2f}, k by {n}" in tab.value(
        "document.querySelector('[data-name=rotate] .explorable-said').textContent"
    )
    slide(tab, "rotate", 1, 2)
    assert tab.value(product) != first
    for m, n, turn in ((9, 2, 0.3), (20, 0, 0.05), (13, 4, 1.0)):
        for slider, value in enumerate((m, n, turn)):
            slide(tab, "rotate", slider, value)
        k = 0.8 + 0.6j
        wanted = (np.exp(1j * m * turn) * np.conj(k * np.exp(1j * n * turn))).real
        assert float(tab.value(product).replace("−", "-")) == pytest.approx(wanted, abs=0.00051)
    press(tab, "rotate", "next")
    slide(tab, "rotate", 0, 20)
    press(tab, "rotate", "next")
    assert tab.value(positions)[0] == 20  # neither leaves its slider


KEYS = {"Tab": 9, "Enter": 13, " ": 32, "ArrowRight": 39, "ArrowDown": 40, "ArrowLeft": 37}


def strike(tab, key: str, times: int = 1) -> None:
    """Press a key of the keyboard."""
    about = {"key": key, "code": "Space" if key == " " else key, "windowsVirtualKeyCode": KEYS[key]}
    text = {"Enter": "\r", " ": " "}.get(key)
    for _ in range(times):
        tab.call("Input.dispatchKeyEvent", type="keyDown", **about, **({"text": text} if text else {}))
        tab.call("Input.dispatchKeyEvent", type="keyUp", **about)


@pytest.mark.parametrize("width", [1400, 390])
def test_everything_can_be_done_with_the_keyboard_alone(tab, width):
    tab.width(width)
    tab.open(tab.value("location.href"))
    focused = "document.activeElement"
    where = f"{focused}.closest('.explorable')?.dataset.name"
    seen = []
    for _ in range(80):
        strike(tab, "Tab")
        if (name := tab.value(where)) is None:
            break
        seen.append(name)
        outline = tab.value(f"getComputedStyle({focused}).outlineStyle + getComputedStyle({focused}).outlineWidth")
        assert outline == "solid3px", (name, outline)
        match tab.value(f"{focused}.type"), tab.value(f"{focused}.dataset.do"):
            case "radio", _ if name == "state":
                strike(tab, "ArrowRight")  # the next rule, key, colour
            case "button", "write" | "all":
                strike(tab, " ")
            case "button", "next" if name == "rotate":
                strike(tab, "Enter", 2)
            case "range", _:
                strike(tab, "ArrowLeft")
            case "button", None if tab.value(f"{focused}.dataset.token") == "8":
                strike(tab, "Enter")
    assert list(dict.fromkeys(seen)) == list(NAMES)
    half = np.eye(4)[1]  # the keys: gated delta, B, sky; beta and what is kept at 0.95 and 0.85
    S = gated_delta_step(np.zeros((4, 3)), half, np.array([0.3, 0.7, 0.9]), np.log(0.85), 0.95)
    assert np.abs(table(tab, "state") - S).max() <= 0.0051
    filled = "[...document.querySelectorAll('[data-name=triangle] table td[style]')].map((e) => e.textContent)"
    assert len(tab.value(filled)) == 10 + 15 and float(tab.value(filled)[0]) == pytest.approx(0.95 * 0.45, abs=0.0051)
    said = {n: tab.value(f"document.querySelector('[data-name={n}] .explorable-said')?.textContent") for n in NAMES}
    assert "asked for: (0.30, 0.70, 0.90)" in said["state"] and said["triangle"].startswith("x5 = e5")
    assert "16,384 tokens" in tab.value("document.querySelector('[data-name=cache] caption').textContent")
    assert said["select"].startswith("The token “dog” reads 3 of 9") and "q turned by 7" in said["rotate"]
    assert tab.errors == []
    tab.width(1400)


def test_paper_shows_the_frames_and_nothing_that_moves(tab):
    seen = """[...document.querySelectorAll(".explorable > *, .explorable-still img")]
        .filter((e) => e.getBoundingClientRect().height > 40).map((e) => e.className || e.localName)"""
    assert set(tab.value(seen)) == {"div"}
    tab.call("Emulation.setEmulatedMedia", media="print")
    assert tab.value(seen) == ["explorable-still", "img"] * len(NAMES)
    tab.call("Emulation.setEmulatedMedia", media="")


def test_everything_has_a_name_and_nothing_is_wider_than_a_phone(tab):
    nameless = """[...document.querySelectorAll(".explorable :is(button, input)")].filter((e) =>
        !(e.textContent.trim() || e.getAttribute("aria-label") || e.closest("label")?.textContent.trim())).length"""
    assert tab.value(nameless) == 0
    assert tab.value("document.querySelectorAll('.explorable [tabindex=\"-1\"]').length") == 0
    tab.width(360)  # a chapter's page has wider margins than this one: 390 there
    tab.open(tab.value("location.href"))
    press(tab, "triangle", "all")
    wide = """[...document.querySelectorAll(".explorable *")].filter((e) => e.getBoundingClientRect().right > 360)
        .filter((e) => !e.closest("table")).map((e) => e.outerHTML.slice(0, 80))"""
    assert tab.value(wide) == [] and tab.value("document.documentElement.scrollWidth") <= 360
    matrix = "[...document.querySelectorAll('.explorable-matrix')].map((e) => e.getBoundingClientRect().right)"
    assert max(tab.value(matrix)) <= 360 - 8 - 17  # the body's margin, the figure's padding and border
    bars = "[...document.querySelectorAll('[data-name=cache] td.bar')].map((e) => e.getBoundingClientRect())"
    assert tab.value(f"{bars}.filter((box) => box.width > 200 && box.right <= 360).length") == 6
    tab.width(1400)
    assert tab.errors == []
