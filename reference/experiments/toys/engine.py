"""Training of toy models: one recipe for all mixers, the same sweep of learning rates, results kept run by run."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from reference.bench.measure import describe_machine
from reference.experiments.stored import kept_record
from reference.experiments.toys.members import AdamWs, Captured, side_by_side_members
from reference.experiments.toys.mixers import ToyLM, toy_cache_bytes
from reference.files import STORED, write_text
from reference.tasks import NOT_ASKED, PAD, Questions, asked

Difficulty = dict[str, int | bool]


class Stack(NamedTuple):
    """One model of a study: the mixer of each layer; key_dim None means the recipe's."""

    layers: tuple[str, ...]
    key_dim: int | None = None


class Recipe(NamedTuple):
    """What all models of a study share. The optimizer is members.AdamWs."""

    steps: int
    batch_size: int = 32
    lrs: tuple[float, ...] = (1e-3, 3e-3, 1e-2)
    d_model: int = 64
    n_heads: int = 2
    key_dim: int = 16
    value_dim: int = 32

    def heads(self, stack: Stack) -> dict[str, int]:
        return {"n_heads": self.n_heads, "key_dim": stack.key_dim or self.key_dim, "value_dim": self.value_dim}


class Task(NamedTuple):
    """draw(batch_size, rng, **difficulty) -> Questions. difficulty(rng, progress) is that of one training batch, with
    progress from 0 to 1 for tasks that grow; the tests are drawn once, the same for every model and seed."""

    vocab_size: int
    draw: Callable[..., Questions]
    difficulty: Callable[[torch.Generator, float], Difficulty]
    tests: dict[str, Difficulty]


class Run(NamedTuple):
    lr: float
    seed: int


def train_toys(task: Task, stack: Stack, recipe: Recipe, runs: list[Run], bar: tqdm, device: str = "cpu") -> list[dict]:
    """Train one model per run, side by side. Of each: {"lr", "seed", "loss": of training, at the end, "validation":
    loss on fresh texts of the trained difficulties, "accuracy": {test: share}, "seconds": its share of the time}.

    The seed sets the weights and the texts; the order of difficulties is the same for all, so that texts of several
    seeds have one length. A run's result does not depend on its neighbours.
    """
    began, seeds, models = time.perf_counter(), sorted({run.seed for run in runs}), []
    for run in runs:
        torch.manual_seed(run.seed)
        models.append(ToyLM(task.vocab_size, stack.layers, d_model=recipe.d_model, **recipe.heads(stack)))
    model = side_by_side_members(models).to(device)
    optimizer = AdamWs(model, [run.lr for run in runs], recipe.steps)
    step = training_step(model, optimizer, device)
    texts, order = [torch.Generator().manual_seed(1000 + seed) for seed in seeds], torch.Generator().manual_seed(999)
    member, losses = torch.tensor([seeds.index(run.seed) for run in runs]), []
    for n in range(recipe.steps):
        difficulty = task.difficulty(order, n / recipe.steps)
        drawn = [task.draw(recipe.batch_size, rng, **difficulty) for rng in texts]
        optimizer.advance()
        losses.append(step(*(torch.stack(x)[member] for x in zip(*drawn, strict=True))))
        bar.update(len(runs))
    found = evaluate_toys(model, task, device)
    trained = torch.stack(losses[-20:]).mean(0).tolist()
    seconds = round((time.perf_counter() - began) / len(runs), 1)
    return [
        run._asdict() | {"loss": round(trained[n], 4)} | found[n] | {"seconds": seconds} for n, run in enumerate(runs)
    ]


def training_step(model: ToyLM, optimizer: AdamWs, device: str) -> Callable[[Tensor, Tensor], Tensor]:
    """A function of ids and answers [M, B, T] that trains once and returns the losses [M]."""

    def losses_and_gradients(ids: Tensor, answers: Tensor) -> Tensor:
        loss = loss_of_members(model(ids), answers)
        loss.sum().backward()
        return loss.detach()

    def step(ids: Tensor, answers: Tensor) -> Tensor:
        loss = losses_and_gradients(ids, answers)
        optimizer.step()
        return loss

    if device == "cpu":
        return step

    def rehearse(ids: Tensor, answers: Tensor) -> None:
        losses_and_gradients(ids, answers)
        for p in model.parameters():
            p.grad = None

    captured = Captured(step, rehearse)

    def on_the_gpu(ids: Tensor, answers: Tensor) -> Tensor:
        missing = (0, -ids.shape[-1] % 16)  # few shapes are few graphs; padding behind a text changes nothing before it
        return captured(F.pad(ids, missing, value=PAD).to(device), F.pad(answers, missing, value=NOT_ASKED).to(device))

    return on_the_gpu


def loss_of_members(logits: Tensor, answers: Tensor) -> Tensor:
    """Mean cross entropy over the asked tokens of each member: logits [M, B, T, V], answers [M, B, T] -> [M]."""
    nats = F.cross_entropy(logits.flatten(0, 2), answers.flatten(), ignore_index=NOT_ASKED, reduction="none")
    return nats.view(len(answers), -1).sum(1) / (answers != NOT_ASKED).flatten(1).sum(1)


