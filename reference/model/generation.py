"""From logits to text: prefill once, then one token at a time."""

from collections.abc import Callable

import torch
from torch import Tensor

from reference.arguments import NotANumber, check_count, is_whole_number
from reference.model.cache import Cache, new_cache
from reference.model.hybrid import HybridLM


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
    stop: tuple[int, ...] = (),
    cache: Cache | None = None,
    left_padding: Tensor | None = None,
) -> Tensor:
    """Continue ids [B, T] by up to max_new_tokens: int64 [B, T + new].

    temperature   0 takes the likeliest token; above 0 samples, after keeping
    top_k         the likeliest so many,
    top_p         the fewest that hold so much of the probability, and
    min_p         those with at least so much of the likeliest one's
    seed          makes sampling repeatable
    stream        called with the new tokens [B] after each step
    stop          a row that has produced one of these tokens repeats it until every row has
    cache         a filled one is continued: for a second turn ids are its new tokens only; the last token of the answer
                  before, which the model hasn't read yet, is read first
    left_padding  [B], for prompts of different lengths, as pad_left makes them

    Raises ValueError that names the argument.
    """
    check_sampling(max_new_tokens, temperature, top_k, top_p, min_p)
    cache = new_cache(model, ids.shape[0]) if cache is None else cache
    random = None if temperature == 0 else random_source(seed, ids.device)
    was_training = model.training
    model.eval()
    try:
        new = ids if cache.unread is None else torch.cat([cache.unread, ids], 1)
        done = torch.zeros(ids.shape[0], dtype=torch.bool, device=ids.device)
        stops = torch.tensor(stop, dtype=torch.int64, device=ids.device)
        for n in range(max_new_tokens):
            logits = model(new, cache=cache, left_padding=left_padding if n == 0 else None)[:, -1].float()
            if logits.isnan().any():
                raise NotANumber("model: its logits are NaN; its weights may hold NaN")
            token = sample(logits, temperature, top_k, top_p, min_p, random)
            token = torch.where(done, ids[:, -1], token)
            ids, new = torch.cat([ids, token[:, None]], 1), token[:, None]
            cache.unread = new
            if stream is not None:
                stream(token)
            done |= torch.isin(token, stops)
            if done.all():
                break
    finally:
        model.train(was_training)
    return ids


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
    max_new_tokens: int, temperature: float, top_k: int | None, top_p: float | None, min_p: float | None
) -> None:
    """Raises ValueError that names the argument of generate that makes no sense."""
    check_count("max_new_tokens", max_new_tokens)
    if not temperature >= 0:
        raise ValueError(f"temperature: expected a number >= 0, got {temperature!r}")
    if top_k is not None and not is_whole_number(top_k, 1):
        raise ValueError(f"top_k: expected a whole number >= 1 or None, got {top_k!r}")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p: expected a number in (0, 1] or None, got {top_p!r}")
    if min_p is not None and not 0 <= min_p <= 1:
        raise ValueError(f"min_p: expected a number in [0, 1] or None, got {min_p!r}")
