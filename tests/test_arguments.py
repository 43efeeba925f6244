"""What counts as a whole number, and that NaN has an error of its own."""

import pytest
import torch

from reference.arguments import NotANumber, check_count, check_positive_int, is_whole_number
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
