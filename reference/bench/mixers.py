"""One layer of each kind, alike in size, for chapter 11: configs, random layers, states filled without a prompt."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from reference.layers.mixer import tensors_of
from reference.layers.mixers import mixer
from reference.model.block import build_mixer
from reference.model.config import HybridConfig

WIDTH = 512
NAMES = {  # what chapter 11's tables call them, and layer_types' word
    "softmax": "full_attention",
    "softmax, 2 key heads": "full_attention",
    "window": "sliding_attention",
    "MLA": "latent_attention",
    "sparse MLA": "indexed_attention",
    "Gated DeltaNet": "linear_attention",
    "KDA": "kda",
    "lightning": "lightning_attention",
}
# and one of every kind
ALL_NAMES = NAMES | {"Mamba-2": "mamba2", "short convolution": "short_conv"}
ALL_NAMES |= {"RG-LRU": "rg_lru", "Mamba-1": "mamba1", "softmax and Mamba-2": "attention_beside_mamba2"}


def mixer_config(name: str, width: int = WIDTH) -> HybridConfig:
    """A model of one layer with the mixer of that name: 8 heads of width / 8 channels, a window and a choice of 256."""
    if name not in ALL_NAMES:
        raise ValueError(f"name: expected one of {list(ALL_NAMES)}, got {name!r}")
    D = width // 8
    config = HybridConfig(
        vocab_size=256,
        hidden_size=width,
        layer_types=(ALL_NAMES[name],),
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
        linear_step_rank=D,
    )
    return replace(config, num_key_value_heads=2) if "2 key heads" in name else config


def filled_state(config: HybridConfig, tokens: int, batch_size: int = 1) -> object:
    """What the config's first layer remembers after so many tokens, with random contents: no prompt has to be read."""
    random = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(batch_size, *shape, generator=random)

    return mixer(config.layer_types[0]).filled_state(config, tokens, draw)


def bytes_in_state(state: object) -> int:
    """Bytes of the tensors of a layer's state."""
    return sum(x.nbytes for x in tensors_of(state))


def random_mixer(name: str, width: int = WIDTH) -> tuple[HybridConfig, nn.Module]:
    """The layer with random weights, and its config."""
    torch.manual_seed(0)
    config = mixer_config(name, width)
    return config, build_mixer(config, 0).eval()


def operator_step(name: str, tokens: int, batch_size: int = 1, width: int = WIDTH) -> Callable[[], Tensor]:
    """The operator alone, for one token of each text behind `tokens` others (its own key among them): nothing is
    projected, no cache is copied, a linear layer's state is changed in place."""
    config = mixer_config(name, width)
    state = filled_state(config, tokens, batch_size)
    return mixer(config.layer_types[0]).operator_step(config, state)
