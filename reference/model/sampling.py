"""From logits to one token per row: the filters, and the noise that decides, which can be asked for again."""

import torch
from torch import Tensor

from reference.arguments import check_count, cut_short, is_whole_number


class Draws:
    """The noise of each step of decoding, [B, V]: in order, or once more. Rows of a batch need not be in the same step.

    With the same seed it is the same; without one, new each time.
    """

    def __init__(self, seed: int | None, device: torch.device):
        self.random, self.again = random_source(seed, device), torch.Generator(device=device)
        self.states: dict[int, Tensor] = {}  # of the generator, before the noise of a step

    def at(self, step: int, shape: torch.Size, device: torch.device) -> Tensor:
        """The noise of a step; the first time each step is asked for behind the one before it."""
        if step not in self.states:
            self.states[step] = self.random.get_state()
            return _noise(shape, device, self.random)
        self.again.set_state(self.states[step])
        return _noise(shape, device, self.again)

    def forget(self, before: int) -> None:
        """No row will ask for a step before this one."""
        self.states = {step: state for step, state in self.states.items() if step >= before}


def random_source(seed: int | None, device: torch.device) -> torch.Generator:
    """What sampling draws from: the same for the same seed; without one, new each time."""
    random = torch.Generator(device=device)
    if seed is None:
        random.seed()
    else:
        random.manual_seed(seed)
    return random


def sample(
    logits: Tensor,
    temperature: float,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    random: torch.Generator | Tensor | None = None,
) -> Tensor:
    """One token per row from logits [B, V]: int64 [B]. The filters apply in the order of the arguments. random: a
    generator, or noise [B, V] as Draws gives it. The token of the largest p / noise is drawn, noise exponential: each
    token's chance is p."""
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
    noise = random if isinstance(random, Tensor) else _noise(logits.shape, logits.device, random)
    return (logits.softmax(-1) / noise.to(logits.dtype)).argmax(-1)


def _noise(shape: torch.Size, device: torch.device, random: torch.Generator | None) -> Tensor:
    return torch.empty(shape, device=device).exponential_(1, generator=random)


def penalized(logits: Tensor, present: Tensor, penalty: float) -> Tensor:
    """Logits [B, V] of tokens that are present, bool [B, V], made smaller: divided by the penalty if above 0, else
    multiplied by it. Source: Keskar et al. 2019 (CTRL), in the form of transformers."""
    return torch.where(present, torch.where(logits > 0, logits / penalty, logits * penalty), logits)


def tokens_in(ids: Tensor, left_padding: Tensor | None, vocab_size: int) -> Tensor:
    """Which tokens of the vocabulary stand in each row of ids [B, T], padding left out: bool [B, V]."""
    is_token = torch.ones_like(ids, dtype=torch.bool)
    if left_padding is not None:
        is_token = torch.arange(ids.shape[1], device=ids.device) >= left_padding[:, None]
    counts = torch.zeros(ids.shape[0], vocab_size, dtype=torch.int64, device=ids.device)
    return counts.scatter_add_(1, ids, is_token.long()) > 0


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
