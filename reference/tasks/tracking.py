"""State tracking: parity, and products of permutations. What has to be remembered is one small state, after any length.

Ids of Parity: 0 padding, 1 and 2 the bits, 3 and 4 the answers. Of Permutations: 0 padding, then one id per
permutation to read, then one per permutation to say.
"""

from itertools import permutations

import torch
from torch import Tensor

from reference.tasks._questions import NOT_ASKED, Questions, check_at_least, whole_numbers


class Parity:
    """Random bits; after each, whether the ones so far are odd. final: asked after the last bit alone."""

    vocab_size = 5

    def draw(self, batch_size: int, rng: torch.Generator, *, length: int, final: bool = False) -> Questions:
        check_at_least("length", length, 1)
        bits = whole_numbers(batch_size, length, 2, rng)
        answers = 3 + bits.cumsum(1) % 2
        if final:
            answers[:, :-1] = NOT_ASKED
        return Questions(1 + bits, answers)

    def render(self, ids: Tensor) -> str:
        return " ".join({0: "_", 1: "0", 2: "1"}[i] for i in ids.tolist())


class Permutations:
    """Random permutations of n things, one after another; after each, the product so far. swaps: transpositions only.

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

    def draw(self, batch_size: int, rng: torch.Generator, *, length: int, final: bool = False) -> Questions:
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
        names = ["".join("abcde"[i] for i in p) for p in self.elements]
        return " ".join("_" if i == 0 else names[(i - 1) % len(names)] for i in ids.tolist())
