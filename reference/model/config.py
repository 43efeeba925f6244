"""What a hybrid model is made of: one frozen, checked record. layer_types is the architecture."""

from dataclasses import asdict, dataclass, fields, replace
from typing import get_type_hints

from reference.arguments import check_positive_int, check_types, cut_short
from reference.layers.mixers import MIXERS, mixer
from reference.layers.mlp import ACTIVATIONS_OF_MLP
from reference.layers.rope import RopeScaling

SOFTMAX = tuple(kind for kind, record in MIXERS.items() if record.softmax)  # the kinds of softmax attention


@dataclass(frozen=True, kw_only=True)
class HybridConfig:
    """Sizes and choices; field names as in the model cards on Hugging Face where they have one.

    layer_types names each layer's mixer, first layer first:
      full_attention        softmax attention over all tokens
      sliding_attention     softmax attention over the last sliding_window tokens
      latent_attention      MLA: softmax attention whose keys and values come from one small vector per token
      indexed_attention     MLA that reads the index_topk tokens its indexer chose (DeepSeek V3.2)
      linear_attention      Gated DeltaNet
      kda                   Kimi Delta Attention (linear_key_head_dim for keys and values, linear_num_value_heads)
      lightning_attention   decayed linear attention, decay fixed by head and depth (num_attention_heads, head_dim)
      mamba2                Mamba-2: linear_num_key_heads groups of B and C (linear_key_head_dim), heads of
                            linear_value_head_dim
      attention_beside_mamba2  full_attention and mamba2 in one layer, added (Falcon-H1)
      short_conv            a gated convolution over linear_conv_kernel_dim tokens (LFM2)
      mamba1                Mamba-1: as rg_lru, and linear_key_head_dim numbers for each channel
      rg_lru                RG-LRU: linear_num_value_heads blocks of linear_value_head_dim channels (Griffin)

    Construction checks every field and raises a ValueError that names the field.
    """

    vocab_size: int
    hidden_size: int
    layer_types: tuple[str, ...]
    intermediate_size: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    # softmax layers
    rope_theta: float = 10_000.0
    rope_scaling: RopeScaling | None = None
    max_position_embeddings: int = 32_768  # the longest text of its training; longer ones are not refused
    partial_rotary_factor: float = 1.0  # 0 turns rotary positions off (NoPE)
    qk_norm: str | None = "head"
    attention_gate: str | None = None  # "elementwise" in Qwen3-Next
    attention_sinks: bool = False
    attention_bias: bool = False
    attention_output_bias: bool | None = None  # of o_proj; None: as attention_bias (RecurrentGemma: True)
    attention_multiplier: float | None = None  # the scale of the scores; None: head_dim^-0.5
    sliding_window: int | None = None
    window_rope_scaling: bool = True  # False: rope_scaling is of the layers without a window only (Olmo 3)
    # rope_theta by layer, 0 for no positions (Granite-SWA, Gemma 3); None: rope_theta in all
    layer_rope_theta: tuple[float, ...] | None = None
    # latent layers
    q_lora_rank: int | None = None
    kv_lora_rank: int = 0
    qk_nope_head_dim: int = 0
    qk_rope_head_dim: int = 0
    v_head_dim: int = 0
    latent_rotary: bool = True  # False: the rotary channels are there and don't turn (Kimi Linear)
    latent_gate: bool = False  # a sigmoid gate on each head (Ling 3.0)
    index_topk: int = 0
    index_n_heads: int = 0
    index_head_dim: int = 0
    # linear layers
    linear_num_key_heads: int = 0
    linear_num_value_heads: int = 0
    linear_key_head_dim: int = 0
    linear_value_head_dim: int = 0
    linear_conv_kernel_dim: int = 4
    linear_allow_neg_eigval: bool = False
    linear_gate: str = "silu"
    linear_norm_eps: float | None = None  # of the norm behind the operator; None: rms_norm_eps
    linear_norm_groups: int | None = None  # Mamba-2: parts that its norm takes by themselves; None: its groups
    linear_norm_first: bool = False  # Mamba-2: its norm stands in front of the gate (Falcon-H1 allows it)
    linear_multipliers: tuple[float, ...] | None = None  # Mamba-2: factors of z, x, B, C and dt (Falcon-H1)
    mixer_multipliers: tuple[float, ...] | None = (
        None  # Falcon-H1: into, keys of, out of attention; into, out of Mamba-2
    )
    linear_decay_bound: float | None = None  # KDA: lower bound of the log decays (Kimi K3, Ling 3.0: -5)
    linear_full_rank_gates: bool = False  # KDA: decay and output gate through one matrix each (Ling 3.0)
    linear_step_rank: int = 0  # Mamba-1: channels between the two projections of dt,
    linear_inner_norms: str | None = None  # and norms of dt, B and C: "plain" (Falcon Mamba) or "weighted" (Jamba)
    linear_step_min: float = 0.0  # Mamba-2: dt is at least this (Nemotron-H)
    linear_conv_bias: bool = False  # Mamba-2: bias of its convolution,
    linear_bias: bool = False  # and of its projections; short_conv: of both
    # mixture of experts; num_experts = 0 is a dense MLP in every layer
    # "dense", "sparse" or "none" by layer; None: all sparse if num_experts
    mlp_layer_types: tuple[str, ...] | None = None
    mlp_bias: bool = False
    mlp_multipliers: tuple[float, ...] | None = None  # factors of the gate and of what comes out (Falcon-H1)
    mlp_activation: str = "silu"  # of the gate: "silu" or "gelu_tanh"; "relu2": relu(up)² and no gate (Nemotron-H)
    num_experts: int = 0
    num_experts_per_tok: int = 0
    moe_intermediate_size: int = 0
    moe_latent_size: int = 0  # channels that experts read and write; 0: hidden_size (Nemotron 3 Super)
    shared_expert_intermediate_size: int = 0
    shared_expert_gate: bool = True
    norm_topk_prob: bool = True
    router: str = "softmax"  # "sigmoid": DeepSeek's, with groups and a correction of the choice
    n_group: int = 1
    topk_group: int = 1
    routed_scaling_factor: float = 1.0
    expert_bias: bool = False
    swiglu_limit: float | None = None  # gpt-oss: gate and up held within this limit
    swiglu_alpha: float = 1.702
    router_aux_loss_coef: float = 0.001
    # the rest
    num_nextn_predict_layers: int = 0  # 1 adds the head that predicts the token after the next
    rms_norm_eps: float = 1e-6
    zero_centered_norm: bool = False
    softmax_norm_after: bool = False  # softmax layers norm what mixer and MLP return, not what they read (Olmo)
    norm_before_and_after: bool = False  # norms in front of mixer and MLP, and behind both (Gemma)
    normed_residual: bool = False  # x = alpha · norm(x) + beta · f(norm(x)) (MiniMax-01)
    full_attn_alpha_factor: float = 1.0
    full_attn_beta_factor: float = 1.0
    linear_attn_alpha_factor: float = 1.0
    linear_attn_beta_factor: float = 1.0
    mlp_alpha_factor: float = 1.0
    mlp_beta_factor: float = 1.0
    embedding_multiplier: float = 1.0  # Granite: embeddings times this,
    residual_multiplier: float = 1.0  # what a mixer and an MLP add times this,
    logits_scaling: float = 1.0  # and logits divided by this
    logits_soft_cap: float | None = None  # logits held within this by a tanh (RecurrentGemma)
    tie_word_embeddings: bool = False
    initializer_range: float = 0.02

    def __post_init__(self):
        check_types(self, get_type_hints(HybridConfig))
        object.__setattr__(self, "layer_types", tuple(self.layer_types))
        if not self.layer_types:
            raise ValueError("layer_types: expected at least one layer")
        for n, kind in enumerate(self.layer_types):
            if kind not in MIXERS:
                raise ValueError(f"layer_types[{n}]: expected one of {list(MIXERS)}, got {cut_short(kind)}")
        self._positive("vocab_size", "hidden_size")
        if self.mlp_layer_types is None or "dense" in self.mlp_layer_types:
            self._positive("intermediate_size")
        for kind in dict.fromkeys(self.layer_types):
            self._positive(*mixer(kind).needs)
        if self.num_key_value_heads and self.num_attention_heads % self.num_key_value_heads:
            raise ValueError(
                f"num_attention_heads: expected a multiple of num_key_value_heads = {self.num_key_value_heads}, "
                f"got {self.num_attention_heads}"
            )
        if isinstance(self.rope_scaling, dict):
            object.__setattr__(self, "rope_scaling", RopeScaling(**self.rope_scaling))
        if not isinstance(self.rope_scaling, RopeScaling | None):
            what = cut_short(self.rope_scaling)
            raise ValueError(f"rope_scaling: expected a RopeScaling, its fields or None, got {what}")
        if self.mlp_layer_types is not None:
            self._check_mlp_layer_types()
        for name, n in (("linear_multipliers", 5), ("mixer_multipliers", 5), ("mlp_multipliers", 2)):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, tuple(float(x) for x in getattr(self, name)))
                if len(getattr(self, name)) != n:
                    raise ValueError(f"{name}: expected {n} numbers, got {getattr(self, name)}")
        if self.layer_rope_theta is not None:
            self._check_layer_rope_theta()
        if self.mlp_activation not in ACTIVATIONS_OF_MLP:
            wanted = f"expected one of {list(ACTIVATIONS_OF_MLP)}, got {cut_short(self.mlp_activation)}"
            raise ValueError(f"mlp_activation: {wanted}")
        if self.num_experts:
            self._positive("num_experts", "num_experts_per_tok", "moe_intermediate_size")
        if self.num_experts_per_tok > self.num_experts:
            raise ValueError(
                f"num_experts_per_tok: expected at most num_experts = {self.num_experts}, "
                f"got {self.num_experts_per_tok}"
            )
        if self.num_nextn_predict_layers not in (0, 1):
            raise ValueError(
                f"num_nextn_predict_layers: expected 0 or 1, got {cut_short(self.num_nextn_predict_layers)}"
            )
        if not 0 <= self.partial_rotary_factor <= 1:
            raise ValueError(f"partial_rotary_factor: expected 0 to 1, got {self.partial_rotary_factor}")
        if self.rotary_dim % 2:
            raise ValueError(f"partial_rotary_factor: leaves an odd number of channels to turn, {self.rotary_dim}")

    def _check_mlp_layer_types(self) -> None:
        kinds = tuple(self.mlp_layer_types)
        object.__setattr__(self, "mlp_layer_types", kinds)
        if len(kinds) != self.num_hidden_layers or set(kinds) - {"dense", "sparse", "none"}:
            wanted = f"'dense', 'sparse' or 'none' for each of {self.num_hidden_layers} layers"
            raise ValueError(f"mlp_layer_types: expected {wanted}, got {kinds}")
        if "sparse" in kinds and not self.num_experts:
            raise ValueError("mlp_layer_types: has sparse layers, but num_experts is 0")

    def _check_layer_rope_theta(self) -> None:
        thetas = tuple(float(theta) for theta in self.layer_rope_theta)
        same = set(thetas) == {float(self.rope_theta)}
        object.__setattr__(self, "layer_rope_theta", None if same else thetas)
        if len(thetas) != self.num_hidden_layers or any(theta != 0 and theta < 1 for theta in thetas):
            wanted = f"0 or a number from 1 for each of {self.num_hidden_layers} layers"
            raise ValueError(f"layer_rope_theta: expected {wanted}, got {thetas}")

    def _positive(self, *names: str) -> None:
        for name in names:
            check_positive_int(name, getattr(self, name))

    @property
    def num_hidden_layers(self) -> int:
        """Layers of the model."""
        return len(self.layer_types)

    def is_sparse(self, layer: int) -> bool:
        """Whether the layer's MLP is a mixture of experts."""
        return self.num_experts > 0 if self.mlp_layer_types is None else self.mlp_layer_types[layer] == "sparse"

    def has_mlp(self, layer: int) -> bool:
        """Whether the layer has a feed-forward half."""
        return self.mlp_layer_types is None or self.mlp_layer_types[layer] != "none"

    @property
    def rotary_dim(self) -> int:
        """Channels of a softmax head that turn with the position."""
        return int(self.head_dim * self.partial_rotary_factor)

    def theta_of(self, layer: int) -> float:
        """The base of a softmax layer's rotary frequencies; 0: the layer has no positions."""
        return self.rope_theta if self.layer_rope_theta is None else self.layer_rope_theta[layer]

    def to_dict(self) -> dict:
        """All fields, ready for json.dumps: tuples as lists."""
        return {key: list(x) if isinstance(x, tuple) else x for key, x in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict) -> "HybridConfig":
        """The inverse of to_dict; an unknown field is named."""
        unknown = set(values) - {field.name for field in fields(cls)}
        if unknown:
            raise ValueError(f"unknown field(s) {sorted(unknown)}; known are {sorted(f.name for f in fields(cls))}")
        return cls(**values)

    def with_layers(self, layer_types: tuple[str, ...]) -> "HybridConfig":
        """The same sizes with other layers; each has experts if the model has any, and turns by rope_theta."""
        return replace(self, layer_types=layer_types, mlp_layer_types=None, layer_rope_theta=None)


