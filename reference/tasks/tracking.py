"""State tracking: parity, and products of permutations. After any length, one small state has to be remembered.

Ids of Parity: 0 padding, 1 and 2 the bits, 3 and 4 the answers. Of Permutations: 0 padding, then one id per
permutation to read, then one per permutation to say.
"""

from itertools import permutations

import torch
from torch import Tensor

from reference.tasks._questions import NOT_ASKED, Questions, check_at_least, whole_numbers


class Parity:
    """Random bits; after each the model says whether the number of ones so far is even or odd."""

    vocab_size = 5

    def draw(self, batch_size: int, rng: torch.Generator, *, length: int, final: bool = False) -> Questions:
        """Texts of `length` bits; final: asked only after the last one. ValueError if length is below 1."""
        check_at_least("length", length, 1)
        bits = whole_numbers(batch_size, length, 2, rng)
        answers = 3 + bits.cumsum(1) % 2
        if final:
            answers[:, :-1] = NOT_ASKED
        return Questions(1 + bits, answers)

    def render(self, ids: Tensor) -> str:
        """One text [T] as words: _ padding, 0 and 1 the bits."""
        return " ".join({0: "_", 1: "0", 2: "1"}[i] for i in ids.tolist())


class Permutations:
    """Random permutations of n things, one after another; after each the model says the product so far.

    n      from 2 to 5, else ValueError
    swaps  only permutations that exchange two things are read
    The product of 5 things' permutations can't be computed by a fixed number of layers of softmax attention or of
    diagonal recurrences, at any length, unless TC0 = NC1 (Merrill et al. 2024).
    """

    def __init__(self, n: int = 3, *, swaps: bool = False):
        check_at_least("n", n, 2, 5)
        self.n, self.elements = n, list(permutations(range(n)))
        table = torch.tensor(self.elements)
        number = {p: i for i, p in enumerate(self.elements)}
        # product[i, j]: first i, then j
        self.product = torch.tensor(
            [[number[tuple(table[i][list(q)].tolist())] for q in self.elements] for i in range(len(table))]
        )
        moved = (table != torch.arange(n)).sum(-1)
        self.readable = torch.nonzero(moved == 2)[:, 0] if swaps else torch.arange(len(table))
        self.vocab_size = 1 + 2 * len(table)

    def chance(self, *, sign: bool = False) -> float:
        """Share of right answers by one of all products at random; sign: by one of those that the right sign leaves."""
        return (1 + sign) / len(self.elements)

    def draw(self, batch_size: int, rng: torch.Generator, *, length: int, final: bool = False) -> Questions:
        """Texts of `length` permutations; final: asked only after the last one. ValueError if length is below 1."""
        check_at_least("length", length, 1)
        read = self.readable[whole_numbers(batch_size, length, len(self.readable), rng)]
        state, answers = torch.zeros(batch_size, dtype=torch.long), []
        for t in range(length):
            state = self.product[state, read[:, t]]
            answers.append(1 + len(self.elements) + state)
        answers = torch.stack(answers, 1)
        if final:
            answers[:, :-1] = NOT_ASKED
        return Questions(1 + read, answers)

    def render(self, ids: Tensor) -> str:
        """One text [T] as words: _ padding; a permutation as the letters in their new order."""
        names = ["".join("abcde"[i] for i in p) for p in self.elements]
        return " ".join("_" if i == 0 else names[(i - 1) % len(names)] for i in ids.tolist())
