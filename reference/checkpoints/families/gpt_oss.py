"""gpt-oss: a sink logit per head, every second layer windowed, biases, experts with a clamped SwiGLU."""

from reference.checkpoints.family import TRUNK, Family, Field, same
from reference.checkpoints.given import Given
from reference.checkpoints.layouts import alternating_experts


def _read(given: Given, ours: dict) -> None:
    ours["moe_intermediate_size"] = ours["intermediate_size"]


GPT_OSS = Family(
    name="gpt_oss",
    architecture="GptOssForCausalLM",
    fields=TRUNK
    | {"num_experts": Field("num_local_experts", 128), "rms_norm_eps": Field("rms_norm_eps", 1e-5)}
    | same(
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
    names=(("mlp.gate.", "mlp.router."),),
    layouts=(alternating_experts,),
    read=_read,
)
