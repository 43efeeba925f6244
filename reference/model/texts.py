"""The texts of a batch while they grow, each of its own length: guesses stand in one row and fall in another."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from reference.model.sampling import Draws, penalized, sample


class GrowingTexts:
    """Texts [B, prompt] that grow to prompt + most tokens, and how their next tokens are chosen.

    ids       [B, prompt + most]; of row b the first lengths[b] are its text
    lengths   int64 [B]
    ended     bool [B]: the row's last token ends it, and is repeated until the longest row ends
    filters   temperature, top_k, top_p, min_p; draws, if the temperature isn't 0
    stop      tokens that end a row; until(new tokens [B, n]) -> bool [B] may end one as well
    penalty   for tokens that are present, bool [B, V]; None: 1
    """

    def __init__(
        self,
        ids: Tensor,
        most: int,
        filters: dict,
        draws: Draws | None,
        stop: tuple[int, ...],
        until: Callable[[Tensor], Tensor] | None,
        penalty: float,
        present: Tensor | None,
    ):
        self.ids, self.prompt, self.filters, self.draws = F.pad(ids.long(), (0, most)), ids.shape[1], filters, draws
        self.until, self.penalty, self.present = until, penalty, present
        self.stops = torch.tensor(stop, dtype=torch.int64, device=ids.device)
        self.lengths = torch.full((ids.shape[0],), ids.shape[1], device=ids.device)
        self.ended = torch.zeros(ids.shape[0], dtype=torch.bool, device=ids.device)

    def going(self) -> Tensor:
        """Which rows choose further tokens: bool [B]."""
        return ~self.ended & (self.lengths < self.ids.shape[1])

    def longest(self) -> int:
        """Tokens of the longest row."""
        return int(self.lengths.max())

    def unfinished(self, *, together: bool) -> bool:
        """Whether a row has tokens to come; together: or an ended row is behind the longest."""
        behind = bool((self.lengths < self.longest()).any()) if together else False
        return self.ids.shape[1] > self.prompt and (behind or bool(self.going().any()))

    def ready(self) -> int:
        """How many tokens of all rows are known: those of the shortest row that hasn't ended."""
        return int(torch.where(self.ended, self.longest(), self.lengths).min())

    def wanted(self, most: int, rewindable: int) -> list[int]:
        """Guesses that each row has a use for, `most` at most: the last token of all needs none. Where a row waits, a
        pass may have to be taken back as a whole."""
        going = self.going()
        most = most if going.all() else min(most, rewindable - 1)
        left = torch.where(going, self.ids.shape[1] - self.lengths - 1, 0)
        return left.clamp(max=most).tolist()

    def last(self) -> Tensor:
        """Each row's last token, [B, 1]."""
        return self.ids.gather(1, self.lengths[:, None] - 1)

    def text(self, length: int) -> Tensor:
        """The first `length` tokens of each row; one that is shorter repeats its last."""
        at = torch.arange(length, device=self.ids.device).minimum(self.lengths[:, None] - 1)
        return self.ids.gather(1, at)

    def take(self, logits: Tensor, guesses: Tensor, counts: list[int]) -> list[int]:
        """Choose tokens from logits [B, 1 + m, V], in each row as long as its guesses, the first counts[b] of guesses
        [B, m], are what is chosen: how many each row got, its guesses that stood and one more. Rows that had ended
        repeat their last token up to the length of the longest row."""
        before, ended, going = self.lengths.clone(), self.ended.clone(), self.going()
        most = torch.tensor(counts, device=going.device)
        for j, here in enumerate(logits.unbind(1)):
            tokens = self._choose(here, going)
            self._append(tokens, going)
            if j == guesses.shape[1]:
                break
            going = going & (j < most) & (tokens == guesses[:, j]) & self.going()
            if not going.any():
                break
        self._catch_up(ended, logits.shape[1])
        if self.draws is not None:
            self.draws.forget(int(self.lengths.min()) - self.prompt)
        return (self.lengths - before).tolist()

    def _choose(self, logits: Tensor, going: Tensor) -> Tensor:
        """One token for each row, [B]; those of rows that aren't going mean nothing."""
        if self.present is not None:
            logits = penalized(logits, self.present, self.penalty)
        if self.draws is None:
            return sample(logits, **self.filters)
        steps, noise = self.lengths - self.prompt, None
        for step in steps[going].unique().tolist():  # in order: the noise of a step follows that of the step before
            drawn = self.draws.at(step, logits.shape, logits.device)
            noise = drawn if noise is None else torch.where((steps == step)[:, None], drawn, noise)
        return sample(logits, **self.filters, random=noise)

    def _append(self, tokens: Tensor, going: Tensor) -> None:
        at = self.lengths.clamp(max=self.ids.shape[1] - 1)[:, None]
        self.ids.scatter_(1, at, torch.where(going[:, None], tokens[:, None], self.ids.gather(1, at)))
        self.lengths = self.lengths + going
        if self.present is not None:
            new = tokens[:, None]
            self.present.scatter_(1, new, self.present.gather(1, new) | going[:, None])
        self.ended = self.ended | going & torch.isin(tokens, self.stops)
        for length in self.lengths[going].unique().tolist() if self.until is not None else ():
            found = self.until(self.text(length)[:, self.prompt :])
            self.ended = self.ended | going & (self.lengths == length) & found

    def _catch_up(self, ended: Tensor, most: int) -> None:
        for row in ended.nonzero()[:, 0].tolist():
            begin = int(self.lengths[row])
            stop = min(begin + most, self.longest())
            self.ids[row, begin:stop] = self.ids[row, begin - 1]
            self.lengths[row] = stop
