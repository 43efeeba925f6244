"""The command line of an experiment: the options that all of them have, and what is said about stored runs."""

import argparse
import json
from pathlib import Path

from reference.experiments.catalogue import CATALOGUE
from reference.files import BOOK, STORED, refuse_installed
from reference.options import add_threads, at_least, file_path, folder_path


def experiment_parser(
    name: str, details: str | None = None, *, weights: str | None = None, record: str | None = None
) -> argparse.ArgumentParser:
    """The parser of `python -m reference experiment NAME`, from the catalogue's entry.

    details  what --help says of the experiment; None: the catalogue's sentence
    weights  None: --out is the record's file, and the runs of the book are continued where it is not given.
             Else the record is written once, at the end: --out is a folder for it, nothing is kept without --out, and
             --weights is a folder for the models that this names
    record   the name of the record's file without .json, as --help gives it; None: the experiment's
    """
    entry, record = CATALOGUE[name], record or name
    parser = argparse.ArgumentParser(
        prog=f"python -m reference experiment {name}",
        description=details or f"{entry.about[0].upper()}{entry.about[1:]} (chapter {entry.chapter:02d}).",
        epilog=f"All runs take {entry.takes} on 2 cores.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(quick=False, weights=None, out_is_folder=weights is not None)
    default = f"default {entry.seeds}"
    if entry.quick is not None:
        parser.add_argument("--quick", action="store_true", help=entry.quick)
        default += f", with --quick {entry.quick_seeds}" if entry.quick_seeds != entry.seeds else ""
    parser.add_argument(
        "--seeds", type=at_least(1), metavar="N", help=f"runs of each setting, seeds 0, 1, ... ({default})"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    if weights is not None:
        help_text = f"folder for {record}.json, which keeps the runs (default: nothing is kept)"
        parser.add_argument("--out", type=folder_path, metavar="FOLDER", help=help_text)
        help_text = f"folder for {weights}, as safetensors"
        parser.add_argument("--weights", type=folder_path, metavar="FOLDER", help=help_text)
    else:
        help_text = (
            f"file that keeps the runs; those that it holds are not run again (default figures/data/{record}.json, "
            "which has the book's runs; with --quick nothing is kept)"
        )
        parser.add_argument("--out", type=file_path, metavar="FILE", help=help_text)
    help_text = f"run everything anew, stored or not, into --out (default runs/{record}.json)"
    parser.add_argument("--again", action="store_true", help=help_text)
    add_threads(parser, entry.threads)
    return parser


def read_options(parser: argparse.ArgumentParser, name: str, argv: list[str]) -> argparse.Namespace:
    """Parsed and checked; seeds is filled in. Ends with a message that names the option."""
    chosen = parser.parse_args(argv)
    if chosen.seeds is None:
        entry = CATALOGUE[name]
        chosen.seeds = entry.quick_seeds if chosen.quick else entry.seeds
    return chosen


def where_kept(chosen: argparse.Namespace, record: str, default: Path | None) -> Path | None:
    """The file of the runs: --out; else with --again runs/RECORD.json, and says so; else `default`.

    record   the file's name without .json
    default  None: nothing is kept
    """
    if chosen.out is not None:
        return chosen.out / f"{record}.json" if chosen.out_is_folder else chosen.out
    if not chosen.again:
        return default
    again = Path("runs") / f"{record}.json"
    print(f"Running {record} anew into {again}; {shown(STORED / f'{record}.json')} stays as it is.", flush=True)
    return again


def wants_stored(chosen: argparse.Namespace) -> bool:
    """Whether the book's runs will do: nothing is to be run smaller, run anew, or written."""
    return not (chosen.quick or chosen.again or chosen.out is not None or chosen.weights is not None)


def check_places(parser: argparse.ArgumentParser, *places: Path | None) -> None:
    """End with a message if something would be written into the installed package."""
    try:
        for place in places:
            refuse_installed(place)
    except ValueError as error:
        parser.error(str(error))


def say_stored(runs: int, record: str, file: Path) -> None:
    """Say that nothing is left to run, and where the runs are."""
    which = "The run" if runs == 1 else f"All {runs} runs"
    print(f"{which} of {record} {'is' if runs == 1 else 'are'} stored in {shown(file)}; nothing is left to run.")
    print(flush=True)


def print_results(chosen: argparse.Namespace, record: str, table: str, line: dict, *, stored: bool) -> None:
    """The table; how to run again what was stored; with --json `line` as the last line."""
    print(table)
    if stored:
        kind = "FOLDER" if chosen.out_is_folder else "FILE"
        print(f"\nTo run everything again: --again (into runs/{record}.json) or --out {kind} (a new one).")
    if chosen.json:
        print(json.dumps(line), flush=True)


def shown(file: Path) -> Path:
    """As seen from the book's folder, where the file lies there."""
    return file.relative_to(BOOK) if file.is_relative_to(BOOK) else file
