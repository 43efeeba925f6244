"""Training of toy models: one recipe for all mixers, the same sweep of learning rates, many runs side by side."""

import time
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from reference.experiments.toys.members import AdamWs, Captured, side_by_side_members
from reference.experiments.toys.mixers import ToyLM
from reference.tasks import NOT_ASKED, PAD, Questions, asked

Difficulty = dict[str, int | bool]
Device = Literal["cpu", "cuda"]
LATEST, FALL = 50, 200  # steps whose mean loss says whether a run is solved; steps that it takes to end then


class Stack(NamedTuple):
    """One model of a study: the name of each layer's mixer; key_dim None means the recipe's."""

    layers: tuple[str, ...]
    key_dim: int | None = None


class Recipe(NamedTuple):
    """What all models of a study share.

    steps       updates of the weights, by members.AdamWs
    batch_size  texts of one step
    lrs         learning rates; each model is trained at all of them
    d_model     width of a model
    n_heads     of each mixer
    key_dim     channels of one head's q and k; a stack may have its own
    value_dim   channels of one head's v
    tied        the embedding is the head as well
    constant    the learning rate stays where it is after a warm-up of members.RISE steps, instead of falling
    every_layer a loss at the output of every layer, which the final norm and the head read: the task says what a layer
                can know (draw's `layers`); the mean of all is trained, the last one is the loss of validation
    solved      once a run's loss, mean of LATEST steps, is below, its rate falls to 0 in FALL steps, and it ends; the
                rates of others fall so at the end of all steps. None: neither
    """

    steps: int
    batch_size: int = 32
    lrs: tuple[float, ...] = (1e-3, 3e-3, 1e-2)
    d_model: int = 64
    n_heads: int = 2
    key_dim: int = 16
    value_dim: int = 32
    tied: bool = False
    constant: bool = False
    every_layer: bool = False
    solved: float | None = None

    def heads(self, stack: Stack) -> dict[str, int]:
        """n_heads, key_dim and value_dim of one model, as arguments of ToyLM."""
        return {"n_heads": self.n_heads, "key_dim": stack.key_dim or self.key_dim, "value_dim": self.value_dim}


class Task(NamedTuple):
    """What the models of a study learn, and what they are tested on.

    draw        (batch_size, rng, **difficulty) -> Questions
    difficulty  (rng, progress) -> that of one training batch, with progress from 0 to 1 for tasks that grow
    tests       by name, drawn once: the same texts for every model and seed
    """

    vocab_size: int
    draw: Callable[..., Questions]
    difficulty: Callable[[torch.Generator, float], Difficulty]
    tests: dict[str, Difficulty]


class Run(NamedTuple):
    """One training of one model. The seed sets the initial weights and the texts."""

    lr: float
    seed: int


