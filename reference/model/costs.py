"""What a configuration costs before it is built: parameters, bytes of cache, and the work of a token."""

from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import torch

from reference.model.block import build_mixer
from reference.model.config import SOFTMAX, HybridConfig
from reference.model.hybrid import HybridLM

CHUNK = 64  # tokens of a chunk of the linear operators
GROWING = ("full_attention", "latent_attention", "indexed_attention")
STATE_BYTES = 4  # recurrent states are float32 whatever the model's dtype


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
        stacked = ("gate_up_proj", "down_proj", "gate_up_bias", "down_bias")  # without a layer's own ".weight"
        experts = sum(p.numel() for name, p in model.named_parameters() if ".mlp." in name and name.endswith(stacked))
        idle = experts * (1 - config.num_experts_per_tok / config.num_experts)
    return Parameters(total, round(total - idle))


def layer_cache_bytes(config: HybridConfig, layer: int, tokens: int, *, element_bytes: int = 2) -> int:
    """Bytes that one layer keeps of one text after `tokens` tokens. Softmax layers grow, the others don't."""
    kind = config.layer_types[layer]
    if kind in ("full_attention", "sliding_attention"):
        kept = tokens if kind == "full_attention" else min(tokens, config.sliding_window - 1)
        return 2 * config.num_key_value_heads * config.head_dim * kept * element_bytes
    if kind in ("latent_attention", "indexed_attention"):
        index = config.index_head_dim if kind == "indexed_attention" else 0
        return (config.kv_lora_rank + config.qk_rope_head_dim + index) * tokens * element_bytes
    if kind == "lightning_attention":
        return config.num_attention_heads * config.head_dim**2 * STATE_BYTES
    value_heads, key_dim = config.linear_num_value_heads, config.linear_key_head_dim
    if kind == "kda":
        channels, state = 3 * value_heads * key_dim, value_heads * key_dim**2
    else:
        value_dim = config.linear_value_head_dim
        channels = 2 * config.linear_num_key_heads * key_dim + value_heads * value_dim
        state = value_heads * key_dim * value_dim
    return channels * (config.linear_conv_kernel_dim - 1) * element_bytes + state * STATE_BYTES


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
    """What one token costs in one layer, or in the whole model. flops: two per multiply-add of a product; what is done
    number by number (norms, gates, exponentials) is left out. Bytes are what has to come from memory and go back to
    it at least: weights are shared by all texts of a batch, state and cache belong to one text."""

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
    """Flops of the operator alone for the token at `position` (0 is the first): no projections.

    Softmax: 4 H D per token in sight (scores, and the sum of values). Latent layers: written out in prefill
    (chunked), on the latents in decoding; the matrices that change sides there are projections. An indexer adds
    2 HI (DI + 1) per token, its attention reads index_topk at most.
    Linear layers: 6 Dk Dv a head (error, write, read), 4 without an erase. In chunks of C tokens these have to do with
    each other as well: 4 C (Dk + Dv) and the triangular system's C^2; half of it and no system without an erase.
    KDA's pairs are halved by construction, C Dk for each of its two matrices of scores. Chapter 11.
    """
    kind, seen = config.layer_types[layer], position + 1
    heads = config.num_attention_heads
    if kind == "sliding_attention":
        seen = min(seen, config.sliding_window)
    if kind in ("full_attention", "sliding_attention"):
        return 4 * heads * config.head_dim * seen  # (11.1)
    if kind in ("latent_attention", "indexed_attention"):
        return _latent_flops(config, seen, sparse=kind == "indexed_attention", chunked=chunked)
    heads, Dk, Dv = _linear_sizes(config, kind)
    erases = kind != "lightning_attention"
    token = (6 if erases else 4) * Dk * Dv  # (11.2)
    if not chunked:
        return heads * token
    pairs = CHUNK * ((2 if kind == "kda" else 4) * Dk + 4 * Dv)
    return heads * (token + (pairs + CHUNK**2 if erases else pairs / 2))  # (11.3)


