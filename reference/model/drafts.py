"""Drafts for speculative decoding: guesses of the next tokens that cost little. `generate` lets the model verify them.

A draft is a function of one text so far and of what the model has just computed: draft(ids, features, n) -> int64
[1, m] with m <= n, its guesses of the tokens that follow ids [1, T]. features [1, t, hidden_size] is what lm_head read
at the tokens that this pass has added to the text, up to the last but one: t is all of a prompt after the first pass,
and the number of tokens that the pass gave later. m = 0 says that it has no idea. Each row of a batch is asked for
alone, without its padding; only the multi-token head guesses for all rows at once.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from reference.arguments import check_positive_int, cut_short
from reference.layers.batch import PLAIN, BatchLayout
from reference.model.cache import Cache
from reference.model.hybrid import HybridLM
from reference.model.texts import GrowingTexts

Draft = Callable[[Tensor, Tensor, int], Tensor]


@dataclass
class DecodingStats:
    """What a call of `generate` did, if it is given one to fill in.

    passes    of the model, that over the prompt among them
    tokens    new ones in each row, the longest; without drafts as many as passes
    drafted   guesses that were read with the last token, of all rows together
    accepted  of these, the ones that stood
    seconds   from the call to its end
    """

    passes: int = 0
    tokens: int = 0
    drafted: int = 0
    accepted: int = 0
    seconds: float = 0.0

    @property
    def tokens_per_pass(self) -> float:
        """New tokens of a row over passes of the model."""
        return self.tokens / max(self.passes, 1)

    def add_pass(self, guesses: list[int], taken: list[int]) -> None:
        """Count a pass that read so many guesses in each row and gave so many tokens, one more than guesses stood."""
        self.passes += 1
        self.drafted += sum(guesses)
        self.accepted += sum(max(n - 1, 0) for n, guessed in zip(taken, guesses, strict=True) if guessed)


class NGramDraft:
    """What followed when the last tokens stood in the text before: for code, tables, quotes and all that repeats. Where
    the text ends too early, the guesses go on with themselves: a period is repeated.

    longest  tokens that have to be the same, if possible; else one less, down to one. The latest such place counts

    Called with several rows, it guesses as many tokens as it has for each. Source: Saxena 2023 (prompt lookup).
    """

    def __init__(self, longest: int = 3):
        check_positive_int("longest", longest)
        self.longest = longest

    def __call__(self, ids: Tensor, features: Tensor, n: int) -> Tensor:
        found = [self._behind(row, n) for row in ids]
        m = min(len(tokens) for tokens in found)
        return torch.stack([tokens[:m] for tokens in found])

    def _behind(self, row: Tensor, n: int) -> Tensor:
        for length in range(min(self.longest, len(row) - 1), 0, -1):
            same = (row[:-1].unfold(0, length, 1) == row[-length:]).all(1).nonzero()
            if len(same):
                begin = int(same[-1]) + length
                return row[begin + torch.arange(n, device=row.device) % (len(row) - begin)]
        return row[:0]


class HeadDraft:
    """The multi-token head: from the features at t and the token t+1 to the likeliest token t+2, and so on from its own
    features. It keeps what its block has read, a cache of its own, for one text or for the rows of a batch.

    model         one with num_nextn_predict_layers = 1, as `train --predict-ahead` makes it
    left_padding  [B], of the prompt, as generate has it

    Called as a draft, it takes all rows to be of one length; `guess` doesn't. The head was trained for one token ahead;
    each further guess is a little worse. Raises ValueError that names draft.
    Source: DeepSeek-V3, section 2.2; vLLM's and SGLang's use of one head several times.
    """

    def __init__(self, model: HybridLM, left_padding: Tensor | None = None):
        if model.mtp is None:
            raise ValueError("draft: 'head' needs a model with a multi-token head, num_nextn_predict_layers = 1")
        self.model, self.left_padding, self.cache = model, left_padding, None

    def __call__(self, ids: Tensor, features: Tensor, n: int) -> Tensor:
        return self.guess(features, ids[:, ids.shape[1] - features.shape[1] :], [0] * len(ids), n)

    @torch.no_grad()
    def guess(self, features: Tensor, following: Tensor, back: list[int], n: int) -> Tensor:
        """n guesses for each row, [B, n]: the block reads features [B, t, hidden_size] and the tokens behind them,
        following [B, t], and forgets the last back[b] of row b."""
        if self.cache is None:
            self.cache = Cache(self.model.config.with_layers(("full_attention",)), len(features))
            self.cache.left_padding = self.left_padding
        x = self._read(features, following)
        self.cache.rewind(back)
        last = (x.shape[1] - 1 - torch.tensor(back, device=x.device)).clamp(min=0)
        x, guesses, here = x[torch.arange(len(x), device=x.device), last][:, None], [], self.cache.snapshot()
        for left in reversed(range(n)):
            guesses.append(self.model.read_out(x).argmax(-1))
            x = self._read(x, guesses[-1]) if left else x
        self.cache.restore(here)
        return torch.cat(guesses, 1) if n else following[:, :0]

    def _read(self, x: Tensor, following: Tensor) -> Tensor:
        cache, layout = self.cache, PLAIN
        if cache.left_padding is not None:
            layout = BatchLayout.padded(cache.left_padding, cache.seen, x.shape[1])
        x, state = self.model.mtp.step(x, self.model.embed_tokens(following), cache.states[0], layout)
        cache.states, cache.seen = [state], cache.seen + x.shape[1]
        return x


def ask(
    draft: Draft, rows: GrowingTexts, features: Tensor, back: list[int], wanted: list[int], left_padding: Tensor | None
) -> tuple[Tensor, list[int]]:
    """At most wanted[b] guesses of what follows row b: tokens [B, m], of which the first counts[b] are meant, and
    counts. features [B, t, hidden_size] of the last pass; the last back[b] of row b are of tokens that were taken back.
    Raises ValueError if a draft gives no tokens [1, m] with m <= n."""
    if isinstance(draft, HeadDraft):
        at = rows.lengths[:, None] - features.shape[1] + torch.arange(features.shape[1], device=features.device)
        at = (at + torch.tensor(back, device=at.device)[:, None]).clamp(max=rows.ids.shape[1] - 1)
        return draft.guess(features, rows.ids.gather(1, at), back, max(wanted)), wanted
    skips = [0] * len(wanted) if left_padding is None else left_padding.tolist()
    lines = [rows.ids.new_empty(1, 0)] * len(wanted)
    for row, n in enumerate(wanted):
        if n:
            skip, length, read = skips[row], int(rows.lengths[row]), features.shape[1] - back[row]
            own = features[row : row + 1, skip if read == length - 1 else 0 : read]  # of all the text: padding as well
            lines[row] = _checked(draft, rows.ids[row : row + 1, skip:length], own, n)
    counts = [line.shape[1] for line in lines]
    guesses = rows.last().expand(-1, max(counts)).clone()
    for row, line in enumerate(lines):
        guesses[row, : counts[row]] = line[0]
    return guesses, counts


def _checked(draft: Draft, ids: Tensor, features: Tensor, n: int) -> Tensor:
    guesses = draft(ids, features, n)
    if guesses.dtype != ids.dtype or guesses.dim() != 2 or len(guesses) != len(ids) or guesses.shape[1] > n:
        got = f"{guesses.dtype} {list(guesses.shape)}"
        raise ValueError(f"draft: expected {ids.dtype} [{len(ids)}, up to {n}], got {got}")
    return guesses


def build_draft(kind: str | Draft | None, model: HybridLM, left_padding: Tensor | None = None) -> Draft | None:
    """The draft that a word names, "head" or "ngrams", for one text; a draft or None as it is. Raises ValueError."""
    if kind is None or callable(kind):
        return kind
    if kind not in ("head", "ngrams"):
        raise ValueError(f"draft: expected None, 'head', 'ngrams' or a function, got {cut_short(kind)}")
    return HeadDraft(model, left_padding) if kind == "head" else NGramDraft()
