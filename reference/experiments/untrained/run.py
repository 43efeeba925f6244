"""Run an experiment that trains nothing: seed by seed, results kept as each seed ends.

Of each seed the record (reference/experiments/records.py) has {"seed": ..., "seconds": ..., "found": {model: {...:
number or list}}}; its summary is found over the seeds: at each number or list {"mean": ..., "low": ..., "high": ...}.
Keys hold no dots, so that a path into the file can be written with dots.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from tqdm import tqdm

from reference.experiments.command_line import (
    check_places,
    experiment_parser,
    print_results,
    read_options,
    say_stored,
    where_kept,
)
from reference.experiments.records import Runs
from reference.files import STORED


class Untrained(NamedTuple):
    """One experiment.

    name      as in the catalogue
    settings  what measure depends on beside the seed: JSON's numbers, lists and dicts
    quick     the settings that --quick changes
    measure   (seed, settings, bar) -> {model: nested dicts whose leaves are numbers or lists of them}
    steps     settings -> how often measure calls bar.update()
    table     record -> what a reader sees
    details   what --help says, as a rule the module's docstring; None: the catalogue's sentence
    """

    name: str
    settings: dict
    quick: dict
    measure: Callable[[int, dict, tqdm], dict]
    steps: Callable[[dict], int]
    table: Callable[[dict], str]
    details: str | None = None


def run_untrained(experiment: Untrained, argv: list[str]) -> int:
    """`python -m reference experiment NAME`. Settings that make no sense end with a message that names the option."""
    name = experiment.name
    parser = experiment_parser(name, experiment.details)
    chosen = read_options(parser, name, argv)
    seeds = chosen.seeds
    settings = experiment.settings | experiment.quick if chosen.quick else experiment.settings
    file = where_kept(chosen, name, None if chosen.quick else STORED / f"{name}.json")
    threads_before = torch.get_num_threads()
    torch.set_num_threads(chosen.threads)
    try:
        runs = runs_of_seeds(experiment, settings, file, again=chosen.again)
        stored = not runs.missing(wanted_seeds(seeds))
        check_places(parser, None if stored else file)
        if stored:
            say_stored(seeds, name, file)
        record = run_seeds(experiment, settings, runs, seeds)
    except ValueError as error:
        parser.error(str(error))
    finally:
        torch.set_num_threads(threads_before)
    metrics = over_seeds([run["found"] for run in record["runs"]])
    line = {"experiment": name, "quick": chosen.quick, "seeds": seeds, "metrics": metrics}
    print_results(chosen, name, experiment.table(record), line, stored=stored)
    return 0


def wanted_seeds(seeds: int) -> list[tuple[int]]:
    """Seeds 0, 1, ... as Runs.missing takes them."""
    return [(seed,) for seed in range(seeds)]


def runs_of_seeds(experiment: Untrained, settings: dict, file: Path | None = None, *, again: bool = False) -> Runs:
    """The runs that `file` holds. ValueError if it holds those of other settings."""
    return Runs(
        experiment.name,
        settings,
        ("seed",),
        lambda runs: summary_over_seeds(over_seeds([run["found"] for run in runs])),
        file,
        again=again,
    )


def run_seeds(experiment: Untrained, settings: dict, runs: Runs, seeds: int) -> dict:
    """Measure what is missing of seeds 0, 1, ...; returns the record of these seeds."""
    todo = runs.missing(wanted_seeds(seeds))
    total = len(todo) * experiment.steps(settings)
    with tqdm(total=total, desc=experiment.name, ascii=True, mininterval=1, delay=5) as bar:
        for (seed,) in todo:
            began = time.perf_counter()
            found = rounded(experiment.measure(seed, settings, bar))
            runs.add([{"seed": seed, "seconds": round(time.perf_counter() - began, 1), "found": found}])
    return runs.record(seeds)


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
    """Nested dicts and lists with every float rounded to `digits` significant digits."""
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
