"""Run one of the studies of chapter 10: every model, every learning rate, every seed."""

import json

import torch

from reference.experiments.stored import how_again, say_stored, where_kept
from reference.experiments.toys.engine import Study
from reference.experiments.toys.studies import STUDIES
from reference.experiments.untrained.engine import experiment_parser, read_options
from reference.files import STORED, refuse_installed


def main(argv: list[str]) -> int:
    name = argv[0]
    setting = STUDIES[name]
    parser = experiment_parser(name, setting.about, "few models, one learning rate, short: a few minutes a seed", 3)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--models", nargs="+", metavar="NAME", help="only these; kept only with --out")
    chosen = read_options(parser, argv[1:], 3)
    seeds = chosen.seeds
    torch.set_num_threads(chosen.threads)
    models, recipe = setting.models, setting.recipe
    if chosen.models and (unknown := set(chosen.models) - models.keys()):
        parser.error(f"--models: expected some of {list(models)}, got {sorted(unknown)}")
    if chosen.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device: this machine has no CUDA GPU that PyTorch can use; leave it out for the CPU")
    wanted = chosen.models or (setting.quick if chosen.quick else models)
    recipe = setting.quick_recipe if chosen.quick else recipe
    out = where_kept(chosen, name, STORED / f"{name}.json", keep=not chosen.quick and not chosen.models)
    stacks = {x: models[x] for x in wanted}
    try:
        study = Study(name, setting.task(), stacks, recipe, out, chosen.device, again=chosen.again)
        stored = not any(study.missing(seeds).values())
        refuse_installed(None if stored else out)
    except ValueError as error:
        parser.error(str(error))
    if stored:
        say_stored(len(study.runs), name, out)
    record = study.run(seeds)
    print(as_table(record))
    if stored:
        print(how_again(f"runs/{name}.json", "FILE"))
    if chosen.json:
        print(json.dumps({"experiment": name, "quick": chosen.quick, "seeds": seeds, "metrics": metrics(record)}))
    return 0


def metrics(record: dict) -> dict[str, dict]:
    """By model, lists over seeds; for the two headline studies under the names of their questions."""
    found = {}
    for model, entry in record["summary"].items():
        by_test = entry["accuracy"]
        tests = list(by_test)
        if record["experiment"] == "two_tasks":
            recall, parity = ([t for t in tests if t.startswith(kind)][-1] for kind in ("recall", "parity"))
            found[model] = {"recall": by_test[recall], "parity": by_test[parity]}
        elif record["experiment"] == "overwrite":
            found[model] = {"accuracy_hardest": by_test[tests[-1]]}
        else:
            found[model] = {"accuracy": by_test}
    return found


def as_table(record: dict) -> str:
    """Markdown: mean over seeds, and lowest to highest, at each model's best learning rate."""
    tests = record["config"]["tests"]
    lines = [f"| model | lr | {' | '.join(tests)} |", "|---|---|" + "---|" * len(tests)]
    for model, entry in record["summary"].items():
        cells = []
        for test in tests:
            x = entry["accuracy"][test]
            spread = f" ({min(x):.2f} to {max(x):.2f})" if len(x) > 1 else ""
            cells.append(f"{sum(x) / len(x):.2f}{spread}")
        lines.append(f"| {model} | {entry['lr']:g} | {' | '.join(cells)} |")
    return "\n".join(lines)
