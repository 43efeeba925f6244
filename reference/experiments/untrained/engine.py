"""The command line of the experiments that train nothing: seeds, a bar, results kept seed by seed, one JSON line.

The record, as it is written:
  experiment, config, machine, seconds
  runs      one per seed: {"seed": ..., "seconds": ..., "found": {model: {...: number or list}}}
  summary   found over the seeds: at each number or list {"mean": ..., "low": ..., "high": ...}
Keys hold no dots, so that a path into the file can be written with dots.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from tqdm import tqdm

from reference.bench.measure import describe_machine
from reference.experiments.stored import add_again, how_again, kept_record, say_stored, where_kept
from reference.files import STORED, refuse_installed, write_text


class Untrained(NamedTuple):
    """One experiment: measure(seed, settings, bar) -> {model: nested dicts whose leaves are numbers or lists of them}.

    steps(settings) is the number of ticks that measure gives the bar; table(record) is what a reader sees.
    """

    name: str
    about: str
    settings: dict
    quick: dict
    measure: Callable[[int, dict, tqdm], dict]
    steps: Callable[[dict], int]
    table: Callable[[dict], str]
    seeds: int = 3


def experiment_parser(name: str, about: str, quick: str, seeds: int) -> argparse.ArgumentParser:
    """The options that all experiments of chapter 10 have; quick says what --quick does."""
    parser = argparse.ArgumentParser(prog=f"python -m reference experiment {name}", description=f"{about}.")
    parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument("--seeds", type=int, help=f"default {seeds}, with --quick 1")
    parser.add_argument("--json", action="store_true", help="the last line is a JSON object with the metrics")
    parser.add_argument(
        "--out",
        type=Path,
        help=f"file that keeps the runs and is not asked for them twice (default figures/data/{name}.json, where the "
        "book's runs are; with --quick nothing is kept)",
    )
    add_again(parser, f"runs/{name}.json")
    parser.add_argument("--threads", type=int, default=1, help="threads of the CPU (default 1: the tensors are small)")
    return parser


def read_options(parser: argparse.ArgumentParser, argv: list[str], seeds: int) -> argparse.Namespace:
    """Parsed and checked; seeds is filled in. Ends with a message that names the option."""
    chosen = parser.parse_args(argv)
    if chosen.seeds is None:
        chosen.seeds = 1 if chosen.quick else seeds
    for name in ("seeds", "threads"):
        if getattr(chosen, name) < 1:
            parser.error(f"--{name}: expected a number >= 1, got {getattr(chosen, name)}")
    if chosen.out is not None and chosen.out.is_dir():
        parser.error(f"--out: expected a file, {chosen.out} is a folder")
    return chosen


def run_untrained(experiment: Untrained, argv: list[str]) -> int:
    """`python -m reference experiment NAME`. Settings that make no sense end with a message that names the option."""
    name = experiment.name
    parser = experiment_parser(name, experiment.about, "smaller sizes, at most 3 minutes a seed", experiment.seeds)
    chosen = read_options(parser, argv, experiment.seeds)
    seeds = chosen.seeds
    settings = experiment.settings | experiment.quick if chosen.quick else experiment.settings
    out = where_kept(chosen, name, STORED / f"{name}.json", keep=not chosen.quick)
    threads_before = torch.get_num_threads()
    torch.set_num_threads(chosen.threads)
    try:
        stored = not chosen.again and seeds == len(kept_runs(settings, seeds, out))
        refuse_installed(None if stored else out)
        if stored:
            say_stored(seeds, name, out)
        record = run_seeds(experiment, settings, seeds, out, again=chosen.again)
    except ValueError as error:
        parser.error(str(error))
    finally:
        torch.set_num_threads(threads_before)
    print(experiment.table(record))
    if stored:
        print(how_again(f"runs/{name}.json", "FILE"))
    if chosen.json:
        metrics = over_seeds([run["found"] for run in record["runs"]])
        print(json.dumps({"experiment": name, "quick": chosen.quick, "seeds": seeds, "metrics": metrics}))
    return 0


def kept_runs(settings: dict, seeds: int, out: Path | None) -> list[dict]:
    """The runs of seeds 0, 1, ... that `out` holds. ValueError if it has other settings."""
    kept = kept_record(out, json.loads(json.dumps(settings)))
    return [] if kept is None else [run for run in kept["runs"] if run["seed"] < seeds]


def run_seeds(
    experiment: Untrained, settings: dict, seeds: int, out: Path | None = None, *, again: bool = False
) -> dict:
    """The record of seeds 0, 1, ...; those that `out` holds are not run again, unless `again`. ValueError if it has
    other settings."""
    config = json.loads(json.dumps(settings))
    runs = [] if again else kept_runs(settings, seeds, out)
    todo = [seed for seed in range(seeds) if seed not in {run["seed"] for run in runs}]
    record = _record(experiment, config, runs) if runs else {}
    total = len(todo) * experiment.steps(settings)
    with tqdm(total=total, desc=experiment.name, ascii=True, mininterval=1, delay=5) as bar:
        for seed in todo:
            began = time.perf_counter()
            found = rounded(experiment.measure(seed, settings, bar))
            runs.append({"seed": seed, "seconds": round(time.perf_counter() - began, 1), "found": found})
            runs.sort(key=lambda run: run["seed"])
            record = _record(experiment, config, runs)
            if out is not None:
                write_text(out, json.dumps(record) + "\n")
    return record


def _record(experiment: Untrained, config: dict, runs: list[dict]) -> dict:
    about = {"experiment": experiment.name, "config": config, "machine": describe_machine("cpu")}
    about["seconds"] = round(sum(run["seconds"] for run in runs), 1)
    return about | {"summary": summary_over_seeds(over_seeds([run["found"] for run in runs])), "runs": runs}


def over_seeds(found: list) -> object:
    """Nested dicts of one shape, one per seed -> one such dict; each leaf is the list of the seeds' leaves."""
    if isinstance(found[0], dict):
        return {key: over_seeds([x[key] for x in found]) for key in found[0]}
    return found


def summary_over_seeds(found: object) -> object:
    """over_seeds' dict with {"mean", "low", "high"} in place of each list, element by element if leaves are lists."""
    if isinstance(found, dict):
        return {key: summary_over_seeds(x) for key, x in found.items()}
    if isinstance(found[0], list):
        parts = [summary_over_seeds(list(x)) for x in zip(*found, strict=True)]
        return {key: [part[key] for part in parts] for key in ("mean", "low", "high")}
    return {"mean": rounded(sum(found) / len(found)), "low": min(found), "high": max(found)}


def rounded(x: object, digits: int = 4) -> object:
    """Every float in nested dicts and lists, to so many significant digits."""
    if isinstance(x, dict):
        return {key: rounded(y, digits) for key, y in x.items()}
    if isinstance(x, list | tuple):
        return [rounded(y, digits) for y in x]
    return float(f"{x:.{digits}g}") if isinstance(x, float) else x


def markdown_table(head: list[str], rows: list[list[object]]) -> str:
    """A table; floats with three significant digits."""
    lines = [head, ["---"] * len(head), *rows]
    cells = [[f"{x:.3g}" if isinstance(x, float) else str(x) for x in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)