@torch.no_grad()
def evaluate_toys(model: ToyLM, task: Task, device: str, texts: int = 256, at_once: int = 64) -> list[dict]:
    """Of each member the validation loss (the rate is chosen by it) and the accuracy on each test. Tests are drawn from
    seed 1, validation from seed 2, whatever the seed of the training was."""
    M = len(model.embed.weight)
    rng, losses = torch.Generator().manual_seed(2), []
    for _ in range(texts // 16):
        batch = task.draw(16, rng, **task.difficulty(rng, 1.0))
        ids, answers = (x.to(device).expand(M, -1, -1) for x in batch)
        losses.append(loss_of_members(model(ids), answers))
    accuracy = {}
    for name, difficulty in task.tests.items():
        batch, right = task.draw(texts, torch.Generator().manual_seed(1), **difficulty), []
        for piece in (Questions(*x) for x in zip(*(y.split(at_once) for y in batch), strict=True)):
            said = model(piece.ids.to(device).expand(M, -1, -1)).argmax(-1).cpu()
            right.append((said == piece.answers)[:, asked(piece)])
        accuracy[name] = torch.cat(right, 1).float().mean(1).tolist()
    validation = torch.stack(losses).mean(0).tolist()
    return [
        {"validation": round(validation[n], 4), "accuracy": {name: round(x[n], 4) for name, x in accuracy.items()}}
        for n in range(M)
    ]


class Study:
    """Runs of several models over learning rates and seeds, kept in a file as models end, so that a study goes on
    where it was."""

    def __init__(
        self,
        name: str,
        task: Task,
        models: dict[str, Stack],
        recipe: Recipe,
        out: Path | None,
        device: str = "cpu",
        *,
        again: bool = False,
    ):
        self.name, self.task, self.models, self.recipe, self.out, self.device = name, task, models, recipe, out, device
        self.config = {"recipe": recipe._asdict() | {"lrs": list(recipe.lrs)}, "tests": {}, "models": {}}
        for test, difficulty in task.tests.items():
            tokens = task.draw(1, torch.Generator().manual_seed(1), **difficulty).ids.shape[1]
            self.config["tests"][test] = difficulty | {"tokens": tokens}
        for model, stack in models.items():
            heads = recipe.heads(stack)
            toy = ToyLM(task.vocab_size, stack.layers, d_model=recipe.d_model, **heads)
            self.config["models"][model] = {
                "layers": list(stack.layers),
                "key_dim": heads["key_dim"],
                "parameters": sum(p.numel() for p in toy.parameters()),
                "cache_bytes": {
                    test: toy_cache_bytes(stack.layers, about["tokens"], **heads)
                    for test, about in self.config["tests"].items()
                },
            }
        self.runs: list[dict] = []
        self.machines: list[dict] = []
        kept = None if again else kept_record(out, json.loads(json.dumps(self.config)))
        if kept is not None:
            self.runs, self.machines = kept["runs"], kept["machines"]

    def missing(self, seeds: int) -> dict[str, list[Run]]:
        """By model, the runs of seeds 0, 1, ... that are not there yet."""
        done = {(run["model"], run["lr"], run["seed"]) for run in self.runs}
        wanted = [Run(lr, seed) for seed in range(seeds) for lr in self.recipe.lrs]
        return {model: [run for run in wanted if (model, *run) not in done] for model in self.models}

    def run(self, seeds: int) -> dict:
        """All runs that are missing, those of a model side by side. Returns the record."""
        todo = self.missing(seeds)
        steps = self.recipe.steps * sum(len(runs) for runs in todo.values())
        machine = describe_machine(self.device)
        if steps and machine not in self.machines:
            self.machines.append(machine)
        with tqdm(total=steps, desc=self.name, unit="step", ascii=True, mininterval=1, disable=not steps) as bar:
            for model, runs in todo.items():
                if not runs:
                    continue
                bar.set_postfix_str(f"{model}, {len(runs)} runs")
                results = train_toys(self.task, self.models[model], self.recipe, runs, bar, self.device)
                self.runs += [{"model": model} | result for result in results]
                if self.out is not None:
                    write_text(self.out, as_lines(self.record()))
        return self.record()

    def record(self) -> dict:
        about = {"experiment": self.name, "config": self.config, "machines": self.machines}
        about["seconds"] = round(sum(run["seconds"] for run in self.runs), 1)
        order = list(self.models)
        runs = sorted(self.runs, key=lambda run: (order.index(run["model"]), run["lr"], run["seed"]))
        return about | {"summary": best_rates(runs, order), "runs": runs}


def as_lines(record: dict) -> str:
    """JSON with one line per run."""
    runs = ",\n  ".join(json.dumps(run) for run in record["runs"])
    head = json.dumps({key: value for key, value in record.items() if key != "runs"}, indent=1)
    return f'{head[:-2]},\n "runs": [\n  {runs}\n ]\n}}\n'


def load_record(name: str, folder: Path = STORED) -> dict:
    """A stored study, as `python -m reference experiment NAME` wrote it."""
    return json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))


def best_rates(runs: list[dict], models: list[str]) -> dict[str, dict]:
    """For each model the learning rate of the lowest validation loss, mean over seeds (of equals the lowest rate), and
    its results there:
    {"lr": ..., "seeds": [...], "validation": [one per seed], "accuracy": {test: [one per seed]}}. Tests choose nothing;
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
