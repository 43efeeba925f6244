"""Run one of the studies of chapter 10: every model, every learning rate, every seed."""

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
from reference.experiments.toys.mixers import toy_cache_bytes
from reference.experiments.toys.studies import STUDIES
from reference.experiments.toys.training import Device, Recipe, Run, Stack, Task, new_toy, train_toys
from reference.files import STORED
from reference.options import add_device

LATER_OPTIONS = ("tied", "constant", "every_layer", "solved")  # of a recipe: a config names them if they are used


class Study(NamedTuple):
    """What is trained: a task, the models compared, by name, and the recipe that they share."""

    name: str
    task: Task
    models: dict[str, Stack]
    recipe: Recipe

    def config(self) -> dict:
        """What all runs share, as it is stored: the recipe; of each test its difficulty and length; of each model its
        layers, parameters, and bytes of cache after each test."""
        tests = {}
        for test, difficulty in self.task.tests.items():
            tokens = self.task.draw(1, torch.Generator().manual_seed(1), **difficulty).ids.shape[1]
            tests[test] = difficulty | {"tokens": tokens}
        models = {}
        for model, stack in self.models.items():
            heads, toy = self.recipe.heads(stack), new_toy(self.task, stack, self.recipe)
            models[model] = {
                "layers": list(stack.layers),
                "key_dim": heads["key_dim"],
                "parameters": sum(p.numel() for p in toy.parameters()),
                "cache_bytes": {
                    test: toy_cache_bytes(stack.layers, about["tokens"], **heads) for test, about in tests.items()
                },
            }
        recipe = self.recipe._asdict() | {"lrs": list(self.recipe.lrs)}
        for option, default in Recipe._field_defaults.items():
            if option in LATER_OPTIONS and recipe[option] == default:
                del recipe[option]  # records from before it was there hold the same config
        return {"recipe": recipe, "tests": tests, "models": models}

    def wanted(self, seeds: int) -> list[tuple[str, float, int]]:
        """(model, learning rate, seed) of all runs."""
        return [(model, lr, seed) for model in self.models for seed in range(seeds) for lr in self.recipe.lrs]


def runs_of_study(study: Study, file: Path | None, *, again: bool = False) -> Runs:
    """The runs that `file` holds. ValueError if it holds those of another configuration."""
    order = list(study.models)
    return Runs(
        study.name,
        study.config(),
        ("model", "lr", "seed"),
        lambda runs: best_rates(runs, order),
        file,
        again=again,
        order={"model": order},
    )


def run_study(study: Study, runs: Runs, seeds: int, device: Device = "cpu") -> dict:
    """Train what is missing of seeds 0, 1, ..., the runs of a model side by side. Returns the record of these seeds."""
    todo: dict[str, list[Run]] = {}
    for model, lr, seed in runs.missing(study.wanted(seeds)):
        todo.setdefault(model, []).append(Run(lr, seed))
    steps = study.recipe.steps * sum(len(x) for x in todo.values())
    with tqdm(total=steps, desc=study.name, unit="step", ascii=True, mininterval=1, disable=not steps) as bar:
        for model, of_model in todo.items():
            bar.set_postfix_str(f"{model}, {len(of_model)} runs")
            found = train_toys(study.task, study.models[model], study.recipe, of_model, bar, device)
            runs.add([{"model": model} | result for result in found], device)
    return runs.record(seeds)


def best_rates(runs: list[dict], models: list[str]) -> dict[str, dict]:
    """For each model the learning rate of the lowest validation loss, mean over seeds (the lowest rate of equals), and
    its results there:
    {"lr": ..., "seed": [...], "validation": [one per seed], "accuracy": {test: [one per seed]}}. Tests choose nothing;
    the results at all rates are in the record's runs."""
    found = {}
    for model in models:
        by_rate: dict[float, list[dict]] = {}
        for run in sorted((r for r in runs if r["model"] == model), key=lambda r: r["seed"]):
            by_rate.setdefault(run["lr"], []).append(run)
        if not by_rate:
            continue
        most = max(len(x) for x in by_rate.values())
        losses = {lr: sum(r["validation"] for r in x) / most for lr, x in by_rate.items() if len(x) == most}
        best = min(losses, key=losses.get)
        found[model] = {"lr": best} | {key: [r[key] for r in by_rate[best]] for key in ("seed", "validation")}
        tests = by_rate[best][0]["accuracy"]
        found[model]["accuracy"] = {test: [r["accuracy"][test] for r in by_rate[best]] for test in tests}
    return found


