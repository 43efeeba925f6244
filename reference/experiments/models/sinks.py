"""`python -m reference experiment sinks`: small models with attention sinks, and with what prevents them.

Variants of one model: softmax; gated (a sigmoid gate on the attention output, elementwise, as Qwen3-Next); headwise
(one gate per head); sink_logit (a learned logit per head in the normalizer, as gpt-oss); off_by_one (the
same, fixed at 0: the 1 in the denominator); linear (Gated DeltaNet). Tasks: backcopy (Bigram-Backcopy, one
layer, one head) and text (bytes of the Python manual, four layers of four heads).

Per variant, one entry per seed:
  first_token_share   weight on the first token: mean over heads and over the queries from the 9th on that have
                      nothing to look up (in text: all queries from the 9th on)
  top_head_share      the same for the head with the largest share
  asking_share        first_token_share of queries that must look back
  value_ratio         length of the first token's value over that of the others
  max_activation      largest number in the residual stream; first_peak: the share of texts in which it is
                      at the first token; peak_ratio: max_activation over the median size
  loss, excess        nats per token of unseen text, and how much of it is avoidable
  spikes              steps at a learning rate of 0.05 whose loss is 0.5 above the lowest before
"""

import argparse
import math
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch.nn import functional as F
from tqdm import tqdm

from reference.experiments.command_line import (
    check_places,
    experiment_parser,
    print_results,
    read_options,
    say_stored,
    wants_stored,
    where_kept,
)
from reference.experiments.models.looking import look_inside
from reference.experiments.models.sink_variants import TASKS, VARIANTS, Setting, build
from reference.experiments.records import load_record, mean_and_deviation, write_record
from reference.files import STORED, write_bytes
from reference.model.hybrid import HybridLM
from reference.options import at_least, positive

WARM_UP_STEPS, FIRST_QUERY = 100, 8
FAST_LR, FAST_STEPS, SPIKE = 0.05, 200, 0.5


