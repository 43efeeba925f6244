"""Copying: what was marked, in order; and what followed the last time."""

import torch
from torch import Tensor

from reference.tasks._questions import NOT_ASKED, Questions, check_at_least, some_without_repeats, whole_numbers


class SelectiveCopying:
    """Marked tokens at random places among filler; then they are asked for in order.

    A slot for each answer follows the text: the model says the n-th marked token at the n-th slot. Ids: 0 padding, 1
    filler, 2 a slot, then n_tokens tokens. ValueError if n_tokens is below 2.
    Source: Gu and Dao 2024 (Mamba), section 4.1.1.
    """

    def __init__(self, n_tokens: int = 32):
        check_at_least("n_tokens", n_tokens, 2)
        self.n_tokens, self.vocab_size = n_tokens, 3 + n_tokens

    def draw(
        self, batch_size: int, rng: torch.Generator, *, marked: int, noise: int, fed_back: bool = False
    ) -> Questions:
        """Texts of marked + noise + marked tokens: the text, then the slots. ValueError if marked < 1 or noise < 0.

        fed_back  only the first slot is one; then the model reads each answer before it says the next, as it would
                  when it writes. Else all slots are alike, and only their position tells which token is wanted
        """
        check_at_least("marked", marked, 1)
        check_at_least("noise", noise, 0)
        tokens = 3 + whole_numbers(batch_size, marked, self.n_tokens, rng)
        places = some_without_repeats(batch_size, marked + noise, marked, rng).sort(1).values
        text = torch.ones(batch_size, marked + noise, dtype=torch.long).scatter(1, places, tokens)
        slots = torch.full((batch_size, marked), 2)
        if fed_back:
            slots[:, 1:] = tokens[:, :-1]
        answers = torch.full_like(text, NOT_ASKED)
        return Questions(torch.cat([text, slots], 1), torch.cat([answers, tokens], 1))

    def render(self, ids: Tensor) -> str:
        """One text [T] as words: _ padding, . filler, ? a slot, t0 t1 ... tokens."""
        return " ".join({0: "_", 1: ".", 2: "?"}.get(i, f"t{i - 3}") for i in ids.tolist())


class Induction:
    """Different tokens, then one of them again, or several: say what followed it.

    Ids: 0 padding, then n_tokens tokens. ValueError if n_tokens is below 2. Source: Olsson et al. 2022.
    """

    def __init__(self, n_tokens: int = 64):
        check_at_least("n_tokens", n_tokens, 2)
        self.n_tokens, self.vocab_size = n_tokens, 1 + n_tokens

    def draw(self, batch_size: int, rng: torch.Generator, *, length: int, questions: int = 1) -> Questions:
        """Texts of `length` different tokens and, of all but the last, so many once more, each a question.

        ValueError unless 2 <= length <= n_tokens and 1 <= questions < length.
        """
        check_at_least("length", length, 2, self.n_tokens)
        check_at_least("questions", questions, 1, length - 1)
        text = 1 + some_without_repeats(batch_size, self.n_tokens, length, rng)
        if questions == 1:
            at = whole_numbers(batch_size, 1, length - 1, rng)
        else:
            at = some_without_repeats(batch_size, length - 1, questions, rng)
        ids = torch.cat([text, text.gather(1, at)], 1)
        answers = torch.cat([torch.full_like(text, NOT_ASKED), text.gather(1, at + 1)], 1)
        return Questions(ids, answers)

    def render(self, ids: Tensor) -> str:
        """One text [T] as words: _ padding, t0 t1 ... tokens."""
        return " ".join("_" if i == 0 else f"t{i - 1}" for i in ids.tolist())
