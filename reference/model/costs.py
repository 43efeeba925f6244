"""What a configuration costs before it is built: parameters, bytes of cache, and the work of a token."""

from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import torch

from reference.layers.mixer import Mixer
from reference.layers.mixers import mixer
from reference.model.block import build_mixer
from reference.model.config import HybridConfig
from reference.model.hybrid import HybridLM


class Parameters(NamedTuple):
    """total counts tied weights once; active leaves out the experts that a token doesn't visit."""

    total: int
    active: int


@lru_cache(maxsize=64)
def count_parameters(config: HybridConfig) -> Parameters:
    """Counted on a model without memory (device "meta"), once for each config."""
    with torch.device("meta"):
        model = HybridLM(config)
    total = sum(p.numel() for p in model.parameters())
    idle = 0.0
    if config.num_experts:
        stacked = ("up_proj", "down_proj", "gate_up_bias", "down_bias")  # without a layer's own ".weight"
        experts = sum(p.numel() for name, p in model.named_parameters() if ".mlp." in name and name.endswith(stacked))
        idle = experts * (1 - config.num_experts_per_tok / config.num_experts)
    return Parameters(total, round(total - idle))


def layer_cache_bytes(config: HybridConfig, layer: int, tokens: int, *, element_bytes: int = 2) -> int:
    """Bytes that one layer keeps of one text after `tokens` tokens. Softmax layers grow, the others don't."""
    return _record(config, layer).cache_bytes(config, tokens, element_bytes)


def _record(config: HybridConfig, layer: int) -> Mixer:
    return mixer(config.layer_types[layer])


def bytes_of_cache(config: HybridConfig, tokens: int, *, element_bytes: int = 2) -> int:
    """Bytes of the cache of one text after `tokens` tokens; element_bytes of the model's dtype (2: bfloat16)."""
    return sum(
        layer_cache_bytes(config, n, tokens, element_bytes=element_bytes) for n in range(config.num_hidden_layers)
    )


def config_summary(config: HybridConfig, *, context: int = 32_768, element_bytes: int = 2) -> str:
    """Layers, parameters, and what the cache holds at `context` tokens, as a table."""
    lines = [f"{'layer':>5}  {'mixer':20s} {'cache at ' + format(context, ','):>18s}"]
    for n, kind in enumerate(config.layer_types):
        size = layer_cache_bytes(config, n, context, element_bytes=element_bytes)
        lines.append(f"{n:>5}  {kind:20s} {_bytes(size):>18s}")
    counts = count_parameters(config)
    active = "" if counts.active == counts.total else f", {counts.active:,} active for a token"
    total = bytes_of_cache(config, context, element_bytes=element_bytes)
    return "\n".join([*lines, f"parameters: {counts.total:,}{active}", f"cache of one text: {_bytes(total)}"])


def _bytes(n: int) -> str:
    for unit in ("bytes", "KiB", "MiB"):
        if n < 1024:
            return f"{n:,.4g} {unit}"
        n /= 1024
    return f"{n:,.4g} GiB"


class Work(NamedTuple):
    """What one token costs in one layer, or in the whole model.

    flops         two per multiply-add of a product; what is done number by number (norms, gates, exponentials) is
                  left out
    weight_bytes  bytes of weights that have to be read at least, for all texts of a batch together
    state_bytes   bytes of state and cache that have to be read and written at least, for each text
    """

    flops: float
    weight_bytes: float
    state_bytes: float

    def __add__(self, other: "Work") -> "Work":
        return Work(*(a + b for a, b in zip(self, other, strict=True)))


def mixer_parameters(config: HybridConfig, layer: int) -> int:
    """Weights of one layer's sequence mixer: projections, convolution, gates, norms."""
    return _mixer_parameters(config, config.layer_types.index(config.layer_types[layer]))  # equal in layers of a kind


@lru_cache(maxsize=256)
def _mixer_parameters(config: HybridConfig, layer: int) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in build_mixer(config, layer).parameters())


def mixing_flops(config: HybridConfig, layer: int, position: int, *, chunked: bool) -> float:
    """Flops of the operator, and of nothing else, for the token at `position` (0 is the first): no projections. The
    formulas are those of chapter 11, and stand in the records of the kinds (reference.layers)."""
    return _record(config, layer).flops(config, position, chunked=chunked)


def layer_decode_work(config: HybridConfig, layer: int, position: int, *, element_bytes: int = 2) -> Work:
    """The mixer of one layer, for one token behind `position` others: its weights are read once; softmax layers read
    what they keep and add a token to it, linear layers read and write their state."""
    weights = mixer_parameters(config, layer)
    flops = 2 * weights + mixing_flops(config, layer, position, chunked=False)
    moved = _record(config, layer).moved_bytes(config, position, element_bytes)
    return Work(flops, element_bytes * weights, moved)


def decode_work(config: HybridConfig, position: int, *, element_bytes: int = 2) -> Work:
    """One token behind `position` others, in the whole model. Every active weight is read once. Embeddings are a
    lookup: the table is not read, lm_head is."""
    weights = _matrix_parameters(config)
    work = Work(2.0 * weights, float(element_bytes * weights), 0.0)
    for kind in dict.fromkeys(config.layer_types):
        layer, count = config.layer_types.index(kind), config.layer_types.count(kind)
        moved = layer_decode_work(config, layer, position, element_bytes=element_bytes).state_bytes
        work += Work(count * mixing_flops(config, layer, position, chunked=False), 0.0, count * moved)
    return work


def prefill_flops(config: HybridConfig, tokens: int) -> float:
    """A prompt of so many tokens, logits only for the last one."""
    head = config.hidden_size * config.vocab_size
    flops = 2.0 * (_matrix_parameters(config) - head) * tokens + 2.0 * head
    return flops + sum(prompt_mixing_flops(config, layer, tokens) for layer in range(config.num_hidden_layers))


def prompt_mixing_flops(config: HybridConfig, layer: int, tokens: int) -> float:
    """mixing_flops summed over the tokens of a prompt: one layer's operator, without projections."""
    # flops over the position are made of straight lines: the sum over each is exact from its ends
    bends = _record(config, layer).bends(config)
    edges = sorted({0, tokens - 1, *(x for x in bends if 0 < x < tokens - 1)})
    at = {x: mixing_flops(config, layer, x, chunked=True) for x in edges}
    inner = sum((end - begin) * (at[begin] + at[end]) / 2 for begin, end in pairwise(edges))
    return inner + (at[0] + at[tokens - 1]) / 2


def _matrix_parameters(config: HybridConfig) -> int:
    """Weights that a token is multiplied with: active ones, and the embedding's table only if that is the head too."""
    active = count_parameters(config).active
    return active if config.tie_word_embeddings else active - config.vocab_size * config.hidden_size


def crossover_tokens(config: HybridConfig, *, element_bytes: int = 2) -> dict[str, int]:
    """From how many tokens on each kind of linear layer holds less than a softmax layer of the same model: state and
    convolution's tail over the softmax layer's bytes per token. Empty if the model lacks either."""
    softmax = growing_layer(config)
    if softmax is None:
        return {}
    growth = layer_cache_bytes(config, softmax, 1, element_bytes=element_bytes)
    found = {}
    for n, kind in enumerate(config.layer_types):
        if not mixer(kind).softmax:
            found[kind] = layer_cache_bytes(config, n, 1, element_bytes=element_bytes) // growth + 1
    return found


def growing_layer(config: HybridConfig) -> int | None:
    """The first layer whose cache grows with every token; None if there is none."""
    return next((n for n, kind in enumerate(config.layer_types) if mixer(kind).grows), None)
