"""Numbers in the prose are those of the outputs they name, and the ledger notices when they are not."""

import nbformat
import pytest

from reference.book.manifest import ROOT, Chapter
from tests.book.rules import BOOK, prose
from tools.claims import check, claims_in, unbound_numbers

PAGES = [(chapter.name, chapter.number, prose(chapter)) for chapter in BOOK.chapters]
PAGES += [(name, None, (ROOT / name).read_text(encoding="utf-8")) for name in ("README.md", "site/index.md")]


@pytest.mark.parametrize(("name", "number", "text"), PAGES, ids=[page[0] for page in PAGES])
def test_every_claim_holds(name, number, text):
    broken = [check(claim, number, BOOK) for claim in claims_in(text)]
    assert not any(broken), "\n".join(filter(None, broken))


@pytest.mark.parametrize(("name", "number", "text"), PAGES, ids=[page[0] for page in PAGES])
def test_every_measured_number_is_bound_or_cited(name, number, text):
    text = text.split("## References")[0]
    assert not unbound_numbers(text), "\n".join(unbound_numbers(text))


@pytest.mark.parametrize("chapter", BOOK.chapters, ids=lambda c: c.name)
def test_a_chapter_states_results_and_binds_them(chapter):
    assert len(claims_in(prose(chapter))) >= 3


@pytest.fixture
def small_book(tmp_path):
    cell = nbformat.v4.new_code_cell("print(error)", metadata={"name": "errors"})
    cell.outputs = [nbformat.v4.new_output("stream", text="pairs 16  Hebb 0.8312  delta 0.114\nspeed 12.3 ms\n")]
    (tmp_path / "results.json").write_text('{"ratios": {"forward": [3.14, 4.2]}}')
    chapter = Chapter("02_x", "X", "?", [], 1)
    path = tmp_path / "02_x.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)

    class OnDisk(Chapter):
        notebook = path

    return BOOK._replace(chapters=[OnDisk(*chapter)], planned=[], appendices=[]), tmp_path


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("0.83<!--claim errors: Hebb-->", True),
        ("**0.831**<!--claim errors: Hebb-->", True),
        ("0.84<!--claim errors: Hebb-->", False),
        ("16<!--claim errors: Hebb-->", False),  # stands before the key, so it belongs to something else
        ("0.11<!--claim 02/errors: delta-->", True),
        ("12 ms<!--claim errors: speed-->", True),
        ("12 s<!--claim errors: speed-->", False),
        ("0.83<!--claim no-such-cell: Hebb-->", False),
        ("0.83<!--claim errors: Hobb-->", False),
        ("0.83<!--claim 07/errors: Hebb-->", False),
        ("4.2<!--claim results.json: ratios.forward.1-->", True),
        ("4.3<!--claim results.json: ratios.forward.1-->", False),
        ("4.2<!--claim results.json: ratios.backward-->", False),
    ],
)
def test_the_ledger_tells_true_from_false(small_book, text, holds):
    book, root = small_book
    (claim,) = claims_in(text)
    assert (check(claim, 2, book, root) is None) == holds


def test_a_marker_without_a_number_is_refused():
    with pytest.raises(ValueError, match="directly behind its number"):
        claims_in("about half<!--claim errors: Hebb-->")


@pytest.mark.parametrize(
    ("text", "unbound"),
    [
        ("the error is 0.83 here", 1),
        ("it takes 12 ms and 40 % more", 2),
        ("0.83<!--claim errors: Hebb--> and `0.5` and $0.25$ and (2.1) in Qwen3.5", 0),
        ("the share falls to 4.8% [Qiu et al. 2025](#qiu2025gated)", 0),
        ("it takes 3 steps", 0),
    ],
)
def test_a_measured_number_without_a_source_is_found(text, unbound):
    assert len(unbound_numbers(text)) == unbound
