"""From logits to text: prefill once, then one token at a time, or with drafts several in one pass."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing

import torch
from torch import Tensor

from reference.arguments import NotANumber, check_positive_int
from reference.model.cache import Cache, new_cache
from reference.model.drafts import DecodingStats, Draft, ask, build_draft
from reference.model.hybrid import HybridLM
from reference.model.prefixes import PrefixCache
from reference.model.sampling import Draws, check_sampling, tokens_in
from reference.model.texts import GrowingTexts


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
    until         called with the new tokens [B n, new] so far, says which rows have ended, bool [B n]; see StopStrings.
                  With a draft, rows that have fewer tokens yet repeat their last; what is said of them isn't used
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
    decides: a pass over several tokens rounds differently. Each row of a batch has its own guesses, as many of them
    stand as are right in that row, and it waits only at its end. A cache that is passed in must be rewindable by
    draft_tokens.

    Raises ValueError that names the argument.
    """
    stats = DecodingStats() if stats is None else stats
    options = {"min_p": min_p, "repetition_penalty": repetition_penalty, "n": n, "stop": stop, "until": until}
    options |= {"cache": cache, "prefixes": prefixes, "left_padding": left_padding}
    options |= {"draft": draft, "draft_tokens": draft_tokens, "stats": stats}
    new = []
    with closing(decode_steps(model, ids, max_new_tokens, temperature, top_k, top_p, seed, **options)) as steps:
        for tokens in steps:
            new.append(tokens)
            if stream is not None:
                stream(tokens)
    return torch.cat([ids.repeat_interleave(n, 0), *(tokens[:, None] for tokens in new)], 1)


@torch.no_grad()
def decode_steps(
    model: HybridLM,
    ids: Tensor,
    max_new_tokens: int,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int | None = None,
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
) -> Iterator[Tensor]:
    """`generate` as an iterator: the new tokens [B n] of each step, in order, as soon as every row has them. Arguments
    and errors as there, at the first step; whoever leaves the loop ends the decoding."""
    began = time.perf_counter()
    check_sampling(max_new_tokens, temperature, top_k, top_p, min_p, repetition_penalty)
    check_positive_int("n", n)
    check_positive_int("draft_tokens", draft_tokens)
    begin, given = 0, cache is not None
    rewind = 0 if draft is None else draft_tokens + (len(ids) * n > 1)  # a row that waits takes back all that it reads
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
    draft, guesses, counts = build_draft(draft, model, padding), new[:, :0], [0] * len(ids)
    filters = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p}
    draws = None if temperature == 0 else Draws(seed, ids.device)
    present = None if repetition_penalty == 1 else tokens_in(ids, padding, model.config.vocab_size)
    rows = GrowingTexts(ids, max_new_tokens, filters, draws, stop, until, repetition_penalty, present)
    stats, told = DecodingStats() if stats is None else stats, 0
    vars(stats).update(vars(DecodingStats()))
    was_training = model.training
    model.eval()
    try:
        while rows.unfinished(together=given):
            first, m = stats.passes == 0, guesses.shape[1]
            x = model.features(torch.cat([new, guesses], 1), cache=cache, left_padding=left_padding if first else None)
            if first and n > 1:
                chosen = torch.arange(len(x), device=x.device).repeat_interleave(n)
                cache.select(chosen)
                x = x[chosen]
            logits = model.read_out(x[:, x.shape[1] - 1 - m :]).float()
            if logits.isnan().any():
                raise NotANumber("model: its logits are NaN; its weights may hold NaN")
            taken = rows.take(logits, guesses, counts)
            back = [1 + m - tokens for tokens in taken]
            if any(back):
                cache.rewind(back)
            cache.unread = new = rows.last()
            guesses = new[:, :0]
            stats.add_pass(counts, taken)
            if draft is not None:
                wanted = rows.wanted(draft_tokens, cache.rewindable)
                guesses, counts = ask(draft, rows, x, back, wanted, padding)
            ready = rows.ready() - prompt
            stats.tokens, stats.seconds = rows.longest() - prompt, time.perf_counter() - began
            yield from rows.text(prompt + ready)[:, prompt + told :].unbind(1)
            told = ready
    finally:
        model.train(was_training)
    if prefixes is not None and n == 1:
        prefixes.keep(rows.text(rows.longest()), cache)
    stats.seconds = time.perf_counter() - began


def pad_left(prompts: list[Tensor], pad_id: int = 0) -> tuple[Tensor, Tensor]:
    """Prompts [T_b] of different lengths as one batch: (ids [B, max T_b], left_padding [B])."""
    if not prompts or any(not isinstance(p, Tensor) or p.dim() != 1 or not len(p) for p in prompts):
        raise ValueError("prompts: expected at least one 1-d tensor of ids, none of them empty")
    longest = max(len(p) for p in prompts)
    ids = torch.stack([torch.nn.functional.pad(p, (longest - len(p), 0), value=pad_id) for p in prompts])
    return ids, torch.tensor([longest - len(p) for p in prompts], device=ids.device)
