"""gpt-oss: a sink logit per head, every second layer windowed, biases, experts with a clamped SwiGLU."""

from reference.checkpoints.family import TRUNK, Family, Field, Published, same
from reference.checkpoints.given import Given
from reference.checkpoints.layouts import ALTERNATING_EXPERTS

YARN = {
    "rope_type": "yarn",
    "beta_fast": 32,
    "beta_slow": 1,
    "original_max_position_embeddings": 4096,
    "factor": 32.0,
    "truncate": False,
}


def _read(given: Given, ours: dict) -> None:
    ours["moe_intermediate_size"] = ours["intermediate_size"]


GPT_OSS = Family(
    name="gpt_oss",
    architecture="GptOssForCausalLM",
    published=Published(
        model="openai/gpt-oss-20b",
        year=2025,
        licence="Apache-2.0",
        after="outside the story of this book",
        billions=20.9,
        fields={
            "vocab_size": 201088,
            "hidden_size": 2880,
            "intermediate_size": 2880,
            "num_hidden_layers": 24,
            "num_attention_heads": 64,
            "num_key_value_heads": 8,
            "num_local_experts": 32,
            "max_position_embeddings": 131072,
            "rope_scaling": YARN,
        },
    ),
    tiny={"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 8},
    fields=TRUNK
    | {"num_experts": Field("num_local_experts", 128), "rms_norm_eps": Field("rms_norm_eps", 1e-5)}
    | same(
        max_position_embeddings=131072,
        num_key_value_heads=8,
        num_experts_per_tok=4,
        head_dim=64,
        sliding_window=128,
        attention_bias=True,
        swiglu_limit=7.0,
        swiglu_alpha=1.702,
    ),
    always={"attention_sinks": True, "expert_bias": True, "qk_norm": None},
    only={"hidden_act": ("silu",)},
    mixers={"full_attention": "full_attention", "sliding_attention": "sliding_attention"},
    default_layers=lambda n, given: [("sliding_attention", "full_attention")[layer % 2] for layer in range(n)],
    default_theta=150_000.0,
    default_rope=YARN,
    names=(("mlp.gate.", "mlp.router."),),
    layouts=(ALTERNATING_EXPERTS,),
    read=_read,
)
