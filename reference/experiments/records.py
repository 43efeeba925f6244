"""Records of experiments: which runs a file holds, what is missing, and writing them as they end.

A record is JSON. Studies of toys and experiments without training write
  experiment   its name
  config       what all runs share; runs of another config don't go into the same file
  machine      on which the latest runs ran; machines: all of them
  seconds      of all runs
  summary      of all runs
  runs         one entry per run, told apart by the names in `key`
The records of `sinks` and `hybrid`, whose entries their modules describe, are written once, at the end.
"""

import json
import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from reference.bench.measure import describe_machine
from reference.files import STORED, write_text


class Runs:
    """The runs of one experiment, kept in a file as they end, so that a later call runs only what is missing.

    name       of the experiment
    config     what all runs share, as JSON can hold it
    key        names of the entries of a run that tell it from the others; runs are sorted by them
    summarize  runs -> the record's summary
    file       None: nothing is kept
    again      begin without runs, whatever the file holds
    order      by name in `key`, the order of values that sort by place and not by size
    Raises ValueError if the file is no record or holds runs of another config.
    """

    def __init__(
        self,
        name: str,
        config: dict,
        key: tuple[str, ...],
        summarize: Callable[[list[dict]], dict],
        file: Path | None = None,
        *,
        again: bool = False,
        order: dict[str, list] | None = None,
    ):
        self.name, self.key, self.summarize, self.file, self.order = name, key, summarize, file, order or {}
        self.config = json.loads(json.dumps(config))
        kept = None if again else kept_record(file, self.config)
        self.runs: list[dict] = [] if kept is None else kept["runs"]
        self.machines: list[dict] = [] if kept is None else kept.get("machines") or [kept["machine"]]

    def missing(self, wanted: Iterable[tuple]) -> list[tuple]:
        """Those of the wanted runs, given by the values of `key`, that are not there yet."""
        there = {self._values(run) for run in self.runs}
        return [values for values in wanted if values not in there]

    def add(self, runs: list[dict], device: str = "cpu") -> None:
        """Runs that have just ended on this machine's `device`: they are in the file when this returns."""
        machine = describe_machine(device)
        self.machines = [other for other in self.machines if other != machine] + [machine]
        self.runs = sorted([*self.runs, *runs], key=self._place)
        if self.file is not None:
            write_record(self.file, self.record())

    def record(self, seeds: int | None = None) -> dict:
        """The record, of all runs or of those with a seed below `seeds`."""
        runs = [run for run in self.runs if seeds is None or run["seed"] < seeds]
        return {
            "experiment": self.name,
            "config": self.config,
            "machine": self.machines[-1],
            "machines": self.machines,
            "seconds": round(sum(run["seconds"] for run in runs), 1),
            "summary": self.summarize(runs),
            "runs": runs,
        }

    def _values(self, run: dict) -> tuple:
        return tuple(run[name] for name in self.key)

    def _place(self, run: dict) -> tuple:
        return tuple(self.order[x].index(run[x]) if x in self.order else run[x] for x in self.key)


def kept_record(file: Path | None, config: dict) -> dict | None:
    """The record in `file`, None if there is none. ValueError if it is no record, or one of another config."""
    if file is None or not file.exists():
        return None
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        raise ValueError(f"out: {file} is not a record of an experiment; give another file") from None
    if not isinstance(kept, dict) or kept.get("config") != config:
        raise ValueError(f"out: {file} holds runs of another configuration; give another file, or remove it")
    return kept


def load_record(name: str, folder: Path = STORED) -> dict:
    """A stored record, as `python -m reference experiment` wrote it into NAME.json."""
    return json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))


def mean_and_deviation(values: Sequence[float], form: str = ".3g") -> str:
    """ "0.84 ± 0.03": mean and sample standard deviation over seeds; of one seed the value alone."""
    mean = f"{statistics.fmean(values):{form}}"
    return f"{mean} ± {statistics.stdev(values):{form}}" if len(values) > 1 else mean


def write_record(file: Path, record: dict) -> None:
    """As JSON, one line per entry, of a list of runs one line per run."""
    entries = []
    for name, value in record.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            value = "[\n  " + ",\n  ".join(json.dumps(x) for x in value) + "\n ]"
        else:
            value = json.dumps(value)
        entries.append(f" {json.dumps(name)}: {value}")
    write_text(file, "{\n" + ",\n".join(entries) + "\n}\n")
