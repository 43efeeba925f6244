"""From logits to text: prefill once, then one token at a time, or with drafts several in one pass."""

import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from reference.arguments import NotANumber, check_count, check_positive_int, cut_short, is_whole_number
from reference.model.cache import Cache, new_cache
from reference.model.drafts import DecodingStats, Draft, ask, build_draft
from reference.model.hybrid import HybridLM
from reference.model.prefixes import PrefixCache


@torch.no_grad()
def generate(
    model: HybridLM,
    ids: Tensor,
    max_new_tokens: int,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int | None = None,
    stream: Callable[[Tensor], None] | None = None,
    *,
    min_p: float | None = None,
    repetition_penalty: float = 1.0,
    n: int = 1,
    stop: tuple[int, ...] = (),
    until: Callable[[Tensor], Tensor] | None = None,
    cache: Cache | None = None,
    prefixes: PrefixCache | None = None,
    left_padding: Tensor | None = None,
    draft: str | Draft | None = None,
    draft_tokens: int = 4,
    stats: DecodingStats | None = None,
) -> Tensor:
    """Continue ids [B, T] by up to max_new_tokens: int64 [B n, T + new].

    temperature   0 takes the likeliest token; above 0 samples, after keeping
    top_k         the likeliest so many,
    top_p         the fewest that hold so much of the probability, and
    min_p         those with at least so much of the likeliest one's
    seed          makes sampling repeatable
    stream        called with the new tokens [B n] of each step, in order
    repetition_penalty
                  first of all, logits of tokens that are in the row already are divided by it if above 0, else
                  multiplied by it; 1: none
    n             samples of each row: the prompt is read once. Row b's are b n to b n + n - 1
    stop          a row that has produced one of these tokens repeats it until every row has
    until         called with the new tokens [B n, new] so far, says which rows have ended, bool [B n]; see StopStrings
    cache         a filled one is continued: for a second turn ids are its new tokens only; the last token of the answer
                  before, which the model hasn't read yet, is read first
    prefixes      what texts before shared with this one, of one row, isn't read again; ids are the whole text
    left_padding  [B], for prompts of different lengths, as pad_left makes them
    draft         "head", "ngrams" or a function as in model/drafts.py: speculative decoding
    draft_tokens  guesses at most in each pass
    stats         is filled in

    With a draft, a pass reads the last token and some guesses of what follows. The model chooses each token from its
    own logits, as it does without; from the first guess on that it didn't choose, they are taken back. So the text is
    that of plain decoding, sampled with the same seed as well, unless two tokens are so near each other that rounding
    decides: a pass over several tokens rounds differently. In a batch a guess stands if it does in every row. A cache
    that is passed in must be rewindable by draft_tokens.

    Raises ValueError that names the argument.
    """
    began = time.perf_counter()
    check_sampling(max_new_tokens, temperature, top_k, top_p, min_p, repetition_penalty)
    check_positive_int("n", n)
    check_positive_int("draft_tokens", draft_tokens)
    rewind, begin = draft_tokens if draft is not None else 0, 0
    if prefixes is not None:
        if cache is not None or left_padding is not None:
            raise ValueError("prefixes: makes the cache itself, for one text; give no cache and no left_padding")
        cache = prefixes.read(ids, rewind=rewind)
        begin = cache.seen
    elif cache is None:
        cache = new_cache(model, ids.shape[0], rewind=rewind)
    if draft is not None and cache.rewindable < draft_tokens:
        raise ValueError(
            f"cache: to take back {draft_tokens} guesses make it with new_cache(model, rewind={draft_tokens}); "
            f"this one's rewind is {cache.rewindable}"
        )
    new = ids[:, begin:] if cache.unread is None else torch.cat([cache.unread, ids], 1)
    ids, prompt = ids.repeat_interleave(n, 0), ids.shape[1]
    padding = None if left_padding is None else left_padding.repeat_interleave(n)
    draft, guesses, counts = build_draft(draft, model, padding), new[:, :0], DecodingStats()
    filters = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p}
    filters["random"] = None if temperature == 0 else random_source(seed, ids.device)
    choice = _Choice(ids, filters, stop, until, repetition_penalty)
    if repetition_penalty != 1:
        choice.present = _tokens_in(ids, padding, model.config.vocab_size)
    was_training = model.training
    model.eval()
    try:
        while choice.ids.shape[1] < prompt + max_new_tokens and not choice.done.all():
            first, m = counts.passes == 0, guesses.shape[1]
            x = model.features(torch.cat([new, guesses], 1), cache=cache, left_padding=left_padding if first else None)
            if first and n > 1:
                rows = torch.arange(len(x), device=x.device).repeat_interleave(n)
                cache.select(rows)
                x = x[rows]
            logits = model.read_out(x[:, x.shape[1] - 1 - m :]).float()
            if logits.isnan().any():
                raise NotANumber("model: its logits are NaN; its weights may hold NaN")
            stood = choice.take(logits, guesses)
            cache.rewind(m - stood)
            cache.unread = new = choice.ids[:, -1:]
            counts.add_pass(guesses=m, accepted=stood)
            for token in choice.ids[:, -1 - stood :].unbind(1) if stream is not None else ():
                stream(token)
            guesses, wanted = new[:, :0], prompt + max_new_tokens - choice.ids.shape[1] - 1
            if draft is not None and wanted > 0:  # the last token of all needs no guess
                guesses = ask(draft, choice.ids, x[:, : x.shape[1] - m + stood], min(draft_tokens, wanted))
                guesses = torch.where(choice.done[:, None], new, guesses)
    finally:
        model.train(was_training)
    if prefixes is not None and n == 1:
        prefixes.keep(choice.ids, cache)
    counts.seconds = time.perf_counter() - began
    if stats is not None:
        vars(stats).update(vars(counts))
    return choice.ids


