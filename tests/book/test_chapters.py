"""Every chapter keeps the promises that the book makes to its readers."""

import ast
import json
import re
import statistics

import pytest

from reference.book.manifest import ROOT
from reference.checks import EXERCISES
from tests.book.rules import BOOK, WORD, cells, is_ignored, outputs, prose, tags
from tools import chapters as tool
from tools.references import cited_keys, reference_list

ids = {"argvalues": BOOK.chapters, "ids": lambda c: c.name}
NOT_WORDS = re.compile(
    r"```.*?```|<details>.*?</details>|\$\$.*?\$\$|\$[^$\n]+\$|`[^`\n]+`|<!--.*?-->|!\[[^\]]*\]\([^)]*\)", re.S
)
RULE = re.compile(r"show_figure\(\s*\w+,\s*\"([^\"]+)\"")


@pytest.mark.parametrize("chapter", **ids)
def test_notebook_and_text_form_are_the_same_chapter(chapter):
    assert chapter.text.read_text(encoding="utf-8") == tool.as_text(tool.read_notebook(chapter)), "run `make sync`"


@pytest.mark.parametrize("chapter", **ids)
def test_the_file_is_clean_so_that_a_rerun_gives_no_diff(chapter):
    """Nothing in it is an editor's: no metadata, no timestamps, no size as 340.0 (tools/metadata.py)."""
    clean = tool.as_file(tool.read_notebook(chapter))
    assert chapter.notebook.read_text(encoding="utf-8") == clean, f"run `make sync CHAPTERS={chapter.number}`"


@pytest.mark.parametrize("chapter", **ids)
def test_cells_ran_top_to_bottom_in_a_fresh_kernel(chapter):
    counts = [cell.execution_count for cell in cells(chapter, "code")]
    assert counts == list(range(1, len(counts) + 1)), f"run `make run CHAPTERS={chapter.number}`: {counts}"


@pytest.mark.parametrize("chapter", **ids)
def test_no_warning_or_traceback_in_an_output(chapter):
    for cell, output in outputs(chapter):
        assert output.output_type != "error", f"a traceback below:\n{cell.source}"
        assert output.get("name") != "stderr", f"something on stderr below:\n{cell.source}\n{output.text}"
        text = output.get("text", "") or output.get("data", {}).get("text/plain", "")
        assert "Warning:" not in text, f"a warning below:\n{cell.source}"


@pytest.mark.parametrize("chapter", **ids)
def test_no_stray_object_is_shown(chapter):
    for cell, output in outputs(chapter):
        text = output.get("data", {}).get("text/plain", "")
        assert not text.startswith(("<", "[<", "Text(")), f"end this cell with a semicolon:\n{cell.source}"


@pytest.mark.parametrize("chapter", **ids)
def test_at_most_a_quarter_of_the_cells_escape_comparison(chapter):
    code = cells(chapter, "code")
    ignored = [cell for cell in code if is_ignored(cell)]
    assert len(ignored) <= len(code) / 4
    for cell in ignored:
        assert re.search(r"time|second", cell.source), f"only timings may be ignored:\n{cell.source}"


@pytest.mark.parametrize("chapter", **ids)
def test_rhythm(chapter):
    code = [cell for cell in cells(chapter, "code")]
    lengths = [len(cell.source.splitlines()) for cell in code]
    words = len(WORD.findall(NOT_WORDS.sub("", body(chapter))))
    assert 1500 <= words <= 3200, f"{words} words of prose"
    assert 25 <= len(code) <= 60, f"{len(code)} code cells"
    assert statistics.median(lengths) <= 7, f"median cell {statistics.median(lengths)} lines"
    assert max(lengths) <= 25, f"longest cell {max(lengths)} lines"
    assert words / figure_count(chapter) <= 450, f"{words} words, {figure_count(chapter)} figures"


COLUMNS = 100


@pytest.mark.parametrize("chapter", **ids)
def test_a_line_of_code_has_at_most_100_columns(chapter):
    """A page shows no more beside its margin, and a reader's eye no more at all; alternative texts are wrapped too."""
    wide = [
        f"{chapter.name}, code cell {n}, line {k}: {len(line)} columns: {line}"
        for n, cell in enumerate(cells(chapter, "code"), 1)
        for k, line in enumerate(cell.source.splitlines(), 1)
        if len(line) > COLUMNS
    ]
    assert not wide, "\n".join(wide)


@pytest.mark.parametrize("chapter", **ids)
def test_a_statement_does_one_thing(chapter):
    found = [
        f"{chapter.name}, code cell {n}, line {line}: {what}"
        for n, cell in enumerate(cells(chapter, "code"), 1)
        for line, what in hidden_in(cell.source)
    ]
    assert not found, "\n".join(found)


