"""Types of options: what they return, and that a wrong value is named beside its option."""

import argparse
import os

import pytest

from reference.options import (
    MOST_THREADS,
    add_threads,
    at_least,
    file_path,
    folder_path,
    model_place,
    positive,
    seed_below,
    token_count,
)


def parsed(convert, text):
    parser = argparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--size", type=convert)
    return parser.parse_args([f"--size={text}"]).size


@pytest.mark.parametrize(
    "convert, text, value",
    [
        (at_least(1), "1", 1),
        (at_least(0, float), "0.5", 0.5),
        (at_least(1, token_count), "4K", 4096),
        (positive, "1e-3", 0.001),
        (seed_below(31), "2147483647", 2**31 - 1),
    ],
)
def test_a_value_within_its_bounds_is_returned(convert, text, value):
    found = parsed(convert, text)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    "convert, text, message",
    [
        (at_least(1), "0", "expected a number >= 1, got 0"),
        (at_least(1), "many", "expected a number >= 1, got 'many'"),
        (at_least(1), "1.5", "expected a number >= 1, got '1.5'"),
        (at_least(0, float), "inf", "expected a number >= 0, got inf"),
        (at_least(1, token_count), "0K", "expected a number >= 1, got 0"),
        (at_least(1, token_count), "1G", "expected a number of tokens, such as 4096, 256K or 1M, got '1G'"),
        (positive, "0", "expected a number > 0, got 0.0"),
        (positive, "nan", "expected a number > 0, got nan"),
        (seed_below(31), "2147483648", "expected a whole number from 0 to 2^31 - 1, got 2147483648"),
        (folder_path, __file__, f"{__file__} is a file, expected a folder"),
        (file_path, ".", "expected a file, . is a folder"),
        (model_place, " ", "expected a folder or owner/name, got an empty name"),
    ],
)
def test_a_wrong_value_is_named_beside_its_option(convert, text, message):
    with pytest.raises(argparse.ArgumentError) as error:
        parsed(convert, text)
    assert str(error.value) == f"argument --size: {message}"


@pytest.mark.parametrize("threads", [MOST_THREADS + 1, 4096 * (os.cpu_count() or 1), 0])
def test_more_threads_than_a_machine_can_use_are_refused(threads, capsys):
    parser = argparse.ArgumentParser()
    add_threads(parser, 1)
    with pytest.raises(SystemExit):
        parser.parse_args(["--threads", str(threads)])
    assert "--threads: expected a number" in capsys.readouterr().err
    assert parser.parse_args(["--threads", str(os.cpu_count() or 1)]).threads == (os.cpu_count() or 1)