def edge_of_rates(record: dict, model: str) -> str | None:
    """Where a model's best rate stands among those it was trained at: "lowest", "highest" or "only", so that another
    might be better still; None between others."""
    tried = {run["lr"] for run in record["runs"] if run["model"] == model}
    if len(tried) == 1:
        return "only"
    return {min(tried): "lowest", max(tried): "highest"}.get(record["summary"][model]["lr"])


def metrics(record: dict) -> dict[str, dict]:
    """By model, lists over seeds; of four studies under the names of their questions: of recall_by_parity four
    pairs, which are trained from the first step to the last."""
    found = {}
    for model, entry in record["summary"].items():
        by_test = entry["accuracy"]
        tests = list(by_test)
        if record["experiment"] == "two_tasks":
            recall, parity = ([t for t in tests if t.startswith(kind)][-1] for kind in ("recall", "parity"))
            found[model] = {"recall": by_test[recall], "parity": by_test[parity]}
        elif record["experiment"] == "overwrite":
            found[model] = {"accuracy_hardest": by_test[tests[-1]]}
        elif record["experiment"] == "multi_hop":
            found[model] = {"hops_1": by_test["1 hop, 4 chains"], "hops_2": by_test["2 hops, 4 chains"]}
        elif record["experiment"] == "recall_by_parity":
            found[model] = {"accuracy": by_test[tests[0]]}
        else:
            found[model] = {"accuracy": by_test}
    return found


def as_table(record: dict) -> str:
    """Markdown: mean over seeds, and lowest to highest, at each model's best learning rate. <, > and ! mark a rate that
    was the lowest, the highest, or the only one of those tried."""
    tests = record["config"]["tests"]
    lines = [f"| model | lr | {' | '.join(tests)} |", "|---|---|" + "---|" * len(tests)]
    for model, entry in record["summary"].items():
        cells = []
        for test in tests:
            x = entry["accuracy"][test]
            spread = f" ({min(x):.2f} to {max(x):.2f})" if len(x) > 1 else ""
            cells.append(f"{sum(x) / len(x):.2f}{spread}")
        mark = {None: "", "lowest": " <", "highest": " >", "only": " !"}[edge_of_rates(record, model)]
        lines.append(f"| {model} | {entry['lr']:g}{mark} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(argv: list[str]) -> int:
    """`python -m reference experiment NAME ...` for the study that argv[0] names."""
    name = argv[0]
    setting = STUDIES[name]
    parser = experiment_parser(name)
    add_device(parser)
    parser.add_argument("--models", nargs="+", metavar="NAME", help="only these; kept only with --out or --again")
    chosen = read_options(parser, name, argv[1:])
    if chosen.models and (unknown := set(chosen.models) - setting.models.keys()):
        parser.error(f"--models: expected some of {list(setting.models)}, got {sorted(unknown)}")
    torch.set_num_threads(chosen.threads)
    models = chosen.models or (setting.quick if chosen.quick else setting.models)
    recipe = setting.quick_recipe if chosen.quick else setting.recipe
    study = Study(name, setting.task(), {x: setting.models[x] for x in models}, recipe)
    whole = not chosen.quick and not chosen.models
    file = where_kept(chosen, name, STORED / f"{name}.json" if whole else None)
    try:
        runs = runs_of_study(study, file, again=chosen.again)
        stored = not runs.missing(study.wanted(chosen.seeds))
    except ValueError as error:
        parser.error(str(error))
    check_places(parser, None if stored else file)
    if stored:
        say_stored(len(study.wanted(chosen.seeds)), name, file)
    record = run_study(study, runs, chosen.seeds, chosen.device)
    line = {"experiment": name, "quick": chosen.quick, "seeds": chosen.seeds, "metrics": metrics(record)}
    print_results(chosen, name, as_table(record), line, stored=stored)
    return 0