def _linear_sizes(config: HybridConfig, kind: str) -> tuple[int, int, int]:
    """Value heads, Dk, Dv."""
    if kind == "lightning_attention":
        return config.num_attention_heads, config.head_dim, config.head_dim
    Dv = config.linear_key_head_dim if kind == "kda" else config.linear_value_head_dim
    return config.linear_num_value_heads, config.linear_key_head_dim, Dv


def _latent_flops(config: HybridConfig, seen: int, *, sparse: bool, chunked: bool) -> float:
    heads, rank, rope = config.num_attention_heads, config.kv_lora_rank, config.qk_rope_head_dim
    read = min(seen, config.index_topk) if sparse else seen
    indexing = 2 * config.index_n_heads * (config.index_head_dim + 1) * seen if sparse else 0
    if chunked and read == seen:
        return indexing + 2 * heads * read * (config.qk_nope_head_dim + rope + config.v_head_dim)
    return indexing + 2 * heads * read * (2 * rank + rope)


def layer_decode_work(config: HybridConfig, layer: int, position: int, *, element_bytes: int = 2) -> Work:
    """The mixer of one layer, for one token behind `position` others: its weights are read once; softmax layers read
    what they keep and add a token to it, linear layers read their state and write it back."""
    weights = mixer_parameters(config, layer)
    flops = 2 * weights + mixing_flops(config, layer, position, chunked=False)
    kind = config.layer_types[layer]
    kept, held = (layer_cache_bytes(config, layer, n, element_bytes=element_bytes) for n in (position, position + 1))
    if kind == "indexed_attention":  # all index keys, and the latents of the chosen
        index = config.index_head_dim * (position + 1) * element_bytes
        moved = index + (held - index) * min(position + 1, config.index_topk) / (position + 1)
    elif kind in SOFTMAX:
        moved = kept + layer_cache_bytes(config, layer, 1, element_bytes=element_bytes)
    else:
        moved = 2 * held
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
    """A prompt of so many tokens, logits for the last one alone."""
    head = config.hidden_size * config.vocab_size
    flops = 2.0 * (_matrix_parameters(config) - head) * tokens + 2.0 * head
    return flops + sum(prompt_mixing_flops(config, layer, tokens) for layer in range(config.num_hidden_layers))


def prompt_mixing_flops(config: HybridConfig, layer: int, tokens: int) -> float:
    """mixing_flops summed over the tokens of a prompt: one layer's operator, without projections."""
    if config.layer_types[layer] not in SOFTMAX:
        return tokens * mixing_flops(config, layer, 0, chunked=True)
    # grows with the position, in pieces that are straight lines: exact at their ends
    edges = sorted({0, tokens - 1, *(x for x in _bends(config) if 0 < x < tokens - 1)})
    at = {x: mixing_flops(config, layer, x, chunked=True) for x in edges}
    inner = sum((end - begin) * (at[begin] + at[end]) / 2 for begin, end in pairwise(edges))
    return inner + (at[0] + at[tokens - 1]) / 2


def _bends(config: HybridConfig) -> list[int]:
    window, top_k = config.sliding_window or 0, config.index_topk
    return [window - 1, top_k - 1, top_k]


def _matrix_parameters(config: HybridConfig) -> int:
    """Weights that a token is multiplied with: active ones, without the embedding's table unless it is the head too."""
    active = count_parameters(config).active
    return active if config.tie_word_embeddings else active - config.vocab_size * config.hidden_size


def crossover_tokens(config: HybridConfig, *, element_bytes: int = 2) -> dict[str, int]:
    """From how many tokens on each kind of linear layer holds less than a softmax layer of the same model: state and
    convolution's tail over the softmax layer's bytes per token. Empty if the model lacks either."""
    softmax = next((n for n, kind in enumerate(config.layer_types) if kind in GROWING), None)
    if softmax is None:
        return {}
    growth = layer_cache_bytes(config, softmax, 1, element_bytes=element_bytes)
    found = {}
    for n, kind in enumerate(config.layer_types):
        if kind not in SOFTMAX:
            found[kind] = layer_cache_bytes(config, n, 1, element_bytes=element_bytes) // growth + 1
    return found
