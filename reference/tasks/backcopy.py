"""Bigram-Backcopy: the task on which attention sinks grow."""

from typing import NamedTuple

import torch
from torch import Tensor

BEGIN = 0  # the id that starts every text


class Texts(NamedTuple):
    """A batch of texts of which every token is predicted."""

    ids: Tensor  # [B, T], starting with BEGIN
    asking: Tensor  # [B, T] bool: the next token is found by looking back


class BigramBackcopy:
    """Mostly the next token depends on the current one; after a trigger it is the token before the trigger.

    A head that serves the triggers has nothing to do elsewhere: the task grows attention sinks. Ids: 0 begins, 1 to
    n_triggers are triggers, the rest are plain. Transitions are drawn once.

    spread  the transitions are a softmax of normal logits times `spread`
    seed    of the transitions
    ValueError if n_triggers is below 1 or leaves fewer than one plain token.
    Source: Guo et al. 2024, section 2 (theirs are counts of letters in Shakespeare).
    """

    def __init__(self, vocab_size: int = 64, n_triggers: int = 3, *, spread: float = 2.0, seed: int = 0):
        if not 1 <= n_triggers < vocab_size - 1:
            raise ValueError(f"n_triggers: expected 1 to vocab_size - 2 = {vocab_size - 2}, got {n_triggers}")
        self.vocab_size, self.n_triggers = vocab_size, n_triggers
        rng = torch.Generator().manual_seed(seed)
        logits = spread * torch.randn(vocab_size, vocab_size - 1, generator=rng, dtype=torch.float64)
        logits[BEGIN, :n_triggers] = -torch.inf  # a trigger needs a token before it
        self.log_p = torch.cat([torch.full((vocab_size, 1), -torch.inf), logits.log_softmax(-1)], 1)  # [V, V]

    def draw(self, batch_size: int, length: int, rng: torch.Generator) -> Texts:
        """Texts [batch_size, length]."""
        ids = torch.zeros(batch_size, length, dtype=torch.long)
        edges = self.log_p.exp().cumsum(-1)
        for t in range(1, length):
            before = ids[:, t - 1]
            u = torch.rand(batch_size, 1, generator=rng, dtype=torch.float64) * edges[before, -1:]
            drawn = torch.searchsorted(edges[before], u, right=True)[:, 0].clamp(max=self.vocab_size - 1)
            ids[:, t] = torch.where(self._is_trigger(before), ids[:, max(t - 2, 0)], drawn)
        return Texts(ids, self._is_trigger(ids))

    def best_loss(self, texts: Texts) -> Tensor:
        """Nats per predicted token of a model that knows the rule: [B, T - 1], 0 where the answer is a copy."""
        nats = -self.log_p[texts.ids[:, :-1], texts.ids[:, 1:]]
        return nats.masked_fill(texts.asking[:, :-1], 0.0)

    def _is_trigger(self, ids: Tensor) -> Tensor:
        return (ids >= 1) & (ids <= self.n_triggers)
