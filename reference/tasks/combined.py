"""Two tasks in one model, side by side or one inside the other: recall and parity.

Recall needs more memory the more there is to recall, and a state is of fixed size; parity is a state that softmax
attention can't track.
"""

import torch
from torch import Tensor

from reference.tasks._questions import (
    NOT_ASKED,
    PAD,
    Questions,
    check_at_least,
    some_without_repeats,
    whole_numbers,
)
from reference.tasks.recall import AssociativeRecall
from reference.tasks.tracking import Parity


class RecallAndParity:
    """Each text is one of the two tasks; ids are AssociativeRecall's, then Parity's except its padding."""

    def __init__(self, n_keys: int = 64, n_values: int = 64):
        self.recall, self.parity = AssociativeRecall(n_keys, n_values), Parity()
        self.shift = self.recall.vocab_size - 1
        self.vocab_size = self.shift + self.parity.vocab_size

    def draw(self, batch_size: int, rng: torch.Generator, *, pairs: int = 0, length: int = 0) -> Questions:
        """Texts of the longer task's length, the shorter ones padded behind.

        pairs   of recall; 0: only parity
        length  bits of parity; 0: only recall
        With both, half of the batch each. ValueError without both, or where the task refuses the number.
        """
        parts = []
        if pairs:
            parts.append(self.recall.draw(batch_size // (2 if length else 1), rng, pairs=pairs))
        if length:
            bits = self.parity.draw(batch_size - (len(parts[0].ids) if parts else 0), rng, length=length)
            answers = torch.where(bits.answers == NOT_ASKED, NOT_ASKED, bits.answers + self.shift)
            parts.append(Questions(bits.ids + self.shift, answers))
        if not parts:
            raise ValueError("pairs, length: expected at least one of them, got neither")
        return batch_together(parts)

    def render(self, ids: Tensor) -> str:
        """One text [T] as words: those of AssociativeRecall or of Parity."""
        if int(ids[0]) <= self.shift:
            return self.recall.render(ids)
        return self.parity.render((ids - self.shift).clamp(min=0))


class RecallByParity:
    """Facts `key value value`, then bits, then keys: the first value is right if the number of ones is even, the second
    if it is odd. What is recalled depends on what is tracked: one task inside the other.

    Ids: 0 padding, 1 to n_keys the keys, then n_values values, the bits 0 and 1, and the words even and odd.
    ValueError if n_keys is below 1 or n_values below 2.
    Source: the state-based recall of Olmo Hybrid (2026), with parity as its state.
    """

    def __init__(self, n_keys: int = 64, n_values: int = 64):
        check_at_least("n_keys", n_keys, 1)
        check_at_least("n_values", n_values, 2)
        self.n_keys, self.n_values = n_keys, n_values
        self.first_value, self.first_bit = 1 + n_keys, 1 + n_keys + n_values
        self.vocab_size = self.first_bit + 4

    def draw(
        self,
        batch_size: int,
        rng: torch.Generator,
        *,
        pairs: int,
        length: int,
        questions: int = 4,
        aloud: bool = False,
        between: bool = False,
        layers: int | None = None,
    ) -> Questions:
        """Texts of 3 pairs + length + questions tokens.

        pairs      facts, at most n_keys
        length     bits
        questions  at most one for each fact; as many as wanted if they stand between the bits
        aloud      after each bit the model says even or odd, too
        between    questions stand among the bits, anywhere, and not behind them: each sees a parity of its own
        layers     None: answers [B, T]. A number: answers [layers, B, T], what each layer's output should say: the last
                   one the answers, the others even or odd wherever a bit or a question stands
        Raises ValueError.
        """
        check_at_least("pairs", pairs, 1, self.n_keys)
        check_at_least("length", length, 1)
        check_at_least("questions", questions, 1, None if between else pairs)
        if layers is not None:
            check_at_least("layers", layers, 1)
        keys = some_without_repeats(batch_size, self.n_keys, pairs, rng)
        values = whole_numbers(batch_size, 2 * pairs, self.n_values, rng).unflatten(1, (pairs, 2))
        facts = torch.cat([1 + keys[..., None], self.first_value + values], -1).flatten(1)
        bits = whole_numbers(batch_size, length, 2, rng)
        place = torch.arange(length + questions).expand(batch_size, -1)
        if between:
            which = whole_numbers(batch_size, questions, pairs, rng)
            place = some_without_repeats(batch_size, length + questions, length + questions, rng)
            place = torch.cat([place[:, :length].sort(1).values, place[:, length:]], 1)
        else:
            which = some_without_repeats(batch_size, pairs, questions, rng)

        def in_place(of_bits: Tensor, of_questions: Tensor) -> Tensor:
            return torch.empty_like(place).scatter(1, place, torch.cat([of_bits, of_questions], 1))

        ones = in_place(bits, torch.zeros_like(which))
        odd = ones.cumsum(1) % 2
        row = torch.arange(batch_size)[:, None]
        right = self.first_value + values[row, which, odd.gather(1, place[:, length:])]
        words = self.first_bit + 2 + odd
        said = words.gather(1, place[:, :length]) if aloud else torch.full_like(bits, NOT_ASKED)
        ids = torch.cat([facts, in_place(self.first_bit + bits, 1 + keys.gather(1, which))], 1)
        silent = torch.full_like(facts, NOT_ASKED)
        answers = torch.cat([silent, in_place(said, right)], 1)
        if layers is not None:
            parity = torch.cat([silent, words], 1)
            answers = torch.stack([parity] * (layers - 1) + [answers])
        return Questions(ids, answers)

    def chance(self) -> float:
        """Share of right answers by one of the key's two values at random; they are equal once in n_values."""
        return 0.5 + 0.5 / self.n_values

    def render(self, ids: Tensor) -> str:
        """One text [T] as words: _ padding, k3 v17 v5 facts, 0 and 1 bits, even, odd."""
        words = {PAD: "_"} | {1 + n: f"k{n}" for n in range(self.n_keys)}
        words |= {self.first_bit + n: word for n, word in enumerate(("0", "1", "even", "odd"))}
        return " ".join(words.get(i, f"v{i - self.first_value}") for i in ids.tolist())


def batch_together(parts: list[Questions]) -> Questions:
    """One batch of several, padded behind to the longest."""
    longest = max(part.ids.shape[1] for part in parts)

    def padded(x: Tensor, value: int) -> Tensor:
        return torch.nn.functional.pad(x, (0, longest - x.shape[1]), value=value)

    ids = torch.cat([padded(part.ids, PAD) for part in parts])
    return Questions(ids, torch.cat([padded(part.answers, NOT_ASKED) for part in parts]))