def hidden_in(source: str) -> list[tuple[int, str]]:
    """What a reader overlooks: (line, what it is)."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Tuple):
            found.append((node.lineno, "two statements in a tuple"))
        if isinstance(node, ast.Assign):
            if any(isinstance(x, ast.Attribute) and x.attr == "__class__" for x in node.targets):
                found.append((node.lineno, "an object gets another class"))
            if len(node.targets) > 1 and any(isinstance(x, ast.Tuple) for x in node.targets):
                found.append((node.lineno, "two names for the parts and one for the whole"))
    names = {node.func.id for node in ast.walk(ast.parse(source)) if is_call(node)}
    loops = any(isinstance(node, ast.For | ast.While) for node in ast.walk(ast.parse(source)))
    if len(source.splitlines()) > 20 and loops and {"print", "show_figure"} <= names:
        found.append((1, "more than 20 lines that sweep, print and draw"))
    return found


def is_call(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name)


@pytest.mark.parametrize(
    "source",
    [
        "a.fill_(1), b.zero_()",
        "mixer.__class__ = Without",
        "a, b = both = f()",
        "for x in y:\n" + "    print(x)\n" * 20 + "show_figure(fig, 'x')",
    ],
)
def test_what_hides_a_second_thing_is_found(source):
    assert len(hidden_in(source)) == 1


@pytest.mark.parametrize("chapter", **ids)
def test_equations_are_numbered_in_the_order_in_which_they_stand(chapter):
    numbers = re.findall(r"\\tag\{(\d+)\.(\d+)\}", prose(chapter))
    wanted = [(str(chapter.number), str(n)) for n in range(1, len(numbers) + 1)]
    assert numbers == wanted, [".".join(number) for number in numbers]


def body(chapter) -> str:
    """What its author wrote: without the generated lists at the end."""
    return prose(chapter).split("## References")[0].split("## Symbols")[0]


def figure_count(chapter) -> int:
    return sum("image/png" in output.get("data", {}) for _, output in outputs(chapter))


@pytest.mark.parametrize("chapter", **ids)
def test_every_displayed_equation_is_followed_by_code(chapter):
    parts = re.split(r"\\tag\{", chapter.text.read_text(encoding="utf-8"))
    assert len(parts) > 1 or chapter.number == 0, "a chapter without an equation?"
    assert "assert" in parts[-1], "the last equations of the chapter are not checked by an assert"


@pytest.mark.parametrize("chapter", **ids)
def test_a_figure_is_shown_once_written_to_figures_and_has_its_data_checked(chapter):
    for cell, output in outputs(chapter):
        data = output.get("data", {})
        if "image/png" not in data:
            continue
        assert data["text/plain"].startswith("Figure "), f"show figures with show_figure:\n{cell.source}"
        assert not is_ignored(cell), f"a figure's verdict must be compared:\n{cell.source}"
        assert "the same data as in the book" in data["text/plain"], data["text/plain"]
        assert len(data["text/plain"].splitlines()[1]) > 20, "the alternative text"
        names = RULE.findall(cell.source)
        assert len(names) == 1, f"one figure per cell:\n{cell.source}"
        assert names[0].startswith(f"{chapter.number:02d}_"), names[0]
        assert (ROOT / "figures" / f"{names[0]}.svg").exists()
        assert (ROOT / "figures" / "data" / f"{names[0]}.json").exists()


def test_no_figure_is_left_over():
    shown = {name for chapter in BOOK.chapters for cell in cells(chapter, "code") for name in RULE.findall(cell.source)}
    files = {path.stem for path in (ROOT / "figures").glob("*.svg")}
    assert files == shown, f"figures without a chapter: {files - shown}; missing: {shown - files}"


@pytest.mark.parametrize("chapter", **ids)
def test_the_head_says_what_a_reader_needs_to_know(chapter):
    head = cells(chapter, "markdown")[0].source
    assert head.startswith(f"# {chapter.number:02d} · {chapter.title}\n"), head.splitlines()[0]
    for word in ("**Question.**", "After this chapter you can", "**You need", "**Run time.**"):
        assert word in head, f"the first cell lacks {word!r}"


@pytest.mark.parametrize("chapter", **ids)
def test_exercises_are_rated_blank_for_the_reader_and_solved_out_of_sight(chapter):
    numbers = [n for n in EXERCISES if n.split(".")[0] == str(chapter.number)]
    assert 4 <= len(numbers) <= 8, f"{len(numbers)} exercises"
    code = cells(chapter, "code")
    for number in numbers:
        heading = re.search(rf"^### Exercise {number} · .*\n+(?:.*\n)*?.*[●○]{{3}}", prose(chapter), re.M)
        assert heading, f"exercise {number} has no heading with a difficulty"
        verdicts = {is_solution: [] for is_solution in (False, True)}
        for cell in code:
            printed = "".join(output.get("text", "") for output in cell.outputs)
            if f"Exercise {number}:" in printed:
                verdicts["solution" in tags(cell)].append(printed)
        blank, solved = verdicts[False], verdicts[True]
        assert [f"Exercise {number}: no answer yet" in v for v in blank] == [True], f"{number}: blank cell: {blank}"
        assert [f"Exercise {number}: right." in v for v in solved] == [True], f"{number}: solution: {solved}"


@pytest.mark.parametrize("chapter", **ids)
def test_solutions_are_hidden_and_marked(chapter):
    for cell in cells(chapter, "code"):
        if "solution" in tags(cell):
            assert "hide-cell" in tags(cell) and cell.metadata.jupyter.source_hidden
            assert "### BEGIN SOLUTION" in cell.source and "### END SOLUTION" in cell.source


@pytest.mark.parametrize("chapter", **ids)
def test_run_time_is_within_what_the_manifest_allows(chapter):
    seconds = json.loads(tool.RUN_SECONDS.read_text())[f"{chapter.number:02d}"]
    assert seconds <= 60 * chapter.minutes <= 180


@pytest.mark.parametrize("chapter", **ids)
def test_the_student_copy_holds_no_solution(chapter, tmp_path, monkeypatch):
    monkeypatch.setattr(tool, "ROOT", tmp_path)
    copy = tool.student(chapter).read_text(encoding="utf-8")
    assert "SOLUTION" not in copy and "solution_" not in copy
    assert f"Exercise {chapter.number}.1" in copy


@pytest.mark.parametrize("chapter", **ids)
def test_the_reference_list_holds_what_the_prose_cites(chapter):
    text = body(chapter)
    assert cells(chapter, "markdown")[-1].source == reference_list(text), f"run `make sync CHAPTERS={chapter.number}`"
    assert len(cited_keys(text)) >= 5
