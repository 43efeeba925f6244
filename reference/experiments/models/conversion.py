"""`python -m reference experiment conversion`: a trained softmax model becomes a hybrid, by distilling.

The teacher is one layer of short convolution and four of softmax attention without positions, 64 channels, 4 heads of
16, two key heads. It learns tasks.Facts: a walk of words, and keys with answers of two words among them. Then all four
layers become Gated DeltaNet (training/convert.py), each imitates its own (stage 1), and hybrids with one softmax layer,
put together from both, are trained as a whole (stage 2). Two rules choose the layer that stays: "evenly", the last of
the four, and "recall", the one whose replacement alone costs most recall. A hybrid from random weights gets as many
tokens as both stages. Of each seed the record has
  teacher, carried   scores; carried: the last layer kept, before any training
  errors             by layer, relative (layer_errors): carried, and after stage 1
  replaced, kept     scores with one layer replaced, and with one kept, after stage 1: four each, first layer first
  trained            by rule, "evenly", "recall" and "none" (no layer kept): keep, and looks, the scores before stage 2,
                     after a half of it and at its end
  scratch            the scores at the same parts of its training
  tokens             of each part
  seconds
Scores: loss, nats per token of a text; recall, share of known answer tokens named, each behind the right ones before;
generated, share of answers written whole; among_text and among_random, share of answers that are likelier than three
others, of the same text or of random words.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from reference.experiments.command_line import (
    check_places,
    experiment_parser,
    print_results,
    read_options,
    say_stored,
    where_kept,
)
from reference.experiments.records import Runs, mean_and_deviation
from reference.files import STORED
from reference.model.cache import new_cache
from reference.model.config import HybridConfig
from reference.model.hybrid import HybridLM
from reference.tasks import Facts
from reference.training.convert import convert, distil, distil_layers, layer_errors, put_back
from reference.training.trainer import build_optimizer

SOFTMAX_LAYERS = (1, 2, 3, 4)
LOAD = {"facts": 16, "times": 2}  # of the last texts of training, and of the exam
EXAM_TEXTS, EXAM_QUESTIONS, CHOICES = 24, 128, 3
SCORES = ("loss", "recall", "generated", "among_text", "among_random")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Steps of each part, about 770 tokens each, and the one learning rate of each."""

    teacher: int = 420
    layers: int = 60
    joint: int = 60
    looks: int = 2  # at a model in stage 2, and as often at the one from random weights
    rates: tuple[float, float, float] = (1e-2, 1e-2, 3e-3)  # teacher and scratch, stage 1, stage 2


SETTINGS, QUICK_SETTINGS = Settings(), Settings(teacher=4, layers=3, joint=2, looks=1)


def facts_config(task: Facts, layers: tuple[str, ...]) -> HybridConfig:
    """One short convolution, then these layers."""
    heads = dict.fromkeys(("num_attention_heads", "linear_num_key_heads", "linear_num_value_heads"), 4)
    sizes = dict.fromkeys(("head_dim", "linear_key_head_dim", "linear_value_head_dim"), 16)
    return HybridConfig(
        vocab_size=task.vocab_size,
        hidden_size=64,
        intermediate_size=128,
        layer_types=("short_conv", *layers),
        num_key_value_heads=2,
        partial_rotary_factor=0.0,
        qk_norm=None,
        tie_word_embeddings=True,
        initializer_range=0.1,
        **heads,
        **sizes,
    )


