"""What arguments may be: whole numbers within bounds, and no NaN. Every package of the book checks with these."""

import os
import re
import sys
from collections.abc import Mapping
from numbers import Real
from pathlib import Path
from types import NoneType
from typing import get_args, get_origin

SURROGATE = re.compile("[\ud800-\udfff]")  # half a character: JSON's "\\ud83d" without what makes it a whole one


class NotANumber(ValueError):
    """An argument holds NaN or infinity. A class of its own: a training loop can tell it from a call that is wrong."""


def cut_short(value: object) -> str:
    """A value for a message, however long it is."""
    try:
        text = repr(value)
    except ValueError:  # Python writes no whole number of more than 4,300 digits
        bits = f" of {value.bit_length()} bits" if isinstance(value, int) else ""
        return f"{type(value).__name__}{bits}, too long to write"
    return text if len(text) <= 100 else f"{text[:100]}..."


def is_whole_number(value: object, least: int, most: int | None = None) -> bool:
    """Whether value is an int from least to most. True and False are none."""
    if isinstance(value, bool) or not isinstance(value, int):
        return False
    return least <= value and (most is None or value <= most)


def check_positive_int(name: str, value: object) -> None:
    """Raise ValueError unless value is a whole number from 1."""
    if not is_whole_number(value, 1):
        raise ValueError(f"{name}: expected a whole number >= 1, got {cut_short(value)}")


def check_count(name: str, value: object, most: int | None = None) -> None:
    """Raise ValueError unless value is a whole number from 0, to `most` if there is one."""
    if not is_whole_number(value, 0, most):
        wanted = "a whole number >= 0" if most is None else f"a whole number from 0 to {most}"
        raise ValueError(f"{name}: expected {wanted}, got {cut_short(value)}")


def check_place(name: str, value: object) -> Path:
    """value as a path. Raises TypeError or ValueError if it is none, or empty: Path("") would be the current folder."""
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"{name}: expected a folder's name, got {type(value).__name__}")
    if not os.fspath(value):
        raise ValueError(f"{name}: expected a folder's name, got an empty one")
    return Path(value)


def check_types(record: object, hints: Mapping[str, object]) -> None:
    """Raise ValueError that names the first field of a record whose value isn't what its annotation says.

    A whole number in a field of floats becomes one: torch multiplies by no whole number of more than 64 bits.

    hints: name -> annotation (typing.get_type_hints). int and float are finite numbers, a whole one is also a float,
    and True and False are none; tuple[str, ...] and tuple[float, ...] may be lists. Annotations of other kinds are
    passed over.
    """
    for name, hint in hints.items():
        kinds = get_args(hint) if get_origin(hint) is not tuple and get_args(hint) else (hint,)
        tests = [_FITS.get(kind, _FITS.get(get_origin(kind) or kind)) for kind in kinds]
        value = getattr(record, name)
        if None not in tests and not any(fits(value) for fits, _ in tests):
            wanted = " or ".join(word for _, word in tests)
            raise ValueError(f"{name}: expected {wanted}, got {cut_short(value)}")
        if type(value) is int and float in kinds and int not in kinds:
            object.__setattr__(record, name, float(value))  # of a frozen record as well


_FITS = {  # how a value of an annotation is known, and what it is called
    bool: (lambda x: isinstance(x, bool), "True or False"),
    int: (lambda x: isinstance(x, int) and not isinstance(x, bool), "a whole number"),
    float: (
        lambda x: isinstance(x, Real) and not isinstance(x, bool) and abs(x) <= sys.float_info.max,
        "a finite number",
    ),
    str: (lambda x: isinstance(x, str), "a name"),
    NoneType: (lambda x: x is None, "None"),
    tuple: (lambda x: isinstance(x, list | tuple) and all(isinstance(y, str) for y in x), "a list of names"),
    tuple[float, ...]: (lambda x: isinstance(x, list | tuple) and all(map(_FITS[float][0], x)), "a list of numbers"),
}
