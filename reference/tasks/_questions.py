"""What every task draws: token ids, and the answers that are asked for at some of them."""

from typing import NamedTuple

import torch
from torch import Tensor

from reference.arguments import is_whole_number

NOT_ASKED = -100  # the class that cross_entropy ignores
PAD = 0


class Questions(NamedTuple):
    """A batch of texts, and what a model should answer."""

    ids: Tensor  # [B, T], PAD behind shorter texts
    answers: Tensor  # [B, T]: the token to say after reading token t, NOT_ASKED where nothing is asked


def asked(questions: Questions) -> Tensor:
    """[B, T] bool: where an answer is expected."""
    return questions.answers != NOT_ASKED


def accuracy(logits: Tensor, questions: Questions) -> float:
    """Share of the questions that the likeliest token answers rightly; logits [B, T, V]."""
    return (logits.argmax(-1) == questions.answers)[asked(questions)].float().mean().item()


def some_without_repeats(batch_size: int, among: int, n: int, rng: torch.Generator) -> Tensor:
    """n different numbers below `among` for each row, in random order: [B, n]."""
    return torch.rand(batch_size, among, generator=rng).argsort(-1)[:, :n]


def whole_numbers(batch_size: int, length: int, below: int, rng: torch.Generator) -> Tensor:
    """Random whole numbers [B, length] in 0 .. below - 1."""
    return torch.randint(below, (batch_size, length), generator=rng)


def check_at_least(name: str, value: object, least: int, most: int | None = None) -> None:
    """Raise ValueError unless value is a whole number from `least` to `most`; most None: without an upper bound."""
    if not is_whole_number(value, least, most):
        bound = f"{least} to {most}" if most is not None else f">= {least}"
        raise ValueError(f"{name}: expected a whole number {bound}, got {value!r}")
