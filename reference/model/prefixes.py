"""Prompts that begin alike share their prefill: snapshots every N tokens, within a memory budget.

A softmax layer's cache can be cut back to any token, a recurrent state can't. So a hybrid reuses a prefix only where a
snapshot was kept.
"""

from collections import OrderedDict
from typing import NamedTuple

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
    every         tokens between snapshots; one more is kept at the end of every prompt
    budget_bytes  most bytes of snapshots: the least recently used are dropped first

    A prompt starts from the longest snapshot that it begins with and whose end it goes beyond.
    Snapshots belong to the weights of the model at that moment: make a new PrefixCache after further training.
    """

    def __init__(self, model: HybridLM, *, every: int = 256, budget_bytes: int = 2**28):
        check_positive_int("every", every)
        check_positive_int("budget_bytes", budget_bytes)
        self.model, self.every, self.budget_bytes = model, every, budget_bytes
        self._kept: OrderedDict[bytes, tuple[Snapshot, int]] = OrderedDict()  # ids -> snapshot and its bytes
        self._counts = {"prompts": 0, "hits": 0, "tokens": 0, "reused": 0}

    @torch.no_grad()
    def prefill(self, ids: Tensor) -> tuple[Tensor, Cache]:
        """Logits of the last token of ids [1, T], [1, vocab_size], and the cache behind it. Raises ValueError."""
        if not isinstance(ids, Tensor) or ids.dim() != 2 or ids.shape[0] != 1 or ids.shape[1] < 1:
            got = list(ids.shape) if isinstance(ids, Tensor) else type(ids).__name__
            raise ValueError(f"ids: expected one prompt [1, T], got {got}")
        cache, begin = new_cache(self.model), self._longest(ids)
        if begin:
            cache.restore(self._use(ids[:, :begin]))
        self._counts["prompts"] += 1
        self._counts["hits"] += begin > 0
        self._counts["tokens"] += ids.shape[1]
        self._counts["reused"] += begin
        while cache.seen < ids.shape[1]:
            stop = min(ids.shape[1], (cache.seen // self.every + 1) * self.every)
            logits = self.model(ids[:, cache.seen : stop], cache=cache)
            self._keep(ids[:, :stop], cache)
        return logits[:, -1], cache

    def statistics(self) -> Statistics:
        """What was asked for and reused since the start."""
        return Statistics(**self._counts, stored_bytes=sum(size for _, size in self._kept.values()))

    def _longest(self, ids: Tensor) -> int:
        """Tokens of the longest snapshot inside ids, the last token left out: its logits are wanted."""
        lengths = sorted({len(key) // 8 for key in self._kept}, reverse=True)
        return next((n for n in lengths if n < ids.shape[1] and _key(ids[:, :n]) in self._kept), 0)

    def _use(self, prefix: Tensor) -> Snapshot:
        self._kept.move_to_end(_key(prefix))
        return self._kept[_key(prefix)][0]

    def _keep(self, prefix: Tensor, cache: Cache) -> None:
        size = cache.nbytes()
        if size > self.budget_bytes:
            return
        self._kept[_key(prefix)] = (cache.snapshot(), size)
        self._kept.move_to_end(_key(prefix))
        while self.statistics().stored_bytes > self.budget_bytes:
            self._kept.popitem(last=False)


def _key(ids: Tensor) -> bytes:
    return ids.to("cpu", torch.int64).contiguous().numpy().tobytes()
