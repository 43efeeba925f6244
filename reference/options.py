"""Values of the command line that several commands read alike: types for argparse, and the options that repeat.

Each type returns the value or says what was expected; argparse puts the option's name in front and ends with status 2:
"argument --threads: expected a number >= 1, got 0". PyTorch is imported only when somebody asks for a GPU.
"""

import argparse
import json
import math
import os
import re
from collections.abc import Callable
from pathlib import Path

LARGEST = 2**31 - 1
MOST_THREADS = max(64, 4 * (os.cpu_count() or 1))  # beyond, threads wait for each other; thousands end the process
LARGEST_FLOAT32 = 3.4e38
UNITS = {"": 1, "K": 2**10, "M": 2**20}


def token_count(text: str) -> int:
    """ "4096", "256K" or "1M" as a number; K is 1,024 and M 1,048,576, as contexts are named."""
    found = re.fullmatch(r"([+-]?\d+)\s*([KM]?)", text.strip().replace(",", "").replace("_", ""), re.IGNORECASE)
    if found is None:
        raise argparse.ArgumentTypeError(f"expected a number of tokens, such as 4096, 256K or 1M, got {text!r}")
    return int(found[1]) * UNITS[found[2].upper()]


def at_least(least: int, read: Callable[[str], float] = int, most: int = LARGEST) -> Callable[[str], float]:
    """The type of numbers from `least` to `most`; read: int, float or token_count."""

    def convert(text: str) -> float:
        value = _number(text, read, f">= {least}")
        if not value >= least:
            raise argparse.ArgumentTypeError(f"expected a number >= {least}, got {value}")
        if not value < math.inf:
            raise argparse.ArgumentTypeError(f"expected a number >= {least}, got {value}")
        if value > most:
            raise argparse.ArgumentTypeError(f"expected a number from {least} to {most}, got {text[:40]}")
        return value

    return convert


def positive(text: str) -> float:
    """A number above 0 that float32 can hold, such as a learning rate."""
    value = _number(text, float, "> 0")
    if not 0 < value < LARGEST_FLOAT32:
        raise argparse.ArgumentTypeError(f"expected a number > 0, got {value}")
    return value


def seed_below(bits: int) -> Callable[[str], int]:
    """The type of seeds from 0 to 2^bits - 1."""

    def convert(text: str) -> int:
        value = _number(text, int, f"from 0 to 2^{bits} - 1")
        if not 0 <= value < 2**bits:
            raise argparse.ArgumentTypeError(f"expected a whole number from 0 to 2^{bits} - 1, got {value}")
        return value

    return convert


def folder_path(text: str) -> Path:
    """A folder, which need not exist yet."""
    path, exists, is_folder = _path(text, "folder")
    if exists and not is_folder:
        raise argparse.ArgumentTypeError(f"{path} is a file, expected a folder")
    return path


def file_path(text: str) -> Path:
    """A file, which need not exist yet."""
    path, _, is_folder = _path(text, "file")
    if is_folder:
        raise argparse.ArgumentTypeError(f"expected a file, {path} is a folder")
    return path


def json_object(text: str) -> dict:
    """{"name": value, ...}."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise argparse.ArgumentTypeError(f'expected a JSON object such as {{"name": true}}, got {text[:80]!r}')
    return values


def model_place(text: str) -> str:
    """A folder with a model, or owner/name on the Hub."""
    if not text.strip():
        raise argparse.ArgumentTypeError("expected a folder or owner/name, got an empty name")
    return text


def _path(text: str, kind: str) -> tuple[Path, bool, bool]:
    """(the path, whether it exists, whether it is a folder)."""
    if not text.strip():  # as an unset variable of the shell leaves it: Path("") would be the current folder
        raise argparse.ArgumentTypeError(f"expected a {kind}'s name, got an empty one")
    path = Path(text)
    try:
        return path, path.exists(), path.is_dir()
    except OSError as error:
        raise argparse.ArgumentTypeError(f"expected a {kind}, got {text[:80]!r} ({error.strerror})") from None


def device_name(text: str) -> str:
    """The name of a device that PyTorch has here; `choices` says which names there are."""
    if text == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise argparse.ArgumentTypeError("this machine has no CUDA GPU that PyTorch can use; leave it out")
    return text


def add_threads(parser: argparse._ActionsContainer, default: int, note: str = "") -> None:
    """--threads."""
    help_text = f"threads of the CPU (default {default}{note})"
    parser.add_argument("--threads", type=at_least(1, most=MOST_THREADS), default=default, metavar="N", help=help_text)


def add_device(parser: argparse._ActionsContainer) -> None:
    """--device cpu or cuda."""
    parser.add_argument("--device", type=device_name, choices=["cpu", "cuda"], default="cpu", help="default cpu")


def _number(text: str, read: Callable[[str], float], bounds: str) -> float:
    try:
        return read(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number {bounds}, got {text!r}") from None
