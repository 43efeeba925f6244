"""One layer of each kind, alike in size, for chapter 11: configs, random layers, states filled without a prompt."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reference.layers.attention import KVState
from reference.layers.gated_deltanet import DeltaState
from reference.layers.latent import LatentState
from reference.model.block import build_mixer
from reference.model.config import HybridConfig
from reference.ops.softmax import softmax_attention
from reference.ops.sparse import lightning_indexer, sparse_attention
from reference.ops.step import decode_step

WIDTH = 512
NAMES = {  # what the tables call them, and layer_types' word
    "softmax": "full_attention",
    "softmax, 2 key heads": "full_attention",
    "window": "sliding_attention",
    "MLA": "latent_attention",
    "sparse MLA": "indexed_attention",
    "Gated DeltaNet": "linear_attention",
    "KDA": "kda",
    "lightning": "lightning_attention",
}


def mixer_config(name: str, width: int = WIDTH) -> HybridConfig:
    """A model of one layer with the mixer of that name: 8 heads of width / 8 channels, a window and a choice of 256."""
    if name not in NAMES:
        raise ValueError(f"name: expected one of {list(NAMES)}, got {name!r}")
    D = width // 8
    config = HybridConfig(
        vocab_size=256,
        hidden_size=width,
        layer_types=(NAMES[name],),
        intermediate_size=width,
        num_attention_heads=8,
        num_key_value_heads=8,
        head_dim=D,
        sliding_window=256,
        q_lora_rank=2 * D,
        kv_lora_rank=2 * D,
        qk_nope_head_dim=3 * D // 4,
        qk_rope_head_dim=D // 4,
        v_head_dim=D,
        index_topk=256,
        index_n_heads=4,
        index_head_dim=D // 2,
        linear_num_key_heads=8,
        linear_num_value_heads=8,
        linear_key_head_dim=D,
        linear_value_head_dim=D,
    )
    return replace(config, num_key_value_heads=2) if "2 key heads" in name else config


def filled_state(config: HybridConfig, tokens: int, batch_size: int = 1) -> object:
    """What a layer of this kind remembers after so many tokens, with random contents: no prompt has to be read."""
    kind, B = config.layer_types[0], batch_size
    draw = torch.Generator().manual_seed(0)

    def some(*shape: int) -> Tensor:
        return torch.randn(B, *shape, generator=draw)

    if kind in ("full_attention", "sliding_attention"):
        kept = tokens if kind == "full_attention" else min(tokens, config.sliding_window - 1)
        shape = (kept, config.num_key_value_heads, config.head_dim)
        return KVState(some(*shape), some(*shape), tokens)
    if kind in ("latent_attention", "indexed_attention"):
        index = some(tokens, config.index_head_dim) if kind == "indexed_attention" else None
        return LatentState(some(tokens, config.kv_lora_rank), some(tokens, config.qk_rope_head_dim), index, tokens)
    if kind == "lightning_attention":
        return some(config.num_attention_heads, config.head_dim, config.head_dim)
    H, D = config.linear_num_value_heads, config.linear_key_head_dim
    return DeltaState(some(3 * H * D, config.linear_conv_kernel_dim - 1), some(H, D, D))


def bytes_in_state(state: object) -> int:
    """Bytes of the tensors of a layer's state."""
    parts = [state] if isinstance(state, Tensor) else state
    return sum(x.nbytes for x in parts if isinstance(x, Tensor))


def random_mixer(name: str, width: int = WIDTH) -> tuple[HybridConfig, nn.Module]:
    """The layer with random weights, and its config."""
    torch.manual_seed(0)
    config = mixer_config(name, width)
    return config, build_mixer(config, 0).eval()


def operator_step(name: str, tokens: int, batch_size: int = 1, width: int = WIDTH) -> Callable[[], Tensor]:
    """The operator alone, for one token of each text behind `tokens` others (its own key among them): nothing is
    projected, no cache is copied, a linear layer's state is changed in place."""
    config = mixer_config(name, width)
    state, kind, B = filled_state(config, tokens, batch_size), config.layer_types[0], batch_size
    H, D = config.num_attention_heads, config.head_dim
    if kind in ("full_attention", "sliding_attention"):
        q = torch.randn(B, 1, H, D)
        return lambda: softmax_attention(q, state.k, state.v)
    if kind in ("latent_attention", "indexed_attention"):
        return _latent_step(config, state, B)
    q, k, v = (F.normalize(torch.randn(B, H, D), dim=-1) for _ in range(3))
    g = -torch.rand(B, H, D) if kind == "kda" else -torch.rand(B, H)
    beta = None if kind == "lightning_attention" else torch.rand(B, H)
    S = state if beta is None else state.S
    return lambda: decode_step(q, k, v, g, beta, S)


def _latent_step(config: HybridConfig, state: LatentState, B: int) -> Callable[[], Tensor]:
    q = torch.randn(B, 1, config.num_attention_heads, config.kv_lora_rank + config.qk_rope_head_dim)
    k = torch.cat([state.latent, state.k_rope], -1)[:, :, None]  # one memory, of which the values are a part
    v = k[..., : config.kv_lora_rank]
    if state.k_idx is None:
        return lambda: softmax_attention(q, k, v)
    q_idx, w_idx = torch.randn(B, 1, config.index_n_heads, config.index_head_dim), torch.randn(B, 1, 4)

    def work() -> Tensor:
        chosen = lightning_indexer(q_idx, state.k_idx, w_idx, top_k=config.index_topk)
        return sparse_attention(q, k, v, chosen)

    return work
