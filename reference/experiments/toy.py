"""Training of toy models: one recipe for all mixers, the same sweep of learning rates, results kept run by run."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch.nn import functional as F
from tqdm import tqdm

from reference.bench.measure import describe_machine
from reference.experiments.mixers import ToyLM
from reference.files import write_text
from reference.tasks import Questions, accuracy

Draw = Callable[[int, torch.Generator], Questions]


class Recipe(NamedTuple):
    """AdamW with betas (0.9, 0.98) and weight decay 0.01, one cycle with a tenth of warm-up, gradients clipped at 1."""

    steps: int
    batch_size: int = 32
    lrs: tuple[float, ...] = (1e-3, 3e-3, 1e-2)
    d_model: int = 64
    n_heads: int = 2
    key_dim: int = 16
    value_dim: int = 32


class Task(NamedTuple):
    """train draws batches of mixed difficulty; tests are drawn once, the same for every model and seed."""

    vocab_size: int
    train: Draw
    tests: dict[str, Draw]


def train_toy(task: Task, layers: tuple[str, ...], recipe: Recipe, lr: float, seed: int, bar: tqdm) -> dict:
    """One run: {"loss": last training loss, "seconds": ..., "accuracy": {test: share}}."""
    torch.manual_seed(seed)
    sizes = {"n_heads": recipe.n_heads, "key_dim": recipe.key_dim, "value_dim": recipe.value_dim}
    model = ToyLM(task.vocab_size, layers, d_model=recipe.d_model, **sizes)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=recipe.steps, pct_start=0.1)
    rng, began, losses = torch.Generator().manual_seed(1000 + seed), time.perf_counter(), []
    for _ in range(recipe.steps):
        batch = task.train(recipe.batch_size, rng)
        loss = F.cross_entropy(model(batch.ids).flatten(0, 1), batch.answers.flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.detach())
        bar.update()
    loss = torch.stack(losses[-20:]).mean().item()
    return {"loss": loss, "accuracy": evaluate_toy(model, task), "seconds": round(time.perf_counter() - began, 1)}


@torch.no_grad()
def evaluate_toy(model: ToyLM, task: Task, batch_size: int = 256) -> dict[str, float]:
    """Accuracy on each test of the task; 256 texts each, from seed 1, whatever the model's seed was."""
    found = {}
    for name, draw in task.tests.items():
        batch = draw(batch_size, torch.Generator().manual_seed(1))
        found[name] = round(accuracy(model(batch.ids), batch), 4)
    return found


class Study:
    """Runs of several models over learning rates and seeds, kept in a file as they end, so that a study goes on
    where it was; seeds are the outer loop, so that a study that was stopped has whole seeds."""

    def __init__(self, name: str, task: Task, models: dict[str, tuple[str, ...]], recipe: Recipe, out: Path | None):
        self.name, self.task, self.models, self.recipe, self.out = name, task, models, recipe, out
        self.config = {"recipe": recipe._asdict() | {"lrs": list(recipe.lrs)}, "tests": list(task.tests)}
        self.config |= {"models": {name: list(layers) for name, layers in models.items()}}
        self.runs: list[dict] = []
        if out is not None and out.exists():
            kept = json.loads(out.read_text(encoding="utf-8"))
            if kept["config"] != json.loads(json.dumps(self.config)):
                raise ValueError(f"out: {out} holds runs of another configuration; give another file, or remove it")
            self.runs = kept["runs"]

    def run(self, seeds: int) -> dict:
        """All runs that are not there yet. Returns the record, see `best_rates`."""
        wanted = [(seed, name, lr) for seed in range(seeds) for name in self.models for lr in self.recipe.lrs]
        done = {(run["seed"], run["model"], run["lr"]) for run in self.runs}
        todo = [x for x in wanted if x not in done]
        with tqdm(total=len(todo) * self.recipe.steps, desc=self.name, unit="step", ascii=True, mininterval=1) as bar:
            for seed, name, lr in todo:
                bar.set_postfix_str(f"{name}, lr {lr:g}, seed {seed}")
                run = train_toy(self.task, self.models[name], self.recipe, lr, seed, bar)
                self.runs.append({"model": name, "lr": lr, "seed": seed, **run})
                if self.out is not None:
                    write_text(self.out, json.dumps(self.record(), indent=1) + "\n")
        return self.record()

    def record(self) -> dict:
        about = {"experiment": self.name, "config": self.config, "machine": describe_machine("cpu")}
        about["seconds"] = round(sum(run["seconds"] for run in self.runs), 1)
        return about | {"summary": best_rates(self.runs, list(self.models)), "runs": self.runs}


def best_rates(runs: list[dict], models: list[str]) -> dict[str, dict]:
    """For each model the learning rate of the highest mean accuracy over all tests and seeds, and its accuracy:
    {"lr": ..., "accuracy": {test: [one per seed]}}. All rates are in the record's runs."""
    found = {}
    for model in models:
        by_rate: dict[float, list[dict]] = {}
        for run in sorted((r for r in runs if r["model"] == model), key=lambda r: r["seed"]):
            by_rate.setdefault(run["lr"], []).append(run)
        if not by_rate:
            continue
        most = max(len(r) for r in by_rate.values())
        whole = {lr: r for lr, r in by_rate.items() if len(r) == most}

        def mean(lr: float, whole: dict = whole) -> float:
            return sum(sum(r["accuracy"].values()) / len(r["accuracy"]) for r in whole[lr]) / len(whole[lr])

        best = max(whole, key=mean)
        tests = whole[best][0]["accuracy"]
        found[model] = {"lr": best, "accuracy": {t: [r["accuracy"][t] for r in whole[best]] for t in tests}}
    return found