class _Choice:
    """The text so far, ids [B, T], and how its next token is chosen: the same with and without guesses."""

    def __init__(self, ids: Tensor, filters: dict, stop: tuple, until: Callable | None, penalty: float):
        self.ids, self.prompt, self.filters, self.until, self.penalty = ids, ids.shape[1], filters, until, penalty
        self.stops = torch.tensor(stop, dtype=torch.int64, device=ids.device)
        self.done = torch.zeros(ids.shape[0], dtype=torch.bool, device=ids.device)
        self.present: Tensor | None = None  # [B, V], tokens of the text; None: they don't matter

    def take(self, logits: Tensor, guesses: Tensor) -> int:
        """Choose tokens from logits [B, 1 + m, V] as long as guesses [B, m] are what is chosen: how many were."""
        for stood, here in enumerate(logits.unbind(1)):
            token = self._next(here)
            if stood == guesses.shape[1] or self.done.all() or (token != guesses[:, stood]).any():
                break
        return stood

    def _next(self, logits: Tensor) -> Tensor:
        if self.present is not None:
            logits = penalized(logits, self.present, self.penalty)
        token = torch.where(self.done, self.ids[:, -1], sample(logits, **self.filters))
        self.ids = torch.cat([self.ids, token[:, None]], 1)
        if self.present is not None:
            self.present.scatter_(1, token[:, None], True)
        self.done = self.done | torch.isin(token, self.stops)
        if self.until is not None:
            self.done = self.done | self.until(self.ids[:, self.prompt :])
        return token


def _tokens_in(ids: Tensor, left_padding: Tensor | None, vocab_size: int) -> Tensor:
    """Which tokens of the vocabulary stand in each row, padding left out: bool [B, V]."""
    is_token = torch.ones_like(ids, dtype=torch.bool)
    if left_padding is not None:
        is_token = torch.arange(ids.shape[1], device=ids.device) >= left_padding[:, None]
    counts = torch.zeros(ids.shape[0], vocab_size, dtype=torch.int64, device=ids.device)
    return counts.scatter_add_(1, ids, is_token.long()) > 0


def penalized(logits: Tensor, present: Tensor, penalty: float) -> Tensor:
    """Logits [B, V] of tokens that are present, bool [B, V], made smaller: divided by the penalty if above 0, else
    multiplied by it. Source: Keskar et al. 2019 (CTRL), in the form of transformers."""
    return torch.where(present, torch.where(logits > 0, logits / penalty, logits * penalty), logits)


