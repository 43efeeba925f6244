"""Jamba: seven layers of Mamba-1 to one softmax layer without positions, experts in every second layer."""

from reference.checkpoints.families.mamba import step_rank
from reference.checkpoints.family import TRUNK, Family, Field, Published, same
from reference.checkpoints.given import Given
from reference.checkpoints.layouts import separate_experts
from reference.model.config import HybridConfig

_NO_EFFECT = ("use_mamba_kernels", "use_mambapy", "use_associative_scan")  # on outputs
_NO_EFFECT += ("num_logits_to_keep", "calc_logits_for_entire_prompt")


def _every(period: int, offset: int, n: int) -> list[bool]:
    return [layer % period == offset for layer in range(n)]


def _rhythm(given: Given, kind: str, period: int, offset: int) -> tuple[int, int]:
    names = f"{kind}_layer_period", f"{kind}_layer_offset"
    period, offset = given.take(names[0], period, int), given.take(names[1], offset, int)
    given.check(names[0], period, int, 1)
    if not 0 <= offset < period:
        given.fail(names[1], f"expected 0 to {names[0]} - 1 = {period - 1}, got {offset}")
    return period, offset


def _layers(n: int, given: Given) -> list[str]:
    softmax = _every(*_rhythm(given, "attn", 8, 4), n)
    return ["full_attention" if here else "linear_attention" for here in softmax]


def _read(given: Given, ours: dict) -> None:
    step_rank(given, ours, "mamba_dt_rank")
    width = given.take("mamba_expand", 2, int) * ours["hidden_size"]
    ours |= {"linear_num_value_heads": 1, "linear_value_head_dim": width}
    experts = _every(*_rhythm(given, "expert", 2, 1), len(ours["layer_types"]))
    if ours["num_experts"] <= 1:
        experts = [False] * len(experts)
        ours |= {"num_experts": 0, "num_experts_per_tok": 0}
    ours["moe_intermediate_size"] = ours["intermediate_size"] if any(experts) else 0
    kinds = tuple("sparse" if here else "dense" for here in experts)
    ours["mlp_layer_types"] = None if all(experts) else kinds
    given.pass_over(*_NO_EFFECT)


def _write(config: HybridConfig, theirs: dict) -> None:
    n = config.num_hidden_layers
    marks = {
        "attn": [kind == "full_attention" for kind in config.layer_types],
        "expert": [config.is_sparse(layer) for layer in range(n)],
    }
    for name, here in marks.items():
        period, offset = _rhythm_of(here)
        theirs |= {f"{name}_layer_period": period, f"{name}_layer_offset": offset}
    theirs["mamba_expand"], rest = divmod(
        config.linear_num_value_heads * config.linear_value_head_dim, config.hidden_size
    )
    if rest:
        raise ValueError("jamba can't say channels that aren't a whole multiple of hidden_size")
    theirs["mamba_dt_rank"] = config.linear_step_rank
    if not config.num_experts:
        theirs |= {"num_experts": 1, "num_experts_per_tok": 1}


def _rhythm_of(here: list[bool]) -> tuple[int, int]:
    """(period, offset) of the marked layers. Raises ValueError if they have none."""
    n = len(here)
    if not any(here):
        return n + 1, n
    for period in range(1, n + 1):
        for offset in range(period):
            if _every(period, offset, n) == here:
                return period, offset
    raise ValueError("jamba can't say layers without a period")


JAMBA = Family(
    name="jamba",
    architecture="JambaForCausalLM",
    published=Published(
        model="ai21labs/Jamba-v0.1",
        year=2024,
        licence="Apache-2.0",
        after="Jamba 1.5: the same layers",
        billions=51.6,
        fields={"vocab_size": 65536, "num_hidden_layers": 32},
    ),
    tiny={
        "attn_layer_period": 3,
        "attn_layer_offset": 1,
        "num_experts": 8,
        "num_experts_per_tok": 3,
        "mamba_d_state": 6,
        "mamba_dt_rank": 5,
        "mamba_proj_bias": True,
    },
    fields=TRUNK
    | same(num_experts=16, num_experts_per_tok=2)
    | {
        "hidden_size": Field("hidden_size", 4096),
        "intermediate_size": Field("intermediate_size", 14336),
        "num_attention_heads": Field("num_attention_heads", 32),
        "num_key_value_heads": Field("num_key_value_heads", 8),
        "max_position_embeddings": Field("max_position_embeddings", 262_144),
        "linear_key_head_dim": Field("mamba_d_state", 16),
        "linear_conv_kernel_dim": Field("mamba_d_conv", 4),
        "linear_conv_bias": Field("mamba_conv_bias", True),
        "linear_bias": Field("mamba_proj_bias", False),
    },
    always={"qk_norm": None, "linear_inner_norms": "weighted", "norm_topk_prob": False, "shared_expert_gate": False},
    only={"hidden_act": ("silu",)},
    mixers={"full_attention": "full_attention", "linear_attention": "mamba1"},
    default_layers=_layers,
    says_layers=False,
    positions=False,
    mixer={"mamba1": "mamba."},
    names=(
        ("mixer.dt_bias", "mamba.dt_proj.bias"),
        ("mlp.gate.", "feed_forward.router."),
        ("mlp.", "feed_forward."),
        ("post_attention_layernorm.", "pre_ff_layernorm."),
    ),
    layouts=(separate_experts("gate_proj", "up_proj", "down_proj", "feed_forward.experts."),),
    last_norm="final_layernorm",
    read=_read,
    write=_write,
)
