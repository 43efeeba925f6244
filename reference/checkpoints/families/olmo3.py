"""Olmo 3: three windows to one full layer, no sinks; norms behind mixer and MLP. What Olmo Hybrid is compared with."""

from reference.checkpoints.family import TRUNK, Family, Field, Published, same
from reference.checkpoints.given import Given


def _layers(n: int, given: Given) -> list[str]:
    return ["full_attention" if layer % 4 == 3 else "sliding_attention" for layer in range(n)]


OLMO3 = Family(
    name="olmo3",
    architecture="Olmo3ForCausalLM",
    published=Published(
        model="allenai/Olmo-3-1025-7B",
        year=2025,
        licence="Apache-2.0",
        after="Olmo Hybrid puts Gated DeltaNet in the place of the windows",
        billions=7.3,
        fields={
            "vocab_size": 100278,
            "hidden_size": 4096,
            "intermediate_size": 11008,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "max_position_embeddings": 65536,
            "rope_theta": 500000,
            "rope_scaling": {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 8192},
        },
    ),
    tiny={"sliding_window": 7},
    fields=TRUNK | {"rms_norm_eps": Field("rms_norm_eps", 1e-5)} | same(attention_bias=False, sliding_window=4096),
    always={"qk_norm": "full", "softmax_norm_after": True, "window_rope_scaling": False},
    only={"hidden_act": ("silu",)},
    mixers={"full_attention": "full_attention", "sliding_attention": "sliding_attention"},
    default_layers=_layers,
    default_theta=500_000.0,
    rope_by_kind=True,
)
