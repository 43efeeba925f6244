"""`python -m reference experiment conversion`: a trained softmax model becomes a hybrid, by distilling.

The teacher is one layer of short convolution and four of softmax attention without positions, 64 channels, 4 heads of
16, two key heads. It learns facts of a text (facts.py), for as many steps as it takes until it recalls. Then all four
layers become Gated DeltaNet (training/convert.py), each imitates its own (stage 1), and hybrids with one softmax layer,
put together from both, are trained as a whole (stage 2). Two rules choose the layer that stays: "evenly", the last of
the four, and "recall", the one whose replacement alone costs most recall. A hybrid from random weights, softmax last,
is trained as the teacher was, and looked at when it has read as many tokens as the two stages. Of each seed the record
has, with the scores of facts.py,
  teacher, carried   scores; carried: the last layer kept, before any training
  errors             by layer, relative (layer_errors): carried, and after stage 1
  replaced, kept     scores with one layer replaced, and with one kept, after stage 1: four each, first layer first
  trained            by rule, "evenly", "recall" and "none" (no layer kept): keep, and looks, the scores before stage 2,
                     after a half of it and at its end
  scratch            the scores at the same parts of its training; scratch_end: at its end
  steps, tokens      of each part
  seconds
"""

import time
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from reference.experiments.command_line import (
    check_places,
    experiment_parser,
    print_results,
    read_options,
    say_stored,
    where_kept,
)
from reference.experiments.models.facts import (
    CLIMB,
    DONE,
    EXAM_QUESTIONS,
    EXAM_TEXTS,
    LADDER,
    LOAD,
    SCORES,
    Trained,
    full_texts,
    new_facts_model,
    scores_of,
    train_until_it_recalls,
)
from reference.experiments.records import Runs, mean_and_deviation
from reference.files import STORED
from reference.model.hybrid import HybridLM
from reference.tasks import Facts
from reference.training.convert import convert, distil, distil_layers, layer_errors, put_back

