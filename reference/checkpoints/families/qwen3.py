"""Qwen3: grouped queries, and a norm on each head of q and k."""

from reference.checkpoints.family import TRUNK, Family, Published, same
from reference.checkpoints.given import Given


def _layers(n: int, given: Given) -> list[str]:
    first = given.take("max_window_layers", 28, int)
    windowed = given.values.get("use_sliding_window", False)
    return ["sliding_attention" if windowed and layer >= first else "full_attention" for layer in range(n)]


def _window(given: Given, ours: dict) -> None:
    if not given.take("use_sliding_window", False, bool):
        ours["sliding_window"] = None


def _says_window(config, theirs: dict) -> None:
    theirs["use_sliding_window"] = config.sliding_window is not None


QWEN3 = Family(
    name="qwen3",
    architecture="Qwen3ForCausalLM",
    published=Published(
        model="Qwen/Qwen3-8B",
        year=2025,
        licence="Apache-2.0",
        after="Qwen3-Next",
        billions=8.2,
        fields={
            "vocab_size": 151936,
            "hidden_size": 4096,
            "intermediate_size": 12288,
            "num_hidden_layers": 36,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "max_position_embeddings": 40960,
            "rope_theta": 1000000,
        },
    ),
    tiny={"num_attention_heads": 6, "num_key_value_heads": 3, "head_dim": 14},
    fields=TRUNK | same(max_position_embeddings=32768, attention_bias=False, sliding_window=4096, head_dim=128),
    always={"qk_norm": "head"},
    only={"hidden_act": ("silu",)},
    mixers={"full_attention": "full_attention", "sliding_attention": "sliding_attention"},
    default_layers=_layers,
    read=_window,
    write=_says_window,
)