def growing_texts(task: Facts, seed: int, steps: int) -> list[Tensor]:
    """ids of each step: texts of 2 facts at first, then 4, 8 and 16, always some 770 tokens together."""
    rng, found = np.random.default_rng(seed), []
    for step in range(steps):
        facts = next(n for n, until in ((2, 0.3), (4, 0.45), (8, 0.6), (16, 1.0)) if step < until * steps)
        times = LOAD["times"] if facts == LOAD["facts"] else 3
        found.append(task.draw(192 // (facts * times), rng, facts=facts, times=times).ids)
    return found


def full_texts(task: Facts, seed: int, steps: int) -> list[Tensor]:
    """ids of each step, with as many facts as the exam's."""
    rng = np.random.default_rng(seed)
    return [task.draw(6, rng, **LOAD).ids for _ in range(steps)]


@torch.no_grad()
def scores_of(model: HybridLM, task: Facts) -> dict[str, float]:
    """What the module's docstring calls scores; the exam is the same for all models and seeds."""
    texts = task.draw(EXAM_TEXTS, np.random.default_rng(10**6), **LOAD)
    logits, right = model(texts.ids)[:, :-1], texts.ids[:, 1:]
    named = (logits.argmax(-1) == right)[texts.known[:, 1:]]
    found = {"loss": F.cross_entropy(logits.mT, right).item(), "recall": named.float().mean().item()}
    asked = task.ask(EXAM_QUESTIONS, np.random.default_rng(10**6 + 1), facts=LOAD["facts"], choices=CHOICES)
    given = torch.cat([asked.answers[:, None], asked.others, asked.random], 1)  # [B, 7, words], the right one first
    cache, (B, n, _) = new_cache(model, len(given)), given.shape
    first = model(asked.ids, cache=cache)[:, None, -1:].expand(-1, n, -1, -1)
    cache.select([row for row in range(B) for _ in range(n)])
    behind = model(given[..., :-1].flatten(0, 1), cache=cache).unflatten(0, (B, n))
    log_p = torch.cat([first, behind], 2).log_softmax(-1)  # [B, 7, words, V]
    likelihood = log_p.gather(-1, given[..., None]).sum((2, 3))  # [B, 7]
    # Greedy text is right if and only if each token is the likeliest behind the right ones before it.
    found["generated"] = (log_p.argmax(-1) == given)[:, 0].all(-1).float().mean().item()
    for name, others in (("among_text", slice(1, 1 + CHOICES)), ("among_random", slice(1 + CHOICES, None))):
        found[name] = (likelihood[:, :1] > likelihood[:, others]).all(1).float().mean().item()
    return {name: round(x, 4) for name, x in found.items()}


def train_on_facts(model: HybridLM, batches: list[Tensor], lr: float, look: Callable[[int], None]) -> None:
    """Train on the next token; look is called after each step with the number of steps done. The rate falls over the
    last third."""
    optimizer, steps = build_optimizer(model, lr, 0.01), len(batches)
    for step, ids in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1, (step + 1) / 20, max(0.02, 3 * (1 - step / steps)))
        optimizer.zero_grad()
        F.cross_entropy(model(ids)[:, :-1].mT, ids[:, 1:]).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        look(step + 1)


def new_facts_model(task: Facts, seed: int, layers: tuple[str, ...]) -> HybridLM:
    """Random weights of this seed."""
    torch.manual_seed(seed)
    return HybridLM(facts_config(task, layers))


def convert_and_measure(seed: int, settings: Settings, bar: tqdm) -> dict:
    """One seed of the record (see the module's docstring)."""
    began, task, (lr, layer_lr, joint_lr) = time.perf_counter(), Facts(), settings.rates
    texts = {
        "teacher": growing_texts(task, seed, settings.teacher),
        "layers": full_texts(task, 1000 + seed, settings.layers),
        "joint": full_texts(task, 2000 + seed, settings.joint),
        "scratch": growing_texts(task, 3000 + seed, settings.layers + settings.joint),
    }
    teacher = new_facts_model(task, seed, ("full_attention",) * 4)
    train_on_facts(teacher, texts["teacher"], lr, lambda step: bar.update())
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
        looks = Looks(model, task, settings.joint, settings.looks, bar)
        distil(model, teacher, texts["joint"], lr=joint_lr, look=looks)
        run["trained"][rule] = {"keep": keep, "looks": looks.found}
    model = new_facts_model(task, 5000 + seed, ("linear_attention",) * 3 + ("full_attention",))
    looks = Looks(model, task, len(texts["scratch"]), settings.looks, bar)
    train_on_facts(model, texts["scratch"], lr, looks)
    run["scratch"] = looks.found
    run["tokens"] = {part: sum(ids.numel() for ids in batches) for part, batches in texts.items()}
    return run | {"seconds": round(time.perf_counter() - began, 1)}


class Looks:
    """Scores of a model as it is trained: before the first step, and after each of `looks` equal parts of the steps.

    Called with the number of steps done; the bar advances by one.
    """

    def __init__(self, model: HybridLM, task: Facts, steps: int, looks: int, bar: tqdm):
        self.model, self.task, self.bar = model, task, bar
        self.at = {round(steps * (n + 1) / looks) for n in range(looks)}
        self.found = [scores_of(model, task)]

    def __call__(self, step: int) -> None:
        self.bar.update()
        if step in self.at:
            self.found.append(scores_of(self.model, self.task))


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
        for name, scores in (models | {"scratch": run["scratch"][-1]}).items():
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
    try:
        runs = Runs("conversion", config, ("seed",), conversion_summary, file, again=chosen.again)
    except ValueError as error:
        parser.error(str(error))
    todo = [seed for (seed,) in runs.missing([(seed,) for seed in range(chosen.seeds)])]
    if todo:
        check_places(parser, file)
    else:
        say_stored(chosen.seeds, "conversion", file)
    per_seed = settings.teacher + 2 * settings.layers + 4 * settings.joint
    with tqdm(total=per_seed * len(todo), desc="conversion", ascii=True, mininterval=1, delay=5) as bar:
        for seed in todo:
            runs.add([convert_and_measure(seed, settings, bar)])
    record = runs.record(chosen.seeds)
    line = {"experiment": "conversion", "seeds": chosen.seeds, "metrics": record["summary"]}
    print_results(chosen, "conversion", table_of_scores(record), line, stored=not todo)
    return 0
