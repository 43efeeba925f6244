"""What a configuration costs before it is built: parameters, and bytes of cache at any length."""

from typing import NamedTuple

import torch

from reference.config import HybridConfig
from reference.model import HybridLM

STATE_BYTES = 4  # recurrent states are float32 whatever the model's dtype


class Parameters(NamedTuple):
    """total counts tied weights once; active leaves out the experts that a token doesn't visit."""

    total: int
    active: int


def count_parameters(config: HybridConfig) -> Parameters:
    """Counted on a model without memory (device "meta")."""
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
