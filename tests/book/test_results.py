"""The table of results on the first page says what chapter 10 printed."""

import re

import pytest

from reference.book.manifest import read_manifest
from tools import results

PRINTED = """10.7 two hops (2 hops, 4 chains; 2,000 steps; chance 0.12)
    linear   yes     0.93 ± 0.02   3 x gated_deltanet
    3:1      yes     0.98 ± 0.01   4 x gated_deltanet, softmax_nope
    1:1      yes     0.99 ± 0.00   4 x gated_deltanet, softmax_nope
    softmax  yes     0.98 ± 0.01   3 x softmax_nope
10.6 recall beside parity (recall, 48 pairs; 1,500 steps; chance 0.02)
    softmax-first yes 1.00 ± 0.00   2 x softmax
10.5 parity (256 bits; 1,500 steps; chance 0.50)
    softmax  no      0.51 ± 0.02   1 x softmax
"""


def test_each_line_of_the_matrix_has_its_place(monkeypatch):
    monkeypatch.setattr(results, "_printed", lambda chapter: PRINTED if chapter.number == 10 else None)
    rows = results.results_table(read_manifest()).splitlines()[2:]
    assert results.NO_BREAK.join(("0.93", "±", "0.02")) in rows[0]
    assert [row.replace(results.NO_BREAK, " ") for row in rows] == [
        "| two hops, 2 hops, 4 chains | 0.12 | 0.93 ± 0.02 | 3:1 0.98 ± 0.01<br>1:1 0.99 ± 0.00 | 0.98 ± 0.01 | 10.7 |",
        f"| recall beside parity, 48 pairs | 0.02 | – | softmax{results.HYPHEN}first 1.00 ± 0.00 | – | 10.6 |",
        "| parity, 256 bits | 0.50 | – | – | 0.51 ± 0.02 | 10.5 |",
    ]


def test_a_line_that_is_none_is_named(monkeypatch):
    monkeypatch.setattr(results, "_printed", lambda chapter: PRINTED + "something else\n")
    with pytest.raises(ValueError, match="cell matrix: expected a task or one of its stacks, got 'something else'"):
        results.results_table(read_manifest())


def test_the_stored_matrix_makes_a_table_with_every_task():
    book = read_manifest()
    printed = next(text for chapter in book.chapters if (text := results._printed(chapter)))
    tasks = [line for line in printed.splitlines() if not line.startswith(" ")]
    table = results.results_table(book).replace(results.NO_BREAK, " ")
    assert len(tasks) >= 8 and len(table.splitlines()) == 2 + len(tasks)
    shares = re.findall(r"[\d.]+ ± [\d.]+", printed)
    assert len(shares) > len(tasks) and all(share in table for share in shares)