SOFTMAX_LAYERS = (1, 2, 3, 4)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Steps of each part, about 770 tokens each, and the one learning rate of each."""

    most: int = 1200  # of the teacher, and of the hybrid from random weights: both end once they recall
    layers: int = 60
    joint: int = 120
    looks: int = 2  # at a model in stage 2, and as often at the one from random weights
    rates: tuple[float, float, float] = (1e-2, 1e-2, 3e-3)  # teacher and scratch, stage 1, stage 2


SETTINGS, QUICK_SETTINGS = Settings(), Settings(most=6, layers=3, joint=2, looks=1)


def convert_and_measure(seed: int, settings: Settings, bar: tqdm) -> dict:
    """One seed of the record (see the module's docstring)."""
    began, task, (_, layer_lr, joint_lr) = time.perf_counter(), Facts(), settings.rates
    texts = {
        "layers": full_texts(task, 1000 + seed, settings.layers),
        "joint": full_texts(task, 2000 + seed, settings.joint),
    }
    parts = {part: Trained(len(batches), sum(ids.numel() for ids in batches)) for part, batches in texts.items()}
    teacher = new_facts_model(task, seed, ("full_attention",) * 4)
    parts["teacher"] = until_it_recalls(teacher, task, seed, settings, bar)
    run = {"seed": seed, "teacher": scores_of(teacher, task)}

    torch.manual_seed(4000 + seed)
    last, probe = SOFTMAX_LAYERS[-1], full_texts(task, 4000 + seed, 1)[0]
    linear = convert(teacher, [])
    run["carried"] = scores_of(put_back(linear, teacher, [last]), task)
    run["errors"] = {"carried": errors_of(linear, teacher, probe)}
    distil_layers(linear, teacher, texts["layers"], lr=layer_lr)
    bar.update(settings.layers)
    run["errors"]["distilled"] = errors_of(linear, teacher, probe)

    others = {n: [m for m in SOFTMAX_LAYERS if m != n] for n in SOFTMAX_LAYERS}
    run["replaced"] = [scores_of(put_back(linear, teacher, others[n]), task) for n in SOFTMAX_LAYERS]
    run["kept"] = [scores_of(put_back(linear, teacher, [n]), task) for n in SOFTMAX_LAYERS]
    recall = {n: found["recall"] for n, found in zip(SOFTMAX_LAYERS, run["replaced"], strict=True)}
    rules = {"evenly": [last], "recall": [min(recall, key=recall.get)], "none": []}

    run["trained"] = {}
    for rule, keep in rules.items():
        same = next((entry for entry in run["trained"].values() if entry["keep"] == keep), None)
        if same is not None:  # two rules, one choice
            run["trained"][rule] = same
            bar.update(settings.joint)
            continue
        model = put_back(linear, teacher, keep)
        looks = Looks(model, task, settings.joint, settings.looks)
        distil(model, teacher, texts["joint"], lr=joint_lr, look=looks)
        bar.update(settings.joint)
        run["trained"][rule] = {"keep": keep, "looks": looks.found}
    model = new_facts_model(task, 5000 + seed, ("linear_attention",) * 3 + ("full_attention",))
    looks = Looks(model, task, settings.layers + settings.joint, settings.looks)
    parts["scratch"] = until_it_recalls(model, task, 3000 + seed, settings, bar, looks)
    run |= {"scratch": looks.found, "scratch_end": scores_of(model, task)}
    run["steps"] = {part: took.steps for part, took in parts.items()}
    run["tokens"] = {part: took.tokens for part, took in parts.items()}
    return run | {"seconds": round(time.perf_counter() - began, 1)}


class Looks:
    """Scores of a model as it is trained: before the first step, and after each of `looks` equal parts of `steps`.

    Called with the number of steps done.
    """

    def __init__(self, model: HybridLM, task: Facts, steps: int, looks: int):
        self.model, self.task = model, task
        self.at = {round(steps * (n + 1) / looks) for n in range(looks)}
        self.found = [scores_of(model, task)]

    def __call__(self, step: int) -> None:
        if step in self.at:
            self.found.append(scores_of(self.model, self.task))


def until_it_recalls(
    model: HybridLM, task: Facts, seed: int, settings: Settings, bar: tqdm, looks: Looks | None = None
) -> Trained:
    """train_until_it_recalls, as long as settings allow; the bar advances by all steps that were allowed."""

    def look(step: int) -> None:
        bar.update()
        if looks is not None:
            looks(step)

    took = train_until_it_recalls(model, task, seed, lr=settings.rates[0], most=settings.most, look=look)
    bar.update(settings.most - took.steps)
    return took


@torch.no_grad()
def errors_of(student: HybridLM, teacher: HybridLM, ids: Tensor) -> list[float]:
    """layer_errors as numbers."""
    return [round(x.item(), 4) for x in layer_errors(student, teacher, ids)]


def conversion_summary(runs: list[dict]) -> dict:
    """By model, {score: [one per seed]}."""
    found: dict[str, dict] = {}
    for run in runs:
        models = {"teacher": run["teacher"], "carried, evenly": run["carried"]}
        for rule, entry in run["trained"].items():
            models |= {f"layers distilled, {rule}": entry["looks"][0], f"whole distilled, {rule}": entry["looks"][-1]}
        models |= {"scratch": run["scratch"][-1], "scratch, trained on": run["scratch_end"]}
        for name, scores in models.items():
            for score, x in scores.items():
                found.setdefault(name, {}).setdefault(score, []).append(x)
    return found


def table_of_scores(record: dict) -> str:
    """Mean and sample standard deviation over seeds, as Markdown."""
    lines = [f"| model | {' | '.join(SCORES)} |", "|---|" + "---|" * len(SCORES)]
    for name, scores in record["summary"].items():
        lines.append(f"| {name} | {' | '.join(mean_and_deviation(scores[x], '.3f') for x in SCORES)} |")
    return "\n".join(lines)


def main(argv: list[str]) -> int:
    """`python -m reference experiment conversion`."""
    parser = experiment_parser("conversion", __doc__)
    chosen = read_options(parser, "conversion", argv)
    file = where_kept(chosen, "conversion", None if chosen.quick else STORED / "conversion.json")
    settings = QUICK_SETTINGS if chosen.quick else SETTINGS
    torch.set_num_threads(chosen.threads)
    config = vars(settings) | LOAD | {"exam_texts": EXAM_TEXTS, "questions": EXAM_QUESTIONS}
    config |= {"ladder": LADDER, "climb": CLIMB, "done": DONE}
    try:
        runs = Runs("conversion", config, ("seed",), conversion_summary, file, again=chosen.again)
    except ValueError as error:
        parser.error(str(error))
    todo = [seed for (seed,) in runs.missing([(seed,) for seed in range(chosen.seeds)])]
    if todo:
        check_places(parser, file)
    else:
        say_stored(chosen.seeds, "conversion", file)
    per_seed = 2 * settings.most + settings.layers + 3 * settings.joint
    with tqdm(total=per_seed * len(todo), desc="conversion", ascii=True, mininterval=1, delay=5) as bar:
        for seed in todo:
            runs.add([convert_and_measure(seed, settings, bar)])
    record = runs.record(chosen.seeds)
    line = {"experiment": "conversion", "seeds": chosen.seeds, "metrics": record["summary"]}
    print_results(chosen, "conversion", table_of_scores(record), line, stored=not todo)
    return 0
