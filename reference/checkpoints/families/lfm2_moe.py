"""LFM2 with experts: the same short convolutions and softmax layers; the first MLPs are dense."""

from reference.checkpoints.families.lfm2 import LFM2
from reference.checkpoints.family import Family, Field, Published, same
from reference.checkpoints.given import Given
from reference.checkpoints.layouts import separate_experts
from reference.model.config import HybridConfig


def _layers(n: int, given: Given) -> list[str]:
    given.fail("layer_types", "is missing")


def _read(given: Given, ours: dict) -> None:
    dense, n = given.take("num_dense_layers", 2, int), len(ours["layer_types"])
    given.check("num_dense_layers", dense, int)
    kinds = tuple("dense" if layer < dense else "sparse" for layer in range(n))
    ours["mlp_layer_types"] = kinds if dense else None
    ours["tie_word_embeddings"] = given.take("tie_embedding", ours["tie_word_embeddings"], bool)


def _write(config: HybridConfig, theirs: dict) -> None:
    dense = [not config.is_sparse(layer) for layer in range(config.num_hidden_layers)]
    theirs["num_dense_layers"] = sum(dense)


LFM2_MOE = Family(
    name="lfm2_moe",
    architecture="Lfm2MoeForCausalLM",
    published=Published(
        model="LiquidAI/LFM2-8B-A1B",
        year=2025,
        licence="LFM Open License 1.0",
        after="LFM2.5-8B-A1B: the same layers, a larger vocabulary",
        billions=8.34,
        fields={
            "vocab_size": 65536,
            "num_hidden_layers": 24,
            "layer_types": ["full_attention" if layer in (2, 6, 10, 14, 18, 21) else "conv" for layer in range(24)],
        },
    ),
    tiny={
        "layer_types": ["conv", "conv", "full_attention", "conv"],
        "num_dense_layers": 1,
        "num_experts": 8,
        "num_experts_per_tok": 3,
        "moe_intermediate_size": 24,
        "routed_scaling_factor": 1.5,
    },
    fields=LFM2.fields
    | {
        "hidden_size": Field("hidden_size", 2048),
        "intermediate_size": Field("intermediate_size", 7168),
        "num_attention_heads": Field("num_attention_heads", 32),
    }
    | same(
        num_experts=32,
        num_experts_per_tok=4,
        moe_intermediate_size=1792,
        norm_topk_prob=True,
        routed_scaling_factor=1.0,
    ),
    always={"qk_norm": "head", "router": "sigmoid", "shared_expert_gate": False},
    only={"use_expert_bias": (True,)},
    mixers=LFM2.mixers,
    default_layers=_layers,
    default_theta=LFM2.default_theta,
    mixer=LFM2.mixer,
    names=(
        ("mlp.e_score_correction_bias", "feed_forward.expert_bias"),
        ("mlp.gate.", "feed_forward.gate."),
        *LFM2.names,
    ),
    layouts=(separate_experts("w1", "w3", "w2", "feed_forward.experts."),),
    last_norm=LFM2.last_norm,
    read=_read,
    write=_write,
)
