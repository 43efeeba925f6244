"""What counts as a whole number, and that NaN has an error of its own."""

from dataclasses import dataclass, field
from typing import get_type_hints

import pytest
import torch

from reference.arguments import NotANumber, check_count, check_positive_int, check_types, cut_short, is_whole_number
from reference.ops import recurrent_linear_attention


@pytest.mark.parametrize("value", [True, False, 1.0, "1", None, -1])
def test_what_is_no_whole_number(value):
    assert not is_whole_number(value, 0)
    with pytest.raises(ValueError, match="n: expected a whole number >= 1, got"):
        check_positive_int("n", value)
    with pytest.raises(ValueError, match="n: expected a whole number from 0 to 3, got"):
        check_count("n", value, most=3)


def test_bounds_belong_to_the_range():
    assert is_whole_number(2, 2) and is_whole_number(2, 0, 2)
    assert not is_whole_number(1, 2) and not is_whole_number(3, 0, 2)
    check_positive_int("n", 1)
    check_count("n", 0)
    check_count("n", 3, most=3)


def test_an_operator_names_nan_by_a_class_of_its_own():
    x = torch.ones(1, 2, 1, 3)
    with pytest.raises(NotANumber, match="k: expected numbers, got NaN"):
        recurrent_linear_attention(x, x.clone().fill_(torch.nan), x)


@dataclass(frozen=True)
class Record:
    size: int = 1
    share: float | None = None
    on: bool = False
    kinds: tuple[str, ...] | None = ()
    other: dict = field(default_factory=dict)


@pytest.mark.parametrize(
    "values, message",
    [
        ({"size": True}, "size: expected a whole number, got True"),
        ({"size": 1.0}, "size: expected a whole number, got 1.0"),
        ({"size": None}, "size: expected a whole number, got None"),
        ({"share": float("nan")}, "share: expected a finite number or None, got nan"),
        ({"share": 10**400}, "share: expected a finite number or None, got 1000"),
        ({"share": -(10**5000)}, "share: expected a finite number or None, got int of 16610 bits, too long to write"),
        ({"share": "1"}, "share: expected a finite number or None, got '1'"),
        ({"on": 1}, "on: expected True or False, got 1"),
        ({"kinds": "ab"}, "kinds: expected a list of names or None, got 'ab'"),
        ({"kinds": (1,)}, r"kinds: expected a list of names or None, got \(1,\)"),
    ],
)
def test_a_field_of_another_type_is_named(values, message):
    with pytest.raises(ValueError, match=message):
        check_types(Record(**values), get_type_hints(Record))


def test_any_value_is_cut_short():
    assert cut_short("9" * 5000) == "'" + "9" * 99 + "..."
    assert cut_short([10**5000]) == "list, too long to write"
    assert cut_short(0.5) == "0.5"


def test_fields_of_their_types_pass():
    check_types(Record(), get_type_hints(Record))
    record = Record(2**70, 10**30, True, ["a"], other=5)
    check_types(record, get_type_hints(Record))
    assert type(record.size) is int and type(record.share) is float and record.share == 1e30
