"""What all experiments do about runs that are stored already: say so, and run them again where asked to."""

import argparse
import json
from pathlib import Path

from reference.book.manifest import ROOT


def add_again(parser: argparse.ArgumentParser, file: str) -> None:
    """--again; file: where it writes without --out."""
    parser.add_argument(
        "--again", action="store_true", help=f"run everything anew, stored or not, into --out (default {file})"
    )


def where_kept(chosen: argparse.Namespace, name: str, stored: Path, *, keep: bool) -> Path | None:
    """The file of the runs: --out; else with --again runs/NAME.json, and says so; else the stored one. None where
    nothing is kept."""
    if chosen.out is not None or not keep:
        return chosen.out
    if not chosen.again:
        return stored
    file = Path("runs") / f"{name}.json"
    print(f"Running {name} anew into {file}; {shown(stored)} stays as it is.", flush=True)
    return file


def folder_kept(chosen: argparse.Namespace, name: str, stored: Path) -> Path | None:
    """where_kept for experiments whose --out is a folder, and which keep nothing without it."""
    if chosen.out is not None or not chosen.again:
        return chosen.out
    return where_kept(chosen, name, stored, keep=True).parent


def read_stored(file: Path, chosen: argparse.Namespace) -> dict | None:
    """The stored record, where it is what was asked for: no --again, nothing to be written."""
    writes = chosen.again or chosen.out is not None or chosen.weights is not None
    return None if writes or not file.exists() else json.loads(file.read_text(encoding="utf-8"))


def kept_record(out: Path | None, config: dict) -> dict | None:
    """The record in `out`, None if there is none. ValueError if its runs are of another configuration."""
    if out is None or not out.exists():
        return None
    try:
        kept = json.loads(out.read_text(encoding="utf-8"))
    except ValueError:
        raise ValueError(f"out: {out} is not a record of an experiment; give another file") from None
    if not isinstance(kept, dict) or kept.get("config") != config:
        raise ValueError(f"out: {out} holds runs of another configuration; give another file, or remove it")
    return kept


def say_stored(runs: int, name: str, file: Path) -> None:
    which = "The run" if runs == 1 else f"All {runs} runs"
    print(f"{which} of {name} {'is' if runs == 1 else 'are'} stored in {shown(file)}; nothing is left to run.")
    print(flush=True)


def how_again(file: str, kind: str) -> str:
    return f"\nTo run everything again: --again (into {file}) or --out {kind} (a new one)."


def shown(file: Path) -> Path:
    """As seen from the book's folder, where it lies there."""
    return file.relative_to(ROOT) if file.is_relative_to(ROOT) else file