class StopStrings:
    """`generate`'s until: a row has ended when the text of its new tokens holds one of the strings.

    decode   from a list of ids to text
    strings  none of them empty
    """

    def __init__(self, decode: Callable[[list[int]], str], strings: Sequence[str]):
        if isinstance(strings, str) or not all(isinstance(s, str) and s for s in strings):
            raise ValueError(f"strings: expected a list of strings, none of them empty, got {cut_short(strings)}")
        self.decode, self.strings = decode, tuple(strings)
        self.longest = max((len(s.encode("utf-8", "surrogatepass")) for s in strings), default=0)

    def __call__(self, new: Tensor) -> Tensor:
        """new [B, T] -> bool [B]. Only the end is decoded: what ended earlier was said to have ended then."""
        tails = new[:, -(2 * self.longest + 16) :].tolist()
        found = [any(s in self.decode(tail) for s in self.strings) for tail in tails]
        return torch.tensor(found, device=new.device)


def random_source(seed: int | None, device: torch.device) -> torch.Generator:
    """What sampling draws from: the same for the same seed; without one, new each time."""
    random = torch.Generator(device=device)
    if seed is None:
        random.seed()
    else:
        random.manual_seed(seed)
    return random


def pad_left(prompts: list[Tensor], pad_id: int = 0) -> tuple[Tensor, Tensor]:
    """Prompts [T_b] of different lengths as one batch: (ids [B, max T_b], left_padding [B])."""
    if not prompts or any(not isinstance(p, Tensor) or p.dim() != 1 or not len(p) for p in prompts):
        raise ValueError("prompts: expected at least one 1-d tensor of ids, none of them empty")
    longest = max(len(p) for p in prompts)
    ids = torch.stack([torch.nn.functional.pad(p, (longest - len(p), 0), value=pad_id) for p in prompts])
    return ids, torch.tensor([longest - len(p) for p in prompts], device=ids.device)


def sample(
    logits: Tensor,
    temperature: float,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    random: torch.Generator | None = None,
) -> Tensor:
    """One token per row from logits [B, V]: int64 [B]. The filters apply in the order of the arguments."""
    if temperature <= torch.finfo(torch.float32).tiny:
        return logits.argmax(-1)
    logits = (logits - logits.amax(-1, keepdim=True)) / temperature  # at most 0: no temperature overflows
    if top_k is not None and top_k < logits.shape[-1]:
        logits = logits.masked_fill(logits < logits.topk(top_k).values[:, -1:], -torch.inf)
    if top_p is not None:
        values, order = logits.sort(-1, descending=True)
        before = values.softmax(-1).cumsum(-1) - values.softmax(-1)  # probability of all likelier tokens
        beyond = before >= top_p
        beyond[:, 0] = False  # the likeliest stays, however small top_p is
        dropped = torch.zeros_like(beyond).scatter(-1, order, beyond)
        logits = logits.masked_fill(dropped, -torch.inf)
    if min_p is not None:
        p = logits.softmax(-1)
        logits = logits.masked_fill(p < min_p * p.amax(-1, keepdim=True), -torch.inf)
    return torch.multinomial(logits.softmax(-1), 1, generator=random)[:, 0]


def check_sampling(
    max_new_tokens: int,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    min_p: float | None,
    repetition_penalty: float = 1.0,
) -> None:
    """Raises ValueError that names the argument of generate that makes no sense."""
    check_count("max_new_tokens", max_new_tokens)
    if not temperature >= 0:
        raise ValueError(f"temperature: expected a number >= 0, got {cut_short(temperature)}")
    if top_k is not None and not is_whole_number(top_k, 1):
        raise ValueError(f"top_k: expected a whole number >= 1 or None, got {cut_short(top_k)}")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p: expected a number in (0, 1] or None, got {cut_short(top_p)}")
    if min_p is not None and not 0 <= min_p <= 1:
        raise ValueError(f"min_p: expected a number in [0, 1] or None, got {cut_short(min_p)}")
    if not 0 < repetition_penalty < float("inf"):
        raise ValueError(f"repetition_penalty: expected a number > 0, got {cut_short(repetition_penalty)}")
