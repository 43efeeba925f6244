"""The models that the experiment `sinks` compares, and the tasks they learn; see sinks.py for the names."""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from reference.book.corpus import manual_text
from reference.model.config import HybridConfig, pattern
from reference.model.hybrid import HybridLM
from reference.tasks import BEGIN, BigramBackcopy, Texts

VARIANTS = {
    "softmax": {},
    "gated": {"attention_gate": "elementwise"},
    "headwise": {"attention_gate": "headwise"},
    "sink_logit": {"attention_sinks": True},
    "off_by_one": {"attention_sinks": True},
    "linear": {"layer_types": "linear_attention"},
}


class Setting(NamedTuple):
    """One task and the model that learns it.

    draw       (batch_size, rng) -> training texts
    draw_exam  the same, from text that training never sees
    best_loss  texts -> nats per predicted token of a perfect model; None: unknown
    batch_size, steps, lr   of the training
    """

    config: HybridConfig
    draw: Callable[[int, torch.Generator], Texts]
    draw_exam: Callable[[int, torch.Generator], Texts]
    best_loss: Callable[[Texts], Tensor] | None
    batch_size: int
    steps: int
    lr: float


def backcopy(steps: int = 1200) -> Setting:
    """One layer, one head of 64 channels, texts of 64 tokens."""
    task = BigramBackcopy()
    sizes = {"vocab_size": 64, "hidden_size": 64, "intermediate_size": 128, "head_dim": 64}
    linear = {"linear_num_key_heads": 1, "linear_num_value_heads": 1}
    linear |= {"linear_key_head_dim": 64, "linear_value_head_dim": 64}
    heads = {"num_attention_heads": 1, "num_key_value_heads": 1, "qk_norm": None}
    config = HybridConfig(layer_types=("full_attention",), **sizes, **heads, **linear)

    def draw(B: int, rng: torch.Generator) -> Texts:
        return task.draw(B, 64, rng)

    return Setting(config, draw, draw, task.best_loss, 32, steps, 1e-2)


def text(steps: int = 700) -> Setting:
    """Four layers of four heads, bytes of the Python manual in pieces of 128, each behind a begin token."""
    corpus = torch.tensor(list(manual_text().encode("ascii", "replace")))
    sizes = {"vocab_size": 128, "hidden_size": 128, "intermediate_size": 384, "head_dim": 32}
    linear = {"linear_num_key_heads": 4, "linear_num_value_heads": 4}
    linear |= {"linear_key_head_dim": 32, "linear_value_head_dim": 32}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 4, "qk_norm": None}
    config = HybridConfig(layer_types=pattern(0, 1, 4), **sizes, **heads, **linear)

    def draw_from(part: Tensor) -> Callable[[int, torch.Generator], Texts]:
        def draw(B: int, rng: torch.Generator) -> Texts:
            at = torch.randint(len(part) - 127, (B, 1), generator=rng) + torch.arange(127)
            ids = F.pad(part[at], (1, 0), value=BEGIN)
            return Texts(ids, torch.zeros_like(ids, dtype=torch.bool))

        return draw

    cut = len(corpus) * 9 // 10
    return Setting(config, draw_from(corpus[:cut]), draw_from(corpus[cut:]), None, 8, steps, 3e-3)


TASKS = {"backcopy": backcopy, "text": text}


def build(setting: Setting, variant: str, seed: int) -> HybridLM:
    """The untrained model of a variant; the seed sets its weights."""
    changes = dict(VARIANTS[variant])
    if "layer_types" in changes:
        changes["layer_types"] = (changes["layer_types"],) * setting.config.num_hidden_layers
    torch.manual_seed(seed)
    model = HybridLM(replace(setting.config, **changes))
    if variant == "off_by_one":
        for layer in model.layers:
            layer.mixer.sinks.requires_grad_(False)  # e^0 = 1 in every denominator
    return model
