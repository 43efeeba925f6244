"""Olmo Hybrid: Gated DeltaNet with beta up to 2 and softmax 3:1; the softmax layers norm what they return."""

from reference.checkpoints.families.qwen3_next import TINY_DELTA
from reference.checkpoints.family import ABSENT, TRUNK, Family, Published, same
from reference.checkpoints.given import Given
from reference.checkpoints.layouts import apart
from reference.model.config import HybridConfig


def _layers(n: int, given: Given) -> list[str]:
    kinds = ["full_attention" if layer % 4 == 3 else "linear_attention" for layer in range(n)]
    return kinds if "full_attention" in kinds else [*kinds[:-1], "full_attention"]


def _write(config: HybridConfig, theirs: dict) -> None:
    if config.partial_rotary_factor == 0:
        theirs["rope_parameters"] = {"rope_type": "default", "rope_theta": None}


OLMO_HYBRID = Family(
    name="olmo_hybrid",
    architecture="OlmoHybridForCausalLM",
    published=Published(
        model="allenai/Olmo-Hybrid-7B",
        year=2026,
        licence="Apache-2.0",
        after="outside the story of this book",
        billions=7,
        fields={
            "vocab_size": 100352,
            "hidden_size": 3840,
            "intermediate_size": 11008,
            "num_hidden_layers": 32,
            "num_attention_heads": 30,
            "max_position_embeddings": 65536,
            "rope_theta": None,
        },
    ),
    tiny=TINY_DELTA | {"linear_num_key_heads": 4, "head_dim": ABSENT},
    fields=TRUNK
    | same(
        max_position_embeddings=65536,
        attention_bias=False,
        linear_num_key_heads=lambda ours: ours["num_attention_heads"],
        linear_num_value_heads=lambda ours: ours["num_attention_heads"],
        linear_key_head_dim=lambda ours: int(0.75 * ours["hidden_size"] / ours["linear_num_key_heads"]),
        linear_value_head_dim=lambda ours: 2 * ours["linear_key_head_dim"],
        linear_conv_kernel_dim=4,
        linear_allow_neg_eigval=True,
    ),
    always={"qk_norm": "full", "softmax_norm_after": True, "linear_norm_eps": 1e-5},
    only={"hidden_act": ("silu",)},
    mixers={"full_attention": "full_attention", "linear_attention": "linear_attention"},
    default_layers=_layers,
    null_theta=True,  # as released
    mixer={"linear_attention": "linear_attn."},
    # transformers 5.23 reads the first and writes the second, in softmax layers too
    spellings=(
        (".attention_layer_norm.", ".input_layernorm."),
        (".feedforward_layer_norm.", ".post_attention_layernorm."),
    ),
    names=(
        ("mixer.in_proj_z.", "linear_attn.g_proj."),
        ("mixer.in_proj_b.", "linear_attn.b_proj."),
        ("mixer.in_proj_a.", "linear_attn.a_proj."),
        ("mixer.out_proj.", "linear_attn.o_proj."),
        ("mixer.norm.", "linear_attn.o_norm."),
    ),
    layouts=(
        apart("mixer.in_proj_qkv.weight", *(f"linear_attn.{x}_proj.weight" for x in "qkv")),
        apart("mixer.conv1d.weight", *(f"linear_attn.{x}_conv1d.weight" for x in "qkv"), anywhere=True),
    ),
    write=_write,
)
