"""A run's folder: known by its own mark, written by one process at a time, cleared of what a crash left."""

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reference.files import write_text

MARK = "run.json"
WRITTEN = ("config.json", "model.safetensors", "tokenizer.json", "metrics.jsonl", "loss.svg", "checkpoints")
STEP = re.compile(r"step_(\d{8})")  # a checkpoint; with .part behind it one that is being written
LEFT = re.compile(r"(config\.json|model\.safetensors|tokenizer\.json|metrics\.jsonl|loss\.svg|run\.json)\.\d+\.part")


def check_is_ours(folder: Path) -> None:
    """ValueError where training would overwrite or delete files that no training run wrote."""
    found = [name for name in WRITTEN if (folder / name).exists()]
    if found and not _is_marked(folder):
        files = ", ".join(found)
        raise ValueError(f"out: {folder} holds {files}, and `train` didn't write that there; choose another --out")


def mark(folder: Path, about: dict) -> None:
    """Write run.json, what this run was asked for: from now on the folder is known as a training run's."""
    write_text(folder / MARK, json.dumps(about, indent=1) + "\n")


def _is_marked(folder: Path) -> bool:
    files = [folder / MARK, *folder.glob("checkpoints/step_*/state.json")]  # runs from before the mark have the latter
    if any({"config", "run"} <= _keys(path) for path in files):
        return True
    metrics = folder / "metrics.jsonl"
    return metrics.is_file() and {"step", "loss", "grad_norm"} <= _keys(metrics, first_line=True)


def _keys(path: Path, *, first_line: bool = False) -> set[str]:
    try:
        with path.open(encoding="utf-8") as file:
            found = json.loads(file.readline() if first_line else file.read())
    except (OSError, ValueError, RecursionError):
        return set()
    return set(found) if isinstance(found, dict) else set()


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """The folder is this process's until the context ends, or the process does, however it ends. ValueError if it is
    another's already."""
    try:
        import fcntl
    except ImportError:  # Windows
        with _only_writer_by_file(folder):
            yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(_taken(folder)) from None
        except OSError:
            pass  # a file system without locks
        yield
    finally:
        os.close(handle)


@contextmanager
def _only_writer_by_file(folder: Path) -> Iterator[None]:
    import msvcrt

    with open(folder / "run.lock", "a+b") as file:
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            raise ValueError(_taken(folder)) from None
        yield


def _taken(folder: Path) -> str:
    return f"out: another process trains in {folder}; wait until it has ended, or choose another --out"


def clear_leftovers(folder: Path) -> None:
    """Remove half-written files and checkpoints of a run that was killed while it wrote."""
    for path in folder.glob("*.part"):
        if LEFT.fullmatch(path.name):
            path.unlink()
    for path in (folder / "checkpoints").glob("step_*.part"):
        if STEP.fullmatch(path.stem):
            shutil.rmtree(path)


def delete_run(folder: Path) -> None:
    """Remove the run's checkpoints and its metrics; whatever else lies in the folder stays."""
    for path in checkpoints_of(folder / "checkpoints"):
        shutil.rmtree(path)
    (folder / "metrics.jsonl").unlink(missing_ok=True)


def checkpoints_of(folder: Path) -> list[Path]:
    """The checkpoints in a folder, the oldest first: step_ and eight digits, nothing else."""
    return sorted(path for path in folder.glob("step_*") if STEP.fullmatch(path.name))