def train_toys(
    task: Task, stack: Stack, recipe: Recipe, runs: list[Run], bar: tqdm, device: Device = "cpu"
) -> list[dict]:
    """Train one model per run, side by side. bar advances by len(runs) at each step. Returns, of each run, its lr and
    seed and

    loss        of training, mean of the last 20 steps
    validation  loss on fresh texts of the trained difficulties
    accuracy    {test: share of right answers}
    steps       that it took, if the recipe lets a run end early
    seconds     its share of the time

    The order of difficulties is the same for all runs, so that texts of several seeds have one length. A run's result
    does not depend on its neighbours.
    """
    began, seeds = time.perf_counter(), sorted({run.seed for run in runs})
    models = []
    for run in runs:
        torch.manual_seed(run.seed)
        models.append(new_toy(task, stack, recipe))
    model = side_by_side_members(models).to(device)
    optimizer = AdamWs(model, [run.lr for run in runs], recipe.steps, constant=recipe.constant)
    step = training_step(model, optimizer, device, every_layer=recipe.every_layer)
    texts = [torch.Generator().manual_seed(1000 + seed) for seed in seeds]
    order = torch.Generator().manual_seed(999)
    member = torch.tensor([seeds.index(run.seed) for run in runs])
    by_layer = {"layers": len(stack.layers)} if recipe.every_layer else {}
    losses, end, rates = [], [recipe.steps] * len(runs), optimizer.lrs.clone()
    for n in range(recipe.steps):
        difficulty = task.difficulty(order, n / recipe.steps) | by_layer
        drawn = [task.draw(recipe.batch_size, rng, **difficulty) for rng in texts]
        optimizer.advance()
        losses.append(step(*(torch.stack(x)[member] for x in zip(*drawn, strict=True))))
        bar.update(len(runs))
        if recipe.solved is None:
            continue
        if n + 1 >= LATEST:
            solved = (torch.stack(losses[-LATEST:]).mean(0) < recipe.solved).tolist()
            end = [min(last, n + 1 + FALL) if now else last for last, now in zip(end, solved, strict=True)]
        for m, last in enumerate(end):
            optimizer.lrs[m] = rates[m] * min(max(last - n - 1, 0) / FALL, 1)
        if max(end) <= n + 1:
            bar.update((recipe.steps - n - 1) * len(runs))
            break
    found = evaluate_toys(model, task, device)
    seconds = round((time.perf_counter() - began) / len(runs), 1)
    results = []
    for n, run in enumerate(runs):
        trained = torch.stack(losses[max(end[n] - 20, 0) : end[n]])[:, n].mean().item()
        steps = {} if recipe.solved is None else {"steps": end[n]}
        results.append(run._asdict() | {"loss": digits(trained)} | found[n] | steps | {"seconds": seconds})
    return results


def digits(loss: float) -> float:
    """Six significant ones: with four decimals, two rates that both learn a task are equal, and the lower is chosen."""
    return float(f"{loss:.6g}")


def new_toy(task: Task, stack: Stack, recipe: Recipe) -> ToyLM:
    """One model of a study, with fresh weights, as a group of one."""
    return ToyLM(task.vocab_size, stack.layers, d_model=recipe.d_model, tied=recipe.tied, **recipe.heads(stack))


def training_step(
    model: ToyLM, optimizer: AdamWs, device: Device, *, every_layer: bool = False
) -> Callable[[Tensor, Tensor], Tensor]:
    """A function of ids [M, B, T] and answers, alike or, for every layer, [M, layers, B, T], that trains once and
    returns the losses [M]."""

    def losses_and_gradients(ids: Tensor, answers: Tensor) -> Tensor:
        if every_layer:
            of_layers = zip(model.after_layers(ids), answers.unbind(1), strict=True)
            loss = torch.stack([loss_of_members(model.read(x), right) for x, right in of_layers]).mean(0)
        else:
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
def evaluate_toys(model: ToyLM, task: Task, device: Device, texts: int = 256, at_once: int = 64) -> list[dict]:
    """Of each member {"validation": loss, "accuracy": {test: share of right answers}}.

    texts    of the validation, and of each test; at_once: texts of one batch of a test
    The learning rate is chosen by the validation. Tests are drawn from seed 1 and the validation from seed 2, whatever
    the seed of the training was.
    """
    M = len(model.embed.weight)
    rng, losses = torch.Generator().manual_seed(2), []
    for _ in range(texts // 16):
        batch = task.draw(16, rng, **task.difficulty(rng, 1.0))
        ids, answers = (x.to(device).expand(M, -1, -1) for x in batch)
        losses.append(loss_of_members(model(ids), answers))
    validation = torch.stack(losses).mean(0).tolist()
    accuracy = {}
    for name, difficulty in task.tests.items():
        batch, right = task.draw(texts, torch.Generator().manual_seed(1), **difficulty), []
        for piece in (Questions(*x) for x in zip(*(y.split(at_once) for y in batch), strict=True)):
            said = model(piece.ids.to(device).expand(M, -1, -1)).argmax(-1).cpu()
            right.append((said == piece.answers)[:, asked(piece)])
        accuracy[name] = torch.cat(right, 1).float().mean(1).tolist()
    return [
        {"validation": digits(validation[n]), "accuracy": {name: round(x[n], 4) for name, x in accuracy.items()}}
        for n in range(M)
    ]
