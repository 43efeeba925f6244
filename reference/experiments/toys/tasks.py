"""The tasks of the studies: the difficulties that are trained, and those that are tested, also beyond the trained."""

from collections.abc import Callable, Sequence

import torch

from reference.experiments.toys.training import Difficulty, Task
from reference.tasks import (
    AssociativeRecall,
    Induction,
    MultiHop,
    MultiTurn,
    Needle,
    Overwriting,
    Parity,
    Permutations,
    RecallAndParity,
    RecallByParity,
    SelectiveCopying,
    Stream,
)


def one_of(values: Sequence[int], rng: torch.Generator) -> int:
    """A random element."""
    return values[int(torch.randint(len(values), (1,), generator=rng))]


def _named(task: object, name: str, trained: Sequence[int], tests: dict[str, int], **fixed: int) -> Task:
    """A task with one difficulty, `name`: its values in training; tests: label -> value; fixed: other arguments."""
    return Task(
        task.vocab_size,
        task.draw,
        lambda rng, progress: {name: one_of(trained, rng)} | fixed,
        {label: {name: value} | fixed for label, value in tests.items()},
    )


def _asked_more(task: Task, questions: Callable[[Difficulty], int]) -> Task:
    """The same task and tests; a text of training has so many questions."""

    def difficulty(rng: torch.Generator, progress: float) -> Difficulty:
        of_one = task.difficulty(rng, progress)
        return of_one | {"questions": questions(of_one)}

    return task._replace(difficulty=difficulty)


def recall() -> Task:
    """4 to 16 pairs; tested up to 48."""
    return _named(AssociativeRecall(), "pairs", (4, 8, 16), {f"{n} pairs": n for n in (4, 8, 16, 32, 48)})


def overwrite() -> Task:
    """Each key written 1, 2 or 4 times; tested up to 8."""
    return _named(Overwriting(), "times", (1, 2, 4), {f"{n} times": n for n in (1, 2, 4, 8)})


def stream() -> Task:
    """8 to 32 pairs over eight keys; tested up to 256."""
    return _named(Stream(), "pairs", range(8, 33), {f"{n} pairs": n for n in (8, 32, 64, 128, 256)})


def needle(*, questions: int = 1) -> Task:
    """3 to 63 distractors; tested up to 191, with one question. questions: the most in a text of training."""
    tests = {f"{n} distractors": n for n in (7, 31, 63, 127, 191)}
    task = _named(Needle(192, 64), "distractors", (3, 7, 15, 31, 63), tests)
    return task if questions == 1 else _asked_more(task, lambda at: min(questions, at["distractors"] + 1))


def copying(**fixed: bool) -> Task:
    """Eight marked tokens among 16 to 48 of noise; tested up to 192. fixed: other arguments of draw."""
    tests = {f"{n} of noise": n for n in (16, 48, 96, 192)}
    return _named(SelectiveCopying(), "noise", range(16, 49), tests, marked=8, **fixed)


def induction(*, questions: int = 1) -> Task:
    """4 to 32 tokens; tested up to 128, with one question. questions: the most in a text of training."""
    task = _named(Induction(128), "length", range(4, 33), {f"{n} tokens": n for n in (8, 32, 64, 128)})
    return task if questions == 1 else _asked_more(task, lambda at: min(questions, at["length"] - 1))


def parity() -> Task:
    """3 to 40 bits, asked after each; tested after the last of up to 256."""
    task = Parity()
    tests = {f"{n} bits": {"length": n, "final": True} for n in (10, 40, 128, 256)}
    return Task(task.vocab_size, task.draw, lambda rng, progress: {"length": one_of(range(3, 41), rng)}, tests)


def permutations(n: int, *, swaps: bool) -> Task:
    """Products of 2 to 32 permutations of n things, asked after each; tested after the last of up to 128."""
    task = Permutations(n, swaps=swaps)
    tests = {f"{x} products": {"length": x, "final": True} for x in (4, 16, 32, 64, 128)}
    return Task(task.vocab_size, task.draw, lambda rng, progress: {"length": one_of(range(2, 33), rng)}, tests)


