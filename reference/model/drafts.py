"""Drafts for speculative decoding: guesses of the next tokens that cost little. `generate` lets the model verify them.

A draft is a function of the text so far and of what the model has just computed: draft(ids, features, n) -> int64
[B, m] with m <= n, its guesses of the tokens that follow ids [B, T]. features [B, t, hidden_size] is what lm_head read
at the tokens that this pass has added to the text, up to the last but one: t is all of a prompt after the first pass,
and the number of accepted tokens later. m = 0 says that it has no idea.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from reference.arguments import check_positive_int, cut_short
from reference.layers.batch import PLAIN, BatchLayout
from reference.model.hybrid import HybridLM

Draft = Callable[[Tensor, Tensor, int], Tensor]


@dataclass
class DecodingStats:
    """What a call of `generate` did, if it is given one to fill in.

    passes    of the model, that over the prompt among them
    tokens    new ones in each row; without drafts as many as passes
    drafted   guesses that were read with the last token
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

    def add_pass(self, guesses: int, accepted: int) -> None:
        """Count a pass that read so many guesses, of which so many stood: it gives one token more than that."""
        self.passes += 1
        self.tokens += accepted + 1
        self.drafted += guesses
        self.accepted += accepted


class NGramDraft:
    """What followed when the last tokens stood in the text before: for code, tables, quotes and all that repeats. Where
    the text ends too early, the guesses go on with themselves: a period is repeated.

    longest  tokens that have to be the same, if possible; else one less, down to one. The latest such place counts

    In a batch every row needs a place, since rows go on together. Source: Saxena 2023 (prompt lookup decoding).
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
    features. It keeps the state of its block, for one text.

    model         one with num_nextn_predict_layers = 1, as `train --predict-ahead` makes it
    left_padding  [B], of the prompt, as generate has it

    The head was trained for one token ahead; each further guess is a little worse. Raises ValueError that names draft.
    Source: DeepSeek-V3, section 2.2; vLLM's and SGLang's use of one head several times.
    """

    def __init__(self, model: HybridLM, left_padding: Tensor | None = None):
        if model.mtp is None:
            raise ValueError("draft: 'head' needs a model with a multi-token head, num_nextn_predict_layers = 1")
        self.model, self.left_padding, self.state = model, left_padding, None

    @torch.no_grad()
    def __call__(self, ids: Tensor, features: Tensor, n: int) -> Tensor:
        t = features.shape[1]
        x, self.state = self._step(features, ids[:, -t:], self.state)  # of tokens that stay: nothing to take back
        guesses, x, state = [ids[:, :0]], x[:, -1:], self.state
        for _ in range(n):
            guesses.append(self.model.read_out(x).argmax(-1))
            if len(guesses) <= n:
                x, state = self._step(x, guesses[-1], state)
        return torch.cat(guesses, 1)

    def _step(self, x: Tensor, following: Tensor, state: object) -> tuple[Tensor, object]:
        begin, layout = 0 if state is None else state.seen, PLAIN
        if self.left_padding is not None:
            layout = BatchLayout.padded(self.left_padding, begin, x.shape[1])
        return self.model.mtp.step(x, self.model.embed_tokens(following), state, layout)


def ask(draft: Draft, ids: Tensor, features: Tensor, n: int) -> Tensor:
    """The draft's guesses; ValueError if they are no tokens [B, m] with m <= n."""
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
