"""Facts in a text: a walk of words, and among the words keys, each with an answer of several words (chapter 16)."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reference.tasks._questions import check_at_least
from reference.tasks.backcopy import BEGIN


class FactTexts(NamedTuple):
    """Texts of which every token is predicted."""

    ids: Tensor  # [B, T], starting with BEGIN
    known: Tensor  # [B, T] bool: an answer's token whose fact stood in the text before


class FactQuestions(NamedTuple):
    """Texts that end with a key, and what might follow."""

    ids: Tensor  # [B, T]: each fact once, then the key of one of them
    answers: Tensor  # [B, words]: the right answer
    others: Tensor  # [B, choices, words]: answers of other facts of the text
    random: Tensor  # [B, choices, words]: words drawn anew


class Facts:
    """A word allows a few successors; between the words stand facts, a key and its answer, again and again.

    Ids: 0 begins a text, 1 to n_words the words, then the keys. Successors don't look past the facts: the word behind
    a fact is drawn like any other. An answer is random words: from its second time on it can be known.

    n_words     different words
    n_keys      different keys
    successors  words that may follow a word, equally likely
    words       of one answer
    seed        of the successors
    ValueError that names a number that is too small.
    """

    def __init__(self, n_words: int = 32, n_keys: int = 32, *, successors: int = 4, words: int = 2, seed: int = 0):
        check_at_least("n_words", n_words, 2)
        check_at_least("n_keys", n_keys, 1)
        check_at_least("successors", successors, 1, n_words)
        check_at_least("words", words, 1)
        self.n_words, self.n_keys, self.words = n_words, n_keys, words
        self.vocab_size = 1 + n_words + n_keys
        order = np.tile(np.arange(n_words), (n_words, 1))
        self.successors = np.random.default_rng(seed).permuted(order, axis=1)[:, :successors]

    def draw(self, batch_size: int, rng: np.random.Generator, *, facts: int, times: int = 2) -> FactTexts:
        """Texts of 1 + facts times (2 + words) tokens: each fact `times` times, with one word for each of them.

        ValueError unless 1 <= facts <= n_keys and times >= 1.
        """
        order = rng.permuted(np.tile(np.repeat(np.arange(facts), times), (batch_size, 1)), axis=1)
        keys, answers = self._facts(batch_size, rng, facts, times)
        ids, at = self._text(batch_size, rng, order, keys, answers)
        n = order.shape[1]
        again = ((order[:, :, None] == order[:, None, :]) & np.tri(n, n, -1, dtype=bool)).any(-1)
        known = np.zeros(ids.shape, bool)
        for j in range(self.words):
            np.put_along_axis(known, at + 1 + j, again, 1)
        return FactTexts(torch.from_numpy(ids), torch.from_numpy(known))

    def ask(self, batch_size: int, rng: np.random.Generator, *, facts: int, choices: int = 3) -> FactQuestions:
        """Texts of 2 + facts (2 + words) tokens: each fact once, then one of the keys.

        choices  wrong answers of each kind. ValueError unless choices < facts <= n_keys.
        """
        check_at_least("choices", choices, 1, facts - 1)
        order = rng.permuted(np.tile(np.arange(facts), (batch_size, 1)), axis=1)
        keys, answers = self._facts(batch_size, rng, facts, 1)
        ids, _ = self._text(batch_size, rng, order, keys, answers)
        asked = rng.permuted(order, axis=1)[:, : 1 + choices]
        key = 1 + self.n_words + np.take_along_axis(keys, asked[:, :1], 1)
        chosen = 1 + np.take_along_axis(answers, asked[:, :, None], 1)
        random = 1 + rng.integers(self.n_words, size=(batch_size, choices, self.words))
        found = np.concatenate([ids, key], 1), chosen[:, 0], chosen[:, 1:], random
        return FactQuestions(*(torch.from_numpy(x) for x in found))

    def render(self, ids: Tensor) -> str:
        """One text [T] as words: | begins, w3 a word, K5 a key."""
        named = {BEGIN: "|"} | {1 + self.n_words + n: f"K{n}" for n in range(self.n_keys)}
        return " ".join(named.get(i, f"w{i - 1}") for i in ids.tolist())

    def _facts(self, B: int, rng: np.random.Generator, facts: int, times: int) -> tuple[NDArray, NDArray]:
        """Keys [B, facts] and answers [B, facts, words] of each text, counted from 0."""
        check_at_least("facts", facts, 1, self.n_keys)
        check_at_least("times", times, 1)
        keys = rng.permuted(np.tile(np.arange(self.n_keys), (B, 1)), axis=1)[:, :facts]
        return keys, rng.integers(self.n_words, size=(B, facts, self.words))

    def _text(
        self, B: int, rng: np.random.Generator, order: NDArray, keys: NDArray, answers: NDArray
    ) -> tuple[NDArray, NDArray]:
        """ids [B, T] with the facts in this order [B, n], and where their keys stand [B, n]."""
        n = order.shape[1]
        T = 1 + n * (2 + self.words)
        walk = np.empty((B, T), int)
        walk[:, 0] = rng.integers(self.n_words, size=B)
        which = rng.integers(self.successors.shape[1], size=(B, T))
        for t in range(1, T):
            walk[:, t] = self.successors[walk[:, t - 1], which[:, t]]
        ids = 1 + walk
        ids[:, 0] = BEGIN
        is_fact = rng.permuted(np.tile(np.repeat([0, 1], n), (B, 1)), axis=1)
        length = 1 + self.words * is_fact
        at = (1 + length.cumsum(1) - length)[is_fact == 1].reshape(B, n)
        np.put_along_axis(ids, at, 1 + self.n_words + np.take_along_axis(keys, order, 1), 1)
        for j in range(self.words):
            np.put_along_axis(ids, at + 1 + j, 1 + np.take_along_axis(answers[:, :, j], order, 1), 1)
        return ids, at
