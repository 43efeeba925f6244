"""What arguments may be: whole numbers within bounds, and no NaN. Every package of the book checks with these."""


class NotANumber(ValueError):
    """An argument holds NaN or infinity. A class of its own: a training loop can tell it from a call that is wrong."""


def cut_short(value: object) -> str:
    """A value for a message, however long it is."""
    text = repr(value)
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
