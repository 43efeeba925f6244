"""One block of the hybrid model: the mixer that layer_types names, then a dense or sparse MLP."""

from typing import NamedTuple

from torch import Tensor, nn

from reference.config import HybridConfig
from reference.layers.attention import Attention
from reference.layers.gated_deltanet import GatedDeltaNet, KimiDeltaAttention
from reference.layers.lightning import LightningAttention
from reference.layers.mlp import MixtureOfExperts, SwiGLU
from reference.layers.norm import RMSNorm


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
            qk_norm=config.qk_norm,
            gate=config.attention_gate,
            sinks=config.attention_sinks,
            window=config.sliding_window if kind == "sliding_attention" else None,
            bias=config.attention_bias,
            norm_eps=config.rms_norm_eps,
            zero_centered_norm=config.zero_centered_norm,
        )
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
            norm_eps=config.rms_norm_eps,
        )
    if kind == "kda":
        return KimiDeltaAttention(
            config.hidden_size,
            config.linear_num_value_heads,
            config.linear_key_head_dim,
            conv_width=config.linear_conv_kernel_dim,
            norm_eps=config.rms_norm_eps,
        )
    return LightningAttention(
        config.hidden_size,
        config.num_attention_heads,
        config.head_dim,
        layer=layer,
        n_layers=config.num_hidden_layers,
        norm_eps=config.rms_norm_eps,
    )


class Rows(NamedTuple):
    """How the rows of a batch are laid out, where they are more than plain texts of one length."""

    cu_seqlens: Tensor | None = None  # boundaries of the texts packed into one row
    left_padding: Tensor | None = None  # [B] tokens at the start that are none
    is_token: Tensor | None = None  # [B, T], False where left_padding reaches


NO_ROWS = Rows()


class Block(nn.Module):
    """x + mixer(norm(x)), then x + mlp(norm(x)); the mixer's state goes in and comes out."""

    def __init__(self, config: HybridConfig, layer: int):
        super().__init__()
        norm = {"eps": config.rms_norm_eps, "zero_centered": config.zero_centered_norm}
        self.input_layernorm = RMSNorm(config.hidden_size, **norm)
        self.mixer = build_mixer(config, layer)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, **norm)
        if config.num_experts:
            self.mlp = MixtureOfExperts(
                config.hidden_size,
                config.moe_intermediate_size,
                config.num_experts,
                config.num_experts_per_tok,
                d_shared=config.shared_expert_intermediate_size,
                norm_top_k=config.norm_topk_prob,
            )
        else:
            self.mlp = SwiGLU(config.hidden_size, config.intermediate_size)

    def forward(self, x: Tensor, state: object, rows: Rows = NO_ROWS) -> tuple[Tensor, object]:
        h, options = self.input_layernorm(x), {"cu_seqlens": rows.cu_seqlens}
        if rows.is_token is not None:
            h = h * rows.is_token[..., None]  # a linear layer writes nothing for a zero input, and has no bias
        if isinstance(self.mixer, Attention):
            options["left_padding"] = rows.left_padding
        mixed, state = self.mixer(h, state, **options)
        x = x + mixed
        return x + self.mlp(self.post_attention_layernorm(x)), state
