"""Which mixer does which task: the studies behind chapter 10. Each is a task, the models compared, and a recipe."""

from collections.abc import Callable
from typing import NamedTuple

import torch

from reference.experiments.toy import Draw, Recipe, Task
from reference.tasks import (
    AssociativeRecall,
    MultiHop,
    MultiTurn,
    Overwriting,
    Parity,
    Permutations,
    RecallAndParity,
    Stream,
)


class StudySetting(NamedTuple):
    about: str
    minutes: int  # of one core, all runs of the full study with three seeds
    task: Callable[[], Task]
    models: dict[str, tuple[str, ...]]
    recipe: Recipe
    quick: tuple[str, ...]  # the models of --quick
    quick_recipe: Recipe


def one_of(values: tuple[int, ...] | range, rng: torch.Generator) -> int:
    """A random element."""
    return values[int(torch.randint(len(values), (1,), generator=rng))]


def _fixed(draw: Callable, **difficulty: int) -> Draw:
    return lambda batch_size, rng: draw(batch_size, rng, **difficulty)


def _recall() -> Task:
    task = AssociativeRecall()
    tests = {f"{n} pairs": _fixed(task.draw, pairs=n) for n in (4, 8, 16, 32, 48)}
    return Task(task.vocab_size, lambda B, rng: task.draw(B, rng, pairs=one_of((4, 8, 16), rng)), tests)


def _overwrite() -> Task:
    task = Overwriting()
    tests = {f"{n} times": _fixed(task.draw, times=n) for n in (1, 2, 4, 8)}
    return Task(task.vocab_size, lambda B, rng: task.draw(B, rng, times=one_of((1, 2, 4), rng)), tests)


def _stream() -> Task:
    task = Stream()
    tests = {f"{n} pairs": _fixed(task.draw, pairs=n) for n in (8, 32, 64, 128, 256)}
    return Task(task.vocab_size, lambda B, rng: task.draw(B, rng, pairs=one_of(range(8, 33), rng)), tests)


def _two_tasks() -> Task:
    task = RecallAndParity()

    def train(B: int, rng: torch.Generator):
        return task.draw(B, rng, pairs=one_of((4, 8, 16, 32), rng), length=one_of(range(3, 97), rng))

    tests = {f"recall, {n} pairs": _fixed(task.draw, pairs=n) for n in (16, 32, 48)}
    tests |= {f"parity, {n} bits": _fixed(task.draw, length=n) for n in (40, 96, 256)}
    return Task(task.vocab_size, train, tests)


def _parity() -> Task:
    task = Parity()
    tests = {f"{n} bits": _fixed(task.draw, length=n, final=True) for n in (10, 40, 128, 256)}
    return Task(task.vocab_size, lambda B, rng: task.draw(B, rng, length=one_of(range(3, 41), rng)), tests)


def _permutations(n: int, swaps: bool) -> Callable[[], Task]:
    def make() -> Task:
        task = Permutations(n, swaps=swaps)
        tests = {f"{x} products": _fixed(task.draw, length=x, final=True) for x in (4, 16, 32, 64)}
        return Task(task.vocab_size, lambda B, rng: task.draw(B, rng, length=one_of(range(2, 33), rng)), tests)

    return make


def _multi_hop() -> Task:
    task = MultiHop()
    tests = {f"{n} hops": _fixed(task.draw, hops=n) for n in (1, 2, 3, 4)}
    return Task(task.vocab_size, lambda B, rng: task.draw(B, rng, hops=one_of((1, 2, 3), rng)), tests)


def _multi_turn() -> Task:
    task = MultiTurn()
    tests = {f"{n} turns": _fixed(task.draw, turns=n) for n in (2, 4, 8, 16)}
    return Task(task.vocab_size, lambda B, rng: task.draw(B, rng, turns=one_of(range(2, 9), rng)), tests)


def _alone(*names: str) -> dict[str, tuple[str, ...]]:
    return {name: (name,) for name in names}


