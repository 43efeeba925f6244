"""Small models that learn facts from a text: their texts, one rule for their training, and their scores (chapter 16).

A text is tasks.Facts: a walk of words, and keys with answers of two words among them. Scores are
  loss          nats per token of a text
  recall        share of known answer tokens named, each behind the right ones before
  generated     share of answers written whole
  among_text    share of answers that are likelier than three others of the same text
  among_random  the same against three of random words
"""

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reference.model.cache import new_cache
from reference.model.config import HybridConfig
from reference.model.hybrid import HybridLM
from reference.tasks import Facts, FactTexts
from reference.training.trainer import build_optimizer

LOAD = {"facts": 16, "times": 2}  # of the last texts of training, and of the exam
EXAM_TEXTS, EXAM_QUESTIONS, CHOICES = 24, 128, 3
SCORES = ("loss", "recall", "generated", "among_text", "among_random")
LADDER = (2, 4, 8, 16)  # facts of a text, as training goes on
CLIMB, DONE = 0.9, 0.95  # recall, mean of STEPS_SEEN steps, that leads to the next of LADDER, and that ends training
STEPS_SEEN, LAST_STEPS = 10, 60  # steps; the rate falls to 0 over the last LAST_STEPS of them


class Trained(NamedTuple):
    """What a training took."""

    steps: int
    tokens: int


class Climb:
    """How many facts the next texts hold: LADDER's first, then the next as often as a rung is learned."""

    def __init__(self) -> None:
        self.rung, self.done, self.latest = 0, False, deque(maxlen=STEPS_SEEN)

    @property
    def facts(self) -> int:
        """Of the next texts."""
        return LADDER[self.rung]

    def see(self, recall: float) -> None:
        """The recall of one step's texts, which are new ones; `done` once the last rung is learned."""
        self.latest.append(recall)
        last = self.facts == LADDER[-1]
        if len(self.latest) < STEPS_SEEN or sum(self.latest) / STEPS_SEEN < (DONE if last else CLIMB):
            return
        self.done, self.rung = last, min(self.rung + 1, len(LADDER) - 1)
        self.latest.clear()


def new_facts_model(task: Facts, seed: int, layers: tuple[str, ...]) -> HybridLM:
    """Random weights of this seed."""
    torch.manual_seed(seed)
    return HybridLM(facts_config(task, layers))


def facts_config(task: Facts, layers: tuple[str, ...]) -> HybridConfig:
    """One short convolution, then these layers."""
    heads = dict.fromkeys(("num_attention_heads", "linear_num_key_heads", "linear_num_value_heads"), 4)
    sizes = dict.fromkeys(("head_dim", "linear_key_head_dim", "linear_value_head_dim"), 16)
    return HybridConfig(
        vocab_size=task.vocab_size,
        hidden_size=64,
        intermediate_size=128,
        layer_types=("short_conv", *layers),
        num_key_value_heads=2,
        partial_rotary_factor=0.0,
        qk_norm=None,
        tie_word_embeddings=True,
        initializer_range=0.1,
        **heads,
        **sizes,
    )


def texts_with(facts: int, task: Facts, rng: np.random.Generator) -> FactTexts:
    """Texts with so many facts, some 770 tokens together; of LADDER's last as in LOAD."""
    times = max(LOAD["times"], 24 // facts)
    return task.draw(192 // (facts * times), rng, facts=facts, times=times)


def full_texts(task: Facts, seed: int, steps: int) -> list[Tensor]:
    """ids of each step, with as many facts as the exam's."""
    rng = np.random.default_rng(seed)
    return [texts_with(LOAD["facts"], task, rng).ids for _ in range(steps)]


@torch.no_grad()
def scores_of(model: HybridLM, task: Facts) -> dict[str, float]:
    """What the module's docstring says; the exam is the same for all models and seeds."""
    texts = task.draw(EXAM_TEXTS, np.random.default_rng(10**6), **LOAD)
    logits, right = model(texts.ids)[:, :-1], texts.ids[:, 1:]
    named = (logits.argmax(-1) == right)[texts.known[:, 1:]]
    found = {"loss": F.cross_entropy(logits.mT, right).item(), "recall": named.float().mean().item()}
    asked = task.ask(EXAM_QUESTIONS, np.random.default_rng(10**6 + 1), facts=LOAD["facts"], choices=CHOICES)
    given = torch.cat([asked.answers[:, None], asked.others, asked.random], 1)  # [B, 7, words], the right one first
    cache, (B, n, _) = new_cache(model, len(given)), given.shape
    first = model(asked.ids, cache=cache)[:, None, -1:].expand(-1, n, -1, -1)
    cache.select([row for row in range(B) for _ in range(n)])
    behind = model(given[..., :-1].flatten(0, 1), cache=cache).unflatten(0, (B, n))
    log_p = torch.cat([first, behind], 2).log_softmax(-1)  # [B, 7, words, V]
    likelihood = log_p.gather(-1, given[..., None]).sum((2, 3))  # [B, 7]
    # Greedy text is right if and only if each token is the likeliest behind the right ones before it.
    found["generated"] = (log_p.argmax(-1) == given)[:, 0].all(-1).float().mean().item()
    for name, others in (("among_text", slice(1, 1 + CHOICES)), ("among_random", slice(1 + CHOICES, None))):
        found[name] = (likelihood[:, :1] > likelihood[:, others]).all(1).float().mean().item()
    return {name: round(x, 4) for name, x in found.items()}


def train_until_it_recalls(
    model: HybridLM, task: Facts, seed: int, *, lr: float, most: int, look: Callable[[int], None]
) -> Trained:
    """Train on the next token of new texts until DONE of the answers that can be known are named, and LAST_STEPS more.

    most  steps: then it ends, learned or not
    look  called after each step with the number of steps done
    """
    optimizer, climb, rng = build_optimizer(model, lr, 0.01), Climb(), np.random.default_rng(seed)
    step, end, tokens = 0, most, 0
    while step < end:
        texts = texts_with(climb.facts, task, rng)
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1, (step + 1) / 20, (end - step) / LAST_STEPS)
        optimizer.zero_grad()
        logits, right = model(texts.ids)[:, :-1], texts.ids[:, 1:]
        F.cross_entropy(logits.mT, right).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step, tokens = step + 1, tokens + texts.ids.numel()
        look(step)
        if not climb.done:
            climb.see((logits.argmax(-1) == right)[texts.known[:, 1:]].float().mean().item())
            end = min(most, step + LAST_STEPS) if climb.done else most
    return Trained(step, tokens)
