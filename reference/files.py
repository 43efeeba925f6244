"""Write files so that a crash leaves the old one whole."""

import os
from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """write_bytes, in UTF-8."""
    write_bytes(path, text.encode("utf-8"))  # encoding fails before any file is touched


def write_bytes(path: Path, data: bytes) -> None:
    """Write beside the target, then rename: a reader sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    beside.write_bytes(data)
    beside.replace(path)
