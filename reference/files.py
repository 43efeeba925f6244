"""Where the book's files lie, and how to write one so that a crash leaves the old one whole."""

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
IN_WHEEL = PACKAGE / "_book"  # what setup.py puts beside the code when the package is built
BOOK = IN_WHEEL if IN_WHEEL.is_dir() else PACKAGE.parent  # the folder with book.yml and figures/data
STORED = BOOK / "figures" / "data"


def refuse_installed(path: Path | None) -> None:
    """ValueError where a result would be written into the installed package."""
    if path is not None and path.resolve().is_relative_to(IN_WHEEL):
        raise ValueError(f"out: {path} belongs to the installed package; name a file of your own")


def write_text(path: Path, text: str) -> None:
    """write_bytes, in UTF-8."""
    write_bytes(path, text.encode("utf-8"))  # encoding fails before any file is touched


def write_bytes(path: Path, data: bytes) -> None:
    """Write beside the target, then rename: a reader sees the old file or the new one. Into the installed package
    nothing is written, whoever asks: ValueError. OSError names the file."""
    refuse_installed(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        beside.write_bytes(data)
        beside.replace(path)
    except BaseException as error:  # a full disk, Ctrl-C: what stands stays, and nothing lies beside it
        beside.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise OSError(error.errno, f"can't be written ({error.strerror})", str(path)) from None
        raise
