"""The table of the family holds every operator once, and chapter 03 shows it."""

from collections import Counter

from reference import equations, ops
from reference.book.manifest import ROOT
from reference.ops.table import FAMILY, family_table

CHAPTER = ROOT / "chapters" / "text" / "03_learning_to_forget.md"


def test_each_public_operator_stands_in_one_row():
    named = Counter(name for row in FAMILY for name in row.operators)
    public = {name for name in ops.__all__ if name.startswith(("recurrent_", "chunk_")) or name.endswith("_attention")}
    assert {name for name in named if hasattr(ops, name)} == public
    assert all(hasattr(equations, name) for name in named if not hasattr(ops, name))
    assert set(named.values()) == {1}


def test_chapter_03_shows_the_table():
    assert family_table() in CHAPTER.read_text(encoding="utf-8"), f"in {CHAPTER.name}, put\n{family_table()}"


def test_a_decay_per_channel_is_said_where_there_is_one():
    for name, operator in ops.OPERATORS.items():
        (row,) = (row for row in FAMILY if f"chunk_{name}" in row.operators)
        assert operator.channel_decay == row.decay.startswith("a channel"), name
        assert ("g" in operator.extras) == (row.decay != "nothing"), name
        assert (row.erases != "no key") == bool({"beta", "b"} & set(operator.extras)), name