def pattern(linear: int, full: int, layers: int, *, kind: str = "linear_attention") -> tuple[str, ...]:
    """`linear` linear layers, then `full` softmax layers, repeated to `layers`: pattern(3, 1, 8) is Qwen3-Next's."""
    length = linear + full
    if min(linear, full) < 0 or not length or layers % length:
        raise ValueError(f"layers: expected a multiple of linear + full = {length}, got {layers}")
    return ((mixer(kind).kind,) * linear + ("full_attention",) * full) * (layers // length)


_QWEN = {"partial_rotary_factor": 0.25, "attention_gate": "elementwise", "zero_centered_norm": True}
_SIZES = {
    "tiny": {"vocab_size": 256, "hidden_size": 128, "intermediate_size": 256, "layers": 4, "heads": 4, "dim": 32},
    "laptop": {"vocab_size": 4096, "hidden_size": 256, "intermediate_size": 768, "layers": 8, "heads": 8, "dim": 32},
    "qwen3_next_small": {
        "vocab_size": 32_000,
        "hidden_size": 512,
        "intermediate_size": 1536,
        "layers": 8,
        "heads": 8,
        "dim": 64,
    },
}
_SIZES["tiny_moe"] = _SIZES["tiny"]
_EXPERTS = {"num_experts": 8, "num_experts_per_tok": 2}
_EXPERTS |= {"moe_intermediate_size": 64, "shared_expert_intermediate_size": 64}
PRESETS = tuple(_SIZES)


def preset(name: str) -> HybridConfig:
    """A named configuration with Qwen3-Next's two blocks, 3 linear layers to 1 softmax layer."""
    if name not in _SIZES:
        raise ValueError(f"preset: expected one of {list(PRESETS)}, got {cut_short(name)}")
    size = _SIZES[name]
    heads, dim = size["heads"], size["dim"]
    return HybridConfig(
        vocab_size=size["vocab_size"],
        hidden_size=size["hidden_size"],
        intermediate_size=size["intermediate_size"],
        layer_types=pattern(3, 1, size["layers"]),
        num_attention_heads=heads,
        num_key_value_heads=heads // 4,
        head_dim=2 * dim,
        linear_num_key_heads=heads // 2,
        linear_num_value_heads=heads,
        linear_key_head_dim=dim,
        linear_value_head_dim=dim,
        tie_word_embeddings=True,
        **_QWEN,
        **(_EXPERTS if name.endswith("_moe") else {}),
    )