ALL = _alone("softmax", "softmax_nope", "gated_softmax", "sliding_window", "linear", "lightning", "gated_linear")
ALL |= _alone("deltanet", "gated_deltanet", "gated_deltanet_neg", "kda")
D, S = "gated_deltanet_neg", "softmax"
STACKS = {"all linear": (D,) * 4, "3:1": (D, D, D, S), "1:1": (D, S) * 2, "all softmax": (S,) * 4}
RATES = (1e-3, 3e-3, 1e-2)
TWO = {
    "softmax": ("softmax_nope", "softmax_nope"),
    "delta": ("deltanet_neg", "deltanet_neg"),
    "hybrid": ("softmax_nope", "deltanet_neg"),
    "hybrid, delta first": ("deltanet_neg", "softmax_nope"),
    "softmax with RoPE": ("softmax", "softmax"),
    "hybrid, beta below 1": ("softmax_nope", "deltanet"),
}
EIGHT = Recipe(1000, key_dim=8, lrs=(2e-3, 5e-3))

STUDIES = {
    "two_tasks": StudySetting(
        "recall and parity in one model: each pure stack fails one",
        25,
        _two_tasks,
        TWO,
        EIGHT,
        ("softmax", "delta", "hybrid"),
        Recipe(800, key_dim=8, lrs=(5e-3,)),
    ),
    "recall": StudySetting(
        "key-value pairs, more and more of them, eleven mixers and four stacks",
        40,
        _recall,
        ALL | STACKS,
        Recipe(800, lrs=RATES),
        ("softmax_nope", "linear", "gated_linear", "gated_deltanet"),
        Recipe(800, lrs=(5e-3,)),
    ),
    "overwrite": StudySetting(
        "keys rewritten again and again: the last value counts",
        30,
        _overwrite,
        ALL,
        Recipe(800, lrs=RATES),
        ("linear", "gated_deltanet", "softmax"),
        Recipe(800, lrs=(5e-3,)),
    ),
    "stream": StudySetting(
        "a long stream over few keys: who clears the memory can go on",
        30,
        _stream,
        ALL,
        Recipe(800, key_dim=8, lrs=RATES),
        ("linear", "gated_deltanet", "softmax"),
        Recipe(800, key_dim=8, lrs=(5e-3,)),
    ),
    "parity": StudySetting(
        "odd or even, at lengths beyond the trained",
        20,
        _parity,
        ALL,
        Recipe(800, batch_size=64, d_model=32, lrs=RATES),
        ("softmax", "gated_deltanet", "gated_deltanet_neg"),
        Recipe(800, batch_size=64, d_model=32, lrs=(3e-3,)),
    ),
    "permutations_3": StudySetting(
        "products of permutations of 3 things",
        20,
        _permutations(3, False),
        {name: (name, name) for name in ("softmax", "gated_linear", "gated_deltanet", "gated_deltanet_neg")},
        Recipe(1500, batch_size=64, lrs=RATES),
        ("softmax", "gated_deltanet_neg"),
        Recipe(1500, batch_size=64, lrs=(3e-3,)),
    ),
    "permutations_5": StudySetting(
        "products of swaps of 5 things",
        25,
        _permutations(5, True),
        {name: (name, name) for name in ("softmax", "gated_linear", "gated_deltanet", "gated_deltanet_neg")},
        Recipe(2000, batch_size=64, lrs=RATES),
        ("softmax", "gated_deltanet_neg"),
        Recipe(2000, batch_size=64, lrs=(3e-3,)),
    ),
    "multi_hop": StudySetting(
        "follow k links, by ratio of softmax layers",
        60,
        _multi_hop,
        STACKS,
        Recipe(3000, batch_size=64, key_dim=16, lrs=(1e-3, 3e-3)),
        tuple(STACKS),
        Recipe(600, batch_size=32, lrs=(3e-3,)),
    ),
    "multi_turn": StudySetting(
        "facts set, changed and asked over many turns, by ratio of softmax layers",
        60,
        _multi_turn,
        STACKS,
        Recipe(3000, batch_size=64, key_dim=16, lrs=(1e-3, 3e-3)),
        tuple(STACKS),
        Recipe(600, batch_size=32, lrs=(3e-3,)),
    ),
}
