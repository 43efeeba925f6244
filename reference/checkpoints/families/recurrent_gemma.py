"""RecurrentGemma (Griffin): two RG-LRU layers to one with a window."""

import torch

from reference.checkpoints.family import ABSENT, TRUNK, Family, Field, Published
from reference.checkpoints.given import Given
from reference.model.config import HybridConfig

_KINDS = {"recurrent": "rg_lru", "attention": "sliding_attention"}


def _layers(n: int, given: Given) -> list[str]:
    published = given.take("_block_types", ["recurrent", "recurrent", "attention"], list)
    unit = given.take("block_types", published, list)
    if not unit:
        given.fail("block_types", "expected at least one layer, got []")
    return [unit[layer % len(unit)] for layer in range(n)]


def embedding_factor(width: int) -> float:
    """sqrt(width) in bfloat16, as the model was trained: 50.5 and not 50.596 for 2,560 channels."""
    return torch.tensor(width**0.5, dtype=torch.bfloat16).item()


def _read(given: Given, ours: dict) -> None:
    heads, width = ours["num_attention_heads"], ours["hidden_size"]
    if width % heads or ours["head_dim"] != width // heads:
        wanted = f"hidden_size / num_attention_heads = {width / heads:g}"
        given.fail("head_dim", f"expected {wanted}, got {ours['head_dim']}")
    if ours["intermediate_size"] % 2:
        given.fail("intermediate_size", f"counts gate and up, so it is even, got {ours['intermediate_size']}")
    ours["intermediate_size"] //= 2
    scanned = given.take("lru_width", None, int | None) or width
    given.check("lru_width", scanned, int, 1)
    if scanned % heads:
        given.fail("lru_width", f"expected a multiple of num_attention_heads = {heads}, got {scanned}")
    ours |= {"linear_num_value_heads": heads, "linear_value_head_dim": scanned // heads}
    ours["embedding_multiplier"] = embedding_factor(width)
    for name in ("w_init_variance_scale", "final_w_init_variance_scale"):
        given.take(name, None)  # of weights before training


def _write(config: HybridConfig, theirs: dict) -> None:
    names = {ours: name for name, ours in _KINDS.items()}
    theirs["block_types"] = [names.get(kind, kind) for kind in config.layer_types]
    theirs["intermediate_size"] = 2 * config.intermediate_size
    theirs["lru_width"] = config.linear_num_value_heads * config.linear_value_head_dim


RECURRENT_GEMMA = Family(
    name="recurrent_gemma",
    architecture="RecurrentGemmaForCausalLM",
    published=Published(
        model="google/recurrentgemma-2b",
        year=2024,
        licence="Gemma Terms of Use",
        after="Gemma 3: windows and full layers, no recurrence",
        billions=2.68,
        fields={
            "vocab_size": 256000,
            "hidden_size": 2560,
            "intermediate_size": 15360,
            "num_hidden_layers": 26,
            "num_attention_heads": 10,
            "num_key_value_heads": 1,
            "attention_window_size": 2048,
        },
    ),
    tiny={
        "num_hidden_layers": 5,
        "attention_window_size": 7,
        "logits_soft_cap": 3.0,
        "max_position_embeddings": ABSENT,
    },
    fields={name: x for name, x in TRUNK.items() if name not in ("max_position_embeddings", "initializer_range")}
    | {
        "tie_word_embeddings": Field("tie_word_embeddings", True),
        "attention_bias": Field("attention_bias", False),
        "sliding_window": Field("attention_window_size", 2048),
        "linear_conv_kernel_dim": Field("conv1d_width", 4),
        "logits_soft_cap": Field("logits_soft_cap", 30.0),
    },
    always={
        "qk_norm": None,
        "attention_output_bias": True,
        "zero_centered_norm": True,
        "mlp_activation": "gelu_tanh",
        "mlp_bias": True,
    },
    only={"hidden_activation": ("gelu_pytorch_tanh",), "embeddings_scale_by_sqrt_dim": (True, None)},
    mixers=_KINDS,
    default_layers=_layers,
    says_layers=False,
    partial_rotary=0.5,
    mixer={"rg_lru": "temporal_block.", "sliding_attention": "temporal_block."},
    names=(
        ("mixer.conv1d.", "temporal_block.conv_1d."),
        ("mixer.input_gate_", "temporal_block.rg_lru.input_gate_"),
        ("mixer.recurrent_", "temporal_block.rg_lru.recurrent_"),
        ("input_layernorm.", "temporal_pre_norm."),
        ("post_attention_layernorm.", "channel_pre_norm."),
        ("mlp.", "mlp_block."),
    ),
    last_norm="final_norm",
    read=_read,
    write=_write,
)
