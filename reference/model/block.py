"""One block of the hybrid model: the mixer that layer_types names, then a dense or sparse MLP."""

from typing import NamedTuple

from torch import Tensor, nn

from reference.layers.attention import Attention
from reference.layers.gated_deltanet import GatedDeltaNet, KimiDeltaAttention
from reference.layers.latent import LatentAttention
from reference.layers.lightning import LightningAttention
from reference.layers.mlp import MixtureOfExperts, SwiGLU
from reference.layers.norm import RMSNorm
from reference.model.config import SOFTMAX, HybridConfig


def build_mixer(config: HybridConfig, layer: int) -> nn.Module:
    """The sequence mixer that config.layer_types[layer] names."""
    kind = config.layer_types[layer]
    if kind in ("full_attention", "sliding_attention"):
        return Attention(
            config.hidden_size,
            config.num_attention_heads,
            config.num_key_value_heads,
            config.head_dim,
            rope_dim=config.rotary_dim,
            rope_theta=config.rope_theta,
            rope_scaling=config.rope_scaling,
            qk_norm=config.qk_norm,
            gate=config.attention_gate,
            sinks=config.attention_sinks,
            window=config.sliding_window if kind == "sliding_attention" else None,
            bias=config.attention_bias,
            norm_eps=config.rms_norm_eps,
            zero_centered_norm=config.zero_centered_norm,
        )
    if kind in ("latent_attention", "indexed_attention"):
        return _build_latent(config, sparse=kind == "indexed_attention")
    linear_norm_eps = config.rms_norm_eps if config.linear_norm_eps is None else config.linear_norm_eps
    if kind == "linear_attention":
        return GatedDeltaNet(
            config.hidden_size,
            config.linear_num_key_heads,
            config.linear_num_value_heads,
            config.linear_key_head_dim,
            config.linear_value_head_dim,
            conv_width=config.linear_conv_kernel_dim,
            beta_max=2.0 if config.linear_allow_neg_eigval else 1.0,
            gate=config.linear_gate,
            norm_eps=linear_norm_eps,
        )
    if kind == "kda":
        return KimiDeltaAttention(
            config.hidden_size,
            config.linear_num_value_heads,
            config.linear_key_head_dim,
            conv_width=config.linear_conv_kernel_dim,
            norm_eps=linear_norm_eps,
        )
    return LightningAttention(
        config.hidden_size,
        config.num_attention_heads,
        config.head_dim,
        layer=layer,
        n_layers=config.num_hidden_layers,
        norm_eps=linear_norm_eps,
    )


def _build_latent(config: HybridConfig, *, sparse: bool) -> LatentAttention:
    index = {"top_k": config.index_topk, "index_heads": config.index_n_heads, "index_dim": config.index_head_dim}
    return LatentAttention(
        config.hidden_size,
        config.num_attention_heads,
        q_rank=config.q_lora_rank,
        kv_rank=config.kv_lora_rank,
        nope_dim=config.qk_nope_head_dim,
        rope_dim=config.qk_rope_head_dim,
        v_dim=config.v_head_dim,
        rope_theta=config.rope_theta,
        rope_scaling=config.rope_scaling,
        rotate=config.latent_rotary,
        bias=config.attention_bias,
        **(index if sparse else {}),
    )


def build_mlp(config: HybridConfig, layer: int) -> nn.Module:
    """The layer's feed-forward half: one SwiGLU or a mixture of them."""
    if not config.is_sparse(layer):
        return SwiGLU(config.hidden_size, config.intermediate_size, bias=config.mlp_bias)
    return MixtureOfExperts(
        config.hidden_size,
        config.moe_intermediate_size,
        config.num_experts,
        config.num_experts_per_tok,
        d_shared=config.shared_expert_intermediate_size,
        shared_gate=config.shared_expert_gate,
        norm_top_k=config.norm_topk_prob,
        router=config.router,
        n_groups=config.n_group,
        top_groups=config.topk_group,
        routed_scale=config.routed_scaling_factor,
        clamp=None if config.swiglu_limit is None else (config.swiglu_limit, config.swiglu_alpha),
        bias=config.expert_bias,
    )


class Rows(NamedTuple):
    """How the rows of a batch are laid out, where they are more than plain texts of one length."""

    cu_seqlens: Tensor | None = None  # boundaries of the texts packed into one row
    left_padding: Tensor | None = None  # [B] tokens at the start that are none
    is_token: Tensor | None = None  # [B, T], False where left_padding reaches


NO_ROWS = Rows()


class Block(nn.Module):
    """x + mixer(norm(x)), then x + mlp(norm(x)); the mixer's state goes in and comes out.

    Two families differ. Olmo's softmax layers norm what comes out: x + norm(mixer(x)), x + norm(mlp(x))
    (config.softmax_norm_after). MiniMax-01 keeps the normed input, h = norm(x), alpha h + beta mixer(h)
    (config.normed_residual).
    """

    def __init__(self, config: HybridConfig, layer: int):
        super().__init__()
        norm = {"eps": config.rms_norm_eps, "zero_centered": config.zero_centered_norm}
        softmax = config.layer_types[layer] in SOFTMAX
        self.norm_after = config.softmax_norm_after and softmax
        self.input_layernorm = None if self.norm_after else RMSNorm(config.hidden_size, **norm)
        self.mixer = build_mixer(config, layer)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, **norm)
        self.mlp = build_mlp(config, layer)
        self.post_feedforward_layernorm = RMSNorm(config.hidden_size, **norm) if self.norm_after else None
        self.scales = None
        if config.normed_residual:
            mixer = "full_attn" if softmax else "linear_attn"
            self.scales = [[getattr(config, f"{f}_{s}_factor") for s in ("alpha", "beta")] for f in (mixer, "mlp")]

    def forward(self, x: Tensor, state: object, rows: Rows = NO_ROWS) -> tuple[Tensor, object]:
        h = x if self.norm_after else self.input_layernorm(x)
        read = h if rows.is_token is None else h * rows.is_token[..., None]
        options = {"cu_seqlens": rows.cu_seqlens}
        if isinstance(self.mixer, Attention | LatentAttention):
            options["left_padding"] = rows.left_padding
        mixed, state = self.mixer(read, state, **options)  # a linear layer writes nothing for a zero, it has no bias
        if self.norm_after:
            x = x + self.post_attention_layernorm(mixed)
            return x + self.post_feedforward_layernorm(self.mlp(x)), state
        if self.scales is not None:
            (alpha, beta), (mlp_alpha, mlp_beta) = self.scales
            h = self.post_attention_layernorm(alpha * h + beta * mixed)
            return mlp_alpha * h + mlp_beta * self.mlp(h), state
        x = x + mixed
        return x + self.mlp(self.post_attention_layernorm(x)), state
