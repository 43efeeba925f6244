"""A walk of words with keys and answers among them: text from nearby, facts from anywhere (chapter 08)."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reference.tasks.backcopy import BEGIN

WORD, KEY, ANSWER, ASKED = range(4)  # kinds of tokens; an answer is asked for where its key stands the second time


class WordsAndKeys:
    """Each word allows a few successors; between words stand keys, each with its answer behind it, each pair twice.

    Draws texts with ids 0 (begins a text), 1 to W (words), then the keys. A word's successors don't look past the
    pairs: the first word behind a pair is drawn like any other. An answer is a random word; at the second time its
    key stands there it can be known.

    followers  [W, n]: which words, counted from 0, may follow a word
    n_keys     how many keys there are
    """

    def __init__(self, followers: NDArray, n_keys: int):
        self.followers, self.n_keys = followers, n_keys

    def draw(self, rng: np.random.Generator, B: int, T: int, pairs: int) -> tuple[Tensor, Tensor]:
        """(ids [B, T], kind [B, T]: WORD, KEY, ANSWER or ASKED), with `pairs` keys in each text.

        ValueError if the pairs don't fit into the text, or there are fewer keys.
        """
        if 4 * pairs > T - 1:
            raise ValueError(f"pairs: {pairs} pairs take {4 * pairs} tokens, and a text of T = {T} has {T - 1}")
        if pairs > self.n_keys:
            raise ValueError(f"pairs: expected at most n_keys = {self.n_keys}, got {pairs}")
        ids, kind = 1 + self._walk(rng, B, T), np.full((B, T), WORD)
        ids[:, 0] = BEGIN
        row, at = np.arange(B)[:, None], places_of_pairs(rng, B, T, 2 * pairs)
        order = rng.permuted(np.tile(np.repeat(np.arange(pairs), 2), (B, 1)), axis=1)  # which pair stands there
        again = np.array([[pair in text[:n] for n, pair in enumerate(text)] for text in order.tolist()])
        W = len(self.followers)
        key = rng.permuted(np.tile(np.arange(self.n_keys), (B, 1)), axis=1)[:, :pairs]  # of each pair
        answer = rng.integers(W, size=(B, pairs))
        ids[row, at], kind[row, at] = 1 + W + key[row, order], KEY
        ids[row, at + 1], kind[row, at + 1] = 1 + answer[row, order], np.where(again, ASKED, ANSWER)
        return torch.from_numpy(ids), torch.from_numpy(kind)

    def _walk(self, rng: np.random.Generator, B: int, T: int) -> NDArray:
        """Words [B, T], counted from 0, each a successor of the one before it."""
        walk = np.empty((B, T), int)
        walk[:, 0] = rng.integers(len(self.followers), size=B)
        for t in range(1, T):
            which = rng.integers(self.followers.shape[1], size=B)
            walk[:, t] = self.followers[walk[:, t - 1], which]
        return walk


def places_of_pairs(rng: np.random.Generator, B: int, T: int, n: int) -> NDArray:
    """Where n keys begin, [B, n]: a text of T tokens, the first left out, is cut into single words and n pairs."""
    is_pair = np.tile(np.repeat([0, 1], [T - 1 - 2 * n, n]), (B, 1))  # one entry per unit
    is_pair = rng.permuted(is_pair, axis=1)
    length = 1 + is_pair
    begins = 1 + length.cumsum(1) - length  # behind all units before it, and behind token 0
    return begins[is_pair == 1].reshape(B, n)
