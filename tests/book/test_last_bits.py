"""No output rests on the last bits of a sum, where processors differ: shown on the chapters in NumPy.

`make everywhere` shows the same for all chapters, under more seeds and other kernels; it takes hours.
"""

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from tests.book.rules import BOOK
from tools.everywhere import KINDS, compare, differences, execute, table
from tools.last_bits import VARIABLE

NOISE = {VARIABLE: "1"}
CHEAP = (1, 2, 3)  # seconds each; all of their ties and edges are in plain sight


@pytest.mark.parametrize("chapter", [c for c in BOOK.chapters if c.number in CHEAP], ids=lambda c: c.name)
def test_a_chapter_prints_the_same_whatever_the_last_bits_are(chapter):
    assert compare(chapter.notebook, NOISE) == []


SETUP = """
import numpy as np, torch, tracemalloc
rng = np.random.default_rng(0)
v = rng.normal(size=(40, 2, 64))
v /= np.linalg.norm(v, axis=-1, keepdims=True)
w, ones = torch.tensor(v, requires_grad=True), np.ones((7, 7))
"""
RESTS_ON_ROUNDING = {
    "a tie": "print(((v @ v.mean(1)[..., None])[..., 0]).argmax(1))",
    "a rounding edge": "print(*[f'{x:.2f}' for x in 0.9 * np.exp(np.log(np.full(50, 0.45)))])",
    "the sign of zero": "print(*[f'{x:.1f}' for x in (v - v.mean(1, keepdims=True)).sum((1, 2))])",
    "chaos": "x = 0.3\nfor _ in range(200): x = 3.9 * np.exp(np.log(x) + np.log1p(-x))\nprint(round(x, 3))",
    "an operator": "print((v[0] @ v[0].T).tolist())",
    "einsum": "print(np.einsum('tij,tkj->t', v, v).tolist())",
    "a solver": "print(np.linalg.lstsq(v[:, 0], v[:, 1])[0].tolist())",
    "torch, a tie": "print((w @ w.mean(1)[..., None])[..., 0].argmax(1).tolist())",
    "torch, backward": "(w @ w.mT).softmax(-1).log().sum().backward()\nprint(w.grad.tolist())",
}
THE_SAME_EVERYWHERE = {
    "counts": "print((ones @ ones).sum() == 343, ones.mean() == 1, np.exp(ones * 0).sum() == 49)",
    "choosing by a product": "print((np.eye(40)[::-1] @ v[:, 0] == v[::-1, 0]).all())",
    "torch, counts": "print(torch.ones(5, 5).mm(torch.ones(5, 5)).sum().item() == 125, torch.zeros(4).softmax(0))",
    "memory": "tracemalloc.start(); v @ v.mT; print(tracemalloc.get_traced_memory()[1] < 9000); tracemalloc.stop()",
    "rounded numbers": "print(f'{(v @ v.mean(1)[..., None]).mean():.3f}')",
    "an error": "try: v[0] @ v[0]\nexcept Exception: print('refused')",
}


def test_the_noise_finds_what_rests_on_rounding_and_nothing_else(tmp_path):
    """Each cell's output is stored as this machine computes it, then compared under the noise."""
    cells = {"setup": SETUP} | RESTS_ON_ROUNDING | THE_SAME_EVERYWHERE
    blank = new_notebook(cells=[new_code_cell(source, metadata={"name": name}) for name, source in cells.items()])
    nbformat.write(blank, tmp_path / "blank.ipynb")
    nbformat.write(execute(tmp_path / "blank.ipynb", {}), tmp_path / "stored.ipynb")
    assert compare(tmp_path / "stored.ipynb", {}) == []
    found = compare(tmp_path / "stored.ipynb", NOISE)
    assert {difference.name for difference in found} == set(RESTS_ON_ROUNDING), found


def notebook_of(*outputs: nbformat.NotebookNode, tags: tuple[str, ...] = ()) -> nbformat.NotebookNode:
    return new_notebook(cells=[new_code_cell("x", outputs=list(outputs), metadata={"tags": list(tags)})])


def printed(text: str) -> nbformat.NotebookNode:
    return new_output("stream", name="stdout", text=text)


def figure(verdict: str, image: str) -> nbformat.NotebookNode:
    return new_output("display_data", {"text/plain": verdict, "image/png": image})


@pytest.mark.parametrize(
    ("stored", "here", "tags", "differs"),
    [
        (printed("0.45"), printed("0.43"), (), True),
        (printed("0.45"), printed("0.43"), ("nbval-ignore-output",), False),
        (printed("a\nb\n"), printed("a\n"), (), True),
        (figure("the same", "AAAA"), figure("the same", "BBBB"), (), False),
        (figure("the same", "AAAA"), figure("differs by 0.2", "AAAA"), (), True),
        (printed("1"), new_output("error", ename="AssertionError", evalue="", traceback=[]), (), True),
    ],
)
def test_outputs_are_compared_by_the_rules_of_the_tests(stored, here, tags, differs):
    assert bool(list(differences(notebook_of(stored, tags=tags), notebook_of(here, tags=tags)))) == differs


def test_the_table_has_a_mark_for_each_run():
    results = {("02_x", "plain"): [], ("02_x", "A=1"): [(1, "", "a", "b")], ("03_y", "plain"): []}
    rows = table(results, ["plain", "A=1"]).splitlines()
    assert rows[1].split() == ["02", "=", "1"] and rows[2].split() == ["03", "="]


def test_no_test_and_no_reader_meets_these_variables():
    """They are set by tools/everywhere.py alone."""
    from reference.book.manifest import ROOT

    names = [name for settings in KINDS.values() for setting in settings for name in setting]
    sources = [
        *ROOT.glob("*.py"),
        *ROOT.glob("Makefile"),
        *ROOT.glob("reference/**/*.py"),
        *ROOT.glob("chapters/text/*.md"),
    ]
    sources += [path for path in ROOT.glob("t*s/**/*.py") if path.name not in ("everywhere.py", "last_bits.py")]
    found = [(path.name, name) for path in sources for name in set(names) if name in path.read_text(encoding="utf-8")]
    assert not found
