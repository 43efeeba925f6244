"""Youtu-LLM: latent attention in a small dense model."""

from reference.checkpoints.families.deepseek_v32 import LATENT, TINY_LATENT, head_is_rotary
from reference.checkpoints.family import ABSENT, Family, Field, Published, same
from reference.checkpoints.given import Given


def _read(given: Given, ours: dict) -> None:
    head_is_rotary(given, ours)
    given.take("embedding_initializer_range", None)
    if ours["initializer_range"] is None:
        ours["initializer_range"] = 2 / (5 * ours["hidden_size"]) ** 0.5


YOUTU = Family(
    name="youtu",
    architecture="YoutuForCausalLM",
    published=Published(
        model="tencent/Youtu-LLM-2B",
        year=2026,
        licence="Youtu-LLM License",
        after="outside the story of this book",
        billions=1.96,
        fields={
            "vocab_size": 128256,
            "hidden_size": 2048,
            "intermediate_size": 6144,
            "num_hidden_layers": 32,
            "num_attention_heads": 16,
            "max_position_embeddings": 131072,
            "tie_word_embeddings": True,
            "rope_theta": 1600000,
        },
    ),
    # with a padding id, transformers 5.23 sets that row of the embedding to zero when it loads
    tiny=TINY_LATENT | {"q_lora_rank": 32, "head_dim": ABSENT, "pad_token_id": None},
    fields=LATENT
    | {
        "tie_word_embeddings": Field("tie_word_embeddings", True),
        "initializer_range": Field("initializer_range", lambda ours: 2 / (5 * ours["hidden_size"]) ** 0.5),
    }
    | same(max_position_embeddings=131072),
    always={"qk_norm": None},
    only={"hidden_act": ("silu",), "rope_interleave": (True,), "mlp_bias": (False,)},
    mixers={"full_attention": "latent_attention"},
    says_layers=False,
    read=_read,
)
