"""Mistral 4: latent attention whose queries grow with the position, experts behind a softmax router, one of them
shared."""

from reference.checkpoints.families.deepseek_v2 import DEEPSEEK_V2
from reference.checkpoints.families.deepseek_v32 import (
    LATENT,
    TINY_LATENT,
    first_are_dense,
    shared_experts_and_heads,
)
from reference.checkpoints.family import ABSENT, Family, Field, Published, same
from reference.checkpoints.given import Given
from reference.checkpoints.layouts import STACKED_EXPERTS
from reference.model.config import HybridConfig

STRETCHED = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 128.0,
    "original_max_position_embeddings": 8192,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "mscale": 1.0,
    "mscale_all_dim": 1.0,
    "llama_4_scaling_beta": 0.1,
}


def _restate(given: Given) -> None:
    """What transformers adds to rope_parameters and follows from other fields."""
    for name in ("rope_parameters", "rope_scaling"):
        rope = given.values.get(name)
        if isinstance(rope, dict):
            added = ("partial_rotary_factor", "max_position_embeddings")
            given.values[name] = {key: value for key, value in rope.items() if key not in added}
    given.take("partial_rotary_factor", None)


def _read(given: Given, ours: dict) -> None:
    shared_experts_and_heads(given, ours)
    first_are_dense(given, ours, 0)
    if ours["rope_scaling"] is None or ours["rope_scaling"].llama_4_scaling_beta is None:
        given.fail("rope_parameters", "llama_4_scaling_beta: is missing")


def _write(config: HybridConfig, theirs: dict) -> None:
    layers = range(config.num_hidden_layers)
    theirs["n_shared_experts"] = config.shared_expert_intermediate_size // config.moe_intermediate_size
    theirs["first_k_dense_replace"] = sum(not config.is_sparse(layer) for layer in layers)


MISTRAL4 = Family(
    name="mistral4",
    architecture="Mistral4ForCausalLM",
    also=("mistral3",),
    published=Published(
        model="mistralai/Mistral-Small-4-119B-2603",
        year=2026,
        licence="Apache-2.0",
        after="Mistral Large 4: an indexer, which some layers share",
        billions=119,
        fields={"vocab_size": 131072, "hidden_size": 4096, "num_hidden_layers": 36, "num_attention_heads": 32},
    ),
    tiny=TINY_LATENT
    | {
        "head_dim": ABSENT,
        "q_lora_rank": 32,
        "moe_intermediate_size": 24,
        "n_routed_experts": 8,
        "num_experts_per_tok": 2,
        "first_k_dense_replace": 1,
        "routed_scaling_factor": 1.5,
        "rope_parameters": STRETCHED | {"factor": 4.0, "original_max_position_embeddings": 16},
    },
    restate=_restate,
    fields=LATENT
    | {
        "intermediate_size": Field("intermediate_size", 12288),
        "max_position_embeddings": Field("max_position_embeddings", 1048576),
        "num_experts": Field("n_routed_experts", 128),
        "q_lora_rank": Field("q_lora_rank", 1024),
        "kv_lora_rank": Field("kv_lora_rank", 256),
        "qk_nope_head_dim": Field("qk_nope_head_dim", 64),
    }
    | same(num_experts_per_tok=4, moe_intermediate_size=2048, norm_topk_prob=True, routed_scaling_factor=1.0),
    always={"shared_expert_gate": False, "qk_norm": None},
    only={"hidden_act": ("silu",), "n_group": (1,), "topk_group": (1,), "rope_interleave": (True,)},
    mixers=DEEPSEEK_V2.mixers,
    says_layers=False,
    default_rope=STRETCHED,
    names=DEEPSEEK_V2.names,
    layouts=(STACKED_EXPERTS,),
    prefixes=("model.", "model.language_model.", "language_model.model."),
    ignored=("rotary_emb.inv_freq", "vision_tower.", "multi_modal_projector."),
    read=_read,
    write=_write,
)