def two_tasks() -> Task:
    """Half of a batch recalls 4 to 32 pairs, half counts 3 to 96 bits; tested up to 48 pairs and 256 bits."""
    task = RecallAndParity()
    tests = {f"recall, {n} pairs": {"pairs": n} for n in (16, 32, 48)}
    tests |= {f"parity, {n} bits": {"length": n} for n in (40, 96, 256)}

    def difficulty(rng: torch.Generator, progress: float) -> Difficulty:
        return {"pairs": one_of((4, 8, 16, 32), rng), "length": one_of(range(3, 97), rng)}

    return Task(task.vocab_size, task.draw, difficulty, tests)


def recall_by_parity() -> Task:
    """One, two or four pairs, later four or eight, and 1 to 16 bits with twelve questions among them; in training the
    model says the parity after each bit as well. Tests ask for values alone."""
    task = RecallByParity(n_keys=16, n_values=16)
    fixed = {"questions": 12, "between": True}
    sizes = ((4, 16), (8, 16), (16, 16), (4, 64))
    tests = {f"{n} pairs, {x} bits": {"pairs": n, "length": x} | fixed for n, x in sizes}

    def difficulty(rng: torch.Generator, progress: float) -> Difficulty:
        few, more, length = one_of((1, 2, 4), rng), one_of((4, 8), rng), one_of(range(1, 17), rng)
        return {"pairs": few if progress < 0.4 else more, "length": length, "aloud": True} | fixed

    return Task(task.vocab_size, task.draw, difficulty, tests)


def multi_hop(
    names: int = 32,
    trained: Sequence[int] = (2, 3, 4),
    tested: Sequence[int] = (4, 6, 8),
    later: Sequence[int] | None = None,
    most: int = 2,
) -> Task:
    """Chains of three links, as many as one of `trained` says, from 0.6 of the steps on as one of `later` says, and one
    to `most` hops from any name, in 64 tokens, or 100 where 64 leave hardly room for questions; tested with `tested`
    chains. There must be names for all."""
    task = MultiHop(n_names=names, max_hops=most)
    tests = {
        f"{hops} hop{'s' * (hops > 1)}, {n} chains": {"hops": hops, "links": 3, "chains": n, "questions": 14}
        for n in tested
        for hops in range(1, most + 1)
    }

    def difficulty(rng: torch.Generator, progress: float) -> Difficulty:
        chains = one_of(trained if later is None or progress < 0.6 else later, rng)
        tokens = 64 if chains < 6 else 100
        return {"hops": most, "mixed": True, "links": 3, "chains": chains, "questions": (tokens - 9 * chains) // 2}

    return Task(task.vocab_size, task.draw, difficulty, tests)


def hops_spelled() -> Task:
    """The chains of multi_hop, two hops of every question: the name in between is said first, and read."""
    task = MultiHop(n_names=32, max_hops=2)
    fixed = {"hops": 2, "spelled": True, "links": 3}
    tests = {f"2 hops, {n} chains": fixed | {"chains": n, "questions": 14} for n in (4, 6, 8)}

    def difficulty(rng: torch.Generator, progress: float) -> Difficulty:
        chains = one_of((2, 3, 4), rng)
        return fixed | {"chains": chains, "questions": (64 - 9 * chains) // 3}

    return Task(task.vocab_size, task.draw, difficulty, tests)


def multi_turn() -> Task:
    """2 to 16 turns, asked for values of now and of an earlier turn; tested up to 32 turns."""
    task = MultiTurn(n_names=16, n_values=32, max_turns=32)
    tests = {f"{kind}, {n} turns": {"turns": n, "kind": kind} for kind in ("now", "then") for n in (4, 8, 16, 32)}

    def difficulty(rng: torch.Generator, progress: float) -> Difficulty:
        return {"turns": one_of(range(2, 17), rng), "questions": 8}

    return Task(task.vocab_size, task.draw, difficulty, tests)


def history() -> Task:
    """One to four turns, later two, four or eight, with the turn's number beside each fact; twelve questions about what
    was true in a turn. Tested up to 16 turns."""
    task = MultiTurn(n_names=8, n_values=16, max_turns=16)
    fixed = {"numbered": True, "kind": "then", "questions": 12}

    def difficulty(rng: torch.Generator, progress: float) -> Difficulty:
        few, more = one_of((1, 2, 3, 4), rng), one_of((2, 4, 8), rng)
        return {"turns": few if progress < 0.5 else more} | fixed

    return Task(task.vocab_size, task.draw, difficulty, {f"{n} turns": {"turns": n} | fixed for n in (2, 4, 8, 16)})