def train_variant(
    model: HybridLM, setting: Setting, seed: int, *, lr: float, steps: int, bar: tqdm, look_every: int | None = None
) -> tuple[list[float], list[dict]]:
    """Train with AdamW and a linear warm-up. Returns the losses of all steps, and measure_inside() with its "step".

    seed        of the texts
    look_every  steps between two measure_inside(); None: none
    """
    rng = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.98), weight_decay=0.0)
    losses, looks = [], []
    for n in range(steps):
        if look_every is not None and n % look_every == 0:
            looks.append({"step": n} | measure_inside(model, setting))
        ids = setting.draw(setting.batch_size, rng).ids
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1.0, (n + 1) / WARM_UP_STEPS)
        loss = F.cross_entropy(model(ids)[:, :-1].transpose(1, 2), ids[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        bar.update()
    return losses, looks


@torch.no_grad()
def measure_inside(model: HybridLM, setting: Setting, exam_seed: int = 99) -> dict[str, float]:
    """The numbers of the module's docstring, on texts that training never drew."""
    exam = setting.draw_exam(64, torch.Generator().manual_seed(exam_seed))
    inside = look_inside(model, exam.ids)
    late = torch.arange(exam.ids.shape[1]) >= FIRST_QUERY
    heads = torch.cat([w[..., 0] for w in inside.weights], 1)  # [B, layers x H, T]
    by_head = torch.stack([heads[:, h][late & ~exam.asking].mean() for h in range(heads.shape[1])])
    first = heads.mean(1)  # [B, T]
    values = torch.stack([v.mean(-1) for v in inside.value_norms]).mean(0)
    size = torch.stack(inside.residuals).abs()  # [n_layers + 1, B, T, hidden_size]
    peak_at = size.amax((0, 3)).argmax(1)  # [B]
    nats = F.cross_entropy(inside.logits[:, :-1].transpose(1, 2), exam.ids[:, 1:], reduction="none")
    found = {
        "first_token_share": first[late & ~exam.asking].mean(),
        "top_head_share": by_head.max(),
        "value_ratio": values[:, 0].mean() / values[:, 1:].mean(),
        "max_activation": size.max(),
        "first_peak": (peak_at == 0).float().mean(),
        "peak_ratio": size.max() / size.median(),
        "loss": nats.mean(),
    }
    if exam.asking.any():
        found["asking_share"] = first[late & exam.asking].mean()
    if setting.best_loss is not None:
        found["excess"] = (nats - setting.best_loss(exam)).mean()
    if heads.shape[1] > 1:
        found |= {f"head_{h + 1}_share": share for h, share in enumerate(by_head)}  # layer by layer
    return {name: x.item() for name, x in found.items()}


def count_spikes(losses: list[float]) -> int:
    """Steps after the warm-up whose loss is SPIKE above the lowest before, or not a number."""
    lowest, spikes = math.inf, 0
    for n, loss in enumerate(losses):
        spikes += n >= WARM_UP_STEPS and not loss < lowest + SPIKE
        lowest = min(lowest, loss)
    return spikes


def run_variants(
    task: str,
    variants: list[str],
    seeds: int,
    steps: int | None,
    *,
    fast: bool,
    lr: float | None = None,
    weights: Path | None = None,
) -> dict:
    """Train everything. The record: metrics per variant, lists over seeds, and the history of the models of seed 0.

    steps, lr  None: the task's
    fast       also train at FAST_LR, to count spikes
    weights    the folder for the models of seed 0; None: they are not stored
    """
    setting = TASKS[task]() if steps is None else TASKS[task](steps)
    setting = setting if lr is None else setting._replace(lr=lr)
    metrics: dict[str, dict[str, list[float]]] = {variant: {} for variant in variants}
    history = {}
    total = len(variants) * seeds * (setting.steps + FAST_STEPS * fast)
    with tqdm(total=total, desc=f"sinks, {task}", unit=" steps", ascii=True, mininterval=1) as bar:
        for variant in variants:
            for seed in range(seeds):
                model = build(setting, variant, seed)
                look_every = max(setting.steps // 24, 1) if seed == 0 else None
                _, looks = train_variant(
                    model, setting, seed, lr=setting.lr, steps=setting.steps, bar=bar, look_every=look_every
                )
                row = measure_inside(model, setting)
                if seed == 0:
                    history[variant] = [*looks, {"step": setting.steps} | row]
                    if weights is not None:
                        write_bytes(weights / f"sinks_{task}_{variant}.safetensors", save(model.state_dict()))
                if fast:
                    losses, _ = train_variant(
                        build(setting, variant, seed), setting, seed, lr=FAST_LR, steps=FAST_STEPS, bar=bar
                    )
                    row["spikes"] = count_spikes(losses)
                for name, value in row.items():
                    metrics[variant].setdefault(name, []).append(round(value, 4))
    for rows in history.values():
        for row in rows:
            row.update({name: round(value, 4) for name, value in row.items()})
    record = {"task": task, "seeds": seeds, "steps": setting.steps, "lr": setting.lr}
    return record | {"metrics": metrics, "history": history}


def load_trained(task: str, variant: str, folder: Path = STORED) -> HybridLM:
    """The model of seed 0 as `--weights` stored it."""
    model = build(TASKS[task](), variant, 0)
    model.load_state_dict(load_file(folder / f"sinks_{task}_{variant}.safetensors"))
    return model.requires_grad_(False)


def table(record: dict) -> str:
    """Mean and standard deviation over seeds, as Markdown."""
    names = [name for name in next(iter(record["metrics"].values())) if not name.startswith("head_")]
    lines = [f"| {record['task']} | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for variant, columns in record["metrics"].items():
        cells = [mean_and_deviation(columns[name]) for name in names]
        lines.append(f"| {variant} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def stored_sinks(chosen: argparse.Namespace) -> dict | None:
    """The stored record, cut to what was asked for; None if it doesn't hold that, or new runs were asked for."""
    record = load_record(f"sinks_{chosen.task}") if wants_stored(chosen) else None
    if record is None or not set(chosen.variants) <= set(record["metrics"]) or chosen.seeds > record["seeds"]:
        return None
    if chosen.steps not in (None, record["steps"]) or chosen.lr not in (None, record["lr"]):
        return None
    metrics = {x: {k: v[: chosen.seeds] for k, v in record["metrics"][x].items()} for x in chosen.variants}
    return record | {"seeds": chosen.seeds, "metrics": metrics}


def main(argv: list[str]) -> int:
    """`python -m reference experiment sinks`."""
    parser = experiment_parser("sinks", __doc__, weights="the models of seed 0", record="sinks_<task>")
    parser.add_argument("--task", choices=list(TASKS), default="backcopy", help="default backcopy")
    names = list(VARIANTS)
    parser.add_argument(
        "--variants",
        nargs="+",
        choices=names,
        default=names,
        metavar="NAME",
        help=f"of {', '.join(names)} (default: all)",
    )
    parser.add_argument("--steps", type=at_least(1), metavar="N", help="training steps (default 1200, text 700)")
    parser.add_argument("--lr", type=positive, help="learning rate (default 0.01, text 0.003)")
    chosen = read_options(parser, "sinks", argv)
    name = f"sinks_{chosen.task}"
    record = stored_sinks(chosen)
    stored = record is not None
    file = where_kept(chosen, name, None)
    check_places(parser, file, chosen.weights)
    if stored:
        say_stored(len(chosen.variants) * chosen.seeds, name, STORED / f"{name}.json")
    else:
        torch.set_num_threads(chosen.threads)
        steps = 900 if chosen.quick and chosen.steps is None else chosen.steps
        options = {"fast": not chosen.quick, "lr": chosen.lr, "weights": chosen.weights}
        record = run_variants(chosen.task, chosen.variants, chosen.seeds, steps, **options)
        if file is not None:
            write_record(file, record)
    print_results(chosen, name, table(record), record, stored=stored)
    return 0
