"""Prompts that begin alike share their prefill: snapshots at ends, at branches and every N tokens, within a budget.

A softmax layer's cache can be cut back to any token, a recurrent state can't. So a hybrid reuses a prefix only where a
snapshot was kept.
"""

from collections import OrderedDict
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from reference.arguments import check_positive_int
from reference.model.cache import Cache, Snapshot, new_cache
from reference.model.hybrid import HybridLM


class Statistics(NamedTuple):
    """tokens: asked for; reused: of these, read from a snapshot; stored_bytes: what the snapshots hold now."""

    prompts: int
    hits: int
    tokens: int
    reused: int
    stored_bytes: int


class PrefixCache:
    """prefill(ids) -> (logits of the last token [1, vocab_size], cache to decode from).

    model         the model that reads
    every         tokens between snapshots inside a prompt; a multiple of 64 cuts where the linear layers' chunks end
    budget_bytes  most bytes of snapshots: the least recently used are dropped first
    branches      whether one is also kept where a prompt leaves the path of one before: what two share, a system
                  prompt say, a third will share

    Snapshots are kept every so many tokens, where a prompt ends (the next turn begins there), and at branches. A prompt
    starts from the longest snapshot that it begins with and whose end it goes beyond. Snapshots belong to the weights
    of the model at that moment: make a new PrefixCache after further training. `generate(..., prefixes=...)` reads
    through it and keeps the end of its answer as well.
    """

    def __init__(self, model: HybridLM, *, every: int = 256, budget_bytes: int = 2**28, branches: bool = False):
        check_positive_int("every", every)
        check_positive_int("budget_bytes", budget_bytes)
        self.model, self.every, self.budget_bytes, self.branches = model, every, budget_bytes, branches
        self._kept: OrderedDict[bytes, tuple[Snapshot, int]] = OrderedDict()  # ids -> snapshot and its bytes
        self._counts = {"prompts": 0, "hits": 0, "tokens": 0, "reused": 0}

    def prefill(self, ids: Tensor) -> tuple[Tensor, Cache]:
        """Logits of the last token of ids [1, T], [1, vocab_size], and the cache behind it. Raises ValueError."""
        _check_prompt(ids)
        logits, cache = self._read(ids, ids.shape[1] - 1, rewind=0)
        return logits[:, -1], cache

    def read(self, ids: Tensor, *, rewind: int = 0) -> Cache:
        """A cache behind all of ids [1, T] but the last token, which `generate` reads itself: it wants its logits.
        rewind: tokens that the cache can take back, as new_cache has it. Raises ValueError."""
        _check_prompt(ids)
        return self._read(ids[:, :-1], ids.shape[1] - 1, rewind)[1]

    def keep(self, ids: Tensor, cache: Cache) -> None:
        """Keep a snapshot of a cache that has read the first cache.seen tokens of ids [1, T], and nothing else."""
        _check_prompt(ids)
        size = cache.nbytes()
        if size > self.budget_bytes or not cache.seen:
            return
        key = _key(ids[:, : cache.seen])
        self._kept[key] = (cache.snapshot()._replace(unread=None), size)
        self._kept.move_to_end(key)
        while self.statistics().stored_bytes > self.budget_bytes:
            self._kept.popitem(last=False)

    def statistics(self) -> Statistics:
        """What was asked for and reused since the start."""
        return Statistics(**self._counts, stored_bytes=sum(size for _, size in self._kept.values()))

    @torch.no_grad()
    def _read(self, ids: Tensor, most: int, rewind: int) -> tuple[Tensor | None, Cache]:
        """Read ids [1, T] from the longest snapshot of at most `most` tokens, and keep snapshots on the way."""
        cache, begin = new_cache(self.model, rewind=rewind), self._longest(ids, most)
        shared = self._shared(ids) if self.branches else 0
        if begin:
            self._kept.move_to_end(_key(ids[:, :begin]))
            cache.restore(self._kept[_key(ids[:, :begin])][0])
        for name, count in (("prompts", 1), ("hits", begin > 0), ("tokens", ids.shape[1]), ("reused", begin)):
            self._counts[name] += count
        stops = {*range(0, ids.shape[1], self.every), shared, ids.shape[1]}
        logits = None
        for stop in sorted(stop for stop in stops if stop > begin):
            logits = self.model(ids[:, cache.seen : stop], cache=cache)
            self.keep(ids, cache)
        return logits, cache

    def _longest(self, ids: Tensor, most: int) -> int:
        """Tokens of the longest snapshot that ids begins with, `most` at most."""
        lengths = sorted({len(key) // 8 for key in self._kept}, reverse=True)
        return next((n for n in lengths if n <= most and _key(ids[:, :n]) in self._kept), 0)

    def _shared(self, ids: Tensor) -> int:
        """Tokens that ids shares with a text kept before, the most: there it branches off."""
        own, most = ids[0].to("cpu", torch.int64).numpy(), 0
        for key in self._kept:
            other = np.frombuffer(key, np.int64)[: len(own)]
            differs = np.flatnonzero(other != own[: len(other)])
            most = max(most, int(differs[0]) if len(differs) else len(other))
        return most


def _check_prompt(ids: object) -> None:
    if not isinstance(ids, Tensor) or ids.dim() != 2 or ids.shape[0] != 1 or ids.shape[1] < 1:
        got = list(ids.shape) if isinstance(ids, Tensor) else type(ids).__name__
        raise ValueError(f"ids: expected one prompt [1, T], got {got}")


def _key(ids: Tensor) -> bytes:
    return ids.to("cpu", torch.int64).contiguous().numpy().tobytes()
