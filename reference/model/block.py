"""One block of the hybrid model: the mixer that layer_types names, then a dense or sparse MLP."""

from torch import Tensor, nn

from reference.layers.batch import PLAIN, BatchLayout
from reference.layers.blocks import by_tokens
from reference.layers.mixers import mixer
from reference.layers.mlp import MixtureOfExperts, SquaredReLUMLP, SwiGLU
from reference.layers.norm import RMSNorm
from reference.model.config import HybridConfig


def build_mixer(config: HybridConfig, layer: int) -> nn.Module:
    """The sequence mixer that config.layer_types[layer] names."""
    return mixer(config.layer_types[layer]).build(config, layer)


def build_mlp(config: HybridConfig, layer: int) -> nn.Module:
    """The layer's feed-forward half: one MLP, with a gate or without, or a mixture of them."""
    gated = config.mlp_activation != "relu2"
    if not config.is_sparse(layer) and not gated:
        return SquaredReLUMLP(config.hidden_size, config.intermediate_size, bias=config.mlp_bias)
    if not config.is_sparse(layer):
        options = {"bias": config.mlp_bias, "activation": config.mlp_activation}
        return SwiGLU(config.hidden_size, config.intermediate_size, **options)
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
        gated=gated,
        d_latent=config.moe_latent_size,
        shared_bias=config.mlp_bias,
    )


class Block(nn.Module):
    """x + mixer(norm(x)), then x + mlp(norm(x)), if the layer has an MLP.

    config  the model's
    layer   index of the block in the model

    Some families differ. Olmo's softmax layers norm what comes out: x + norm(mixer(x)), x + norm(mlp(x))
    (config.softmax_norm_after). Gemma norms what goes in and what comes out, x + norm(mixer(norm(x)))
    (norm_before_and_after). MiniMax-01 keeps the normed input, h = norm(x), alpha h + beta mixer(h) (normed_residual).
    Granite scales what comes out of both, x + m · mixer(norm(x)) (residual_multiplier).

    forward(x [B, T, hidden_size], state, layout=PLAIN) -> (x [B, T, hidden_size], state), the mixer's state before x
    and behind x.
    """

    def __init__(self, config: HybridConfig, layer: int):
        super().__init__()
        norm = {"eps": config.rms_norm_eps, "zero_centered": config.zero_centered_norm}
        self.kind = config.layer_types[layer]
        softmax = mixer(self.kind).softmax
        self.norm_after = config.softmax_norm_after and softmax
        self.input_layernorm = None if self.norm_after else RMSNorm(config.hidden_size, **norm)
        self.mixer = build_mixer(config, layer)
        self.post_attention_layernorm, self.mlp = None, None
        if config.has_mlp(layer):
            self.post_attention_layernorm = RMSNorm(config.hidden_size, **norm)
            self.mlp = build_mlp(config, layer)
        both = config.norm_before_and_after
        self.pre_feedforward_layernorm = RMSNorm(config.hidden_size, **norm) if both else None
        self.post_feedforward_layernorm = RMSNorm(config.hidden_size, **norm) if both or self.norm_after else None
        self.scales, self.multiplier = None, config.residual_multiplier
        if config.normed_residual:
            self.scales = _scales(config, "full_attn" if softmax else "linear_attn"), _scales(config, "mlp")

    def forward(self, x: Tensor, state: object, layout: BatchLayout = PLAIN) -> tuple[Tensor, object]:
        h = x if self.norm_after else self.input_layernorm(x)
        mixed, state = self.mixer(h, state, layout=layout)
        if self.norm_after:
            x = x + self.post_attention_layernorm(mixed)
            return x + self.post_feedforward_layernorm(self.mlp(x)), state
        if self.pre_feedforward_layernorm is not None:
            x = x + self.post_attention_layernorm(mixed)
            return x + self.post_feedforward_layernorm(self.mlp(self.pre_feedforward_layernorm(x))), state
        if self.scales is not None:
            (alpha, beta), (mlp_alpha, mlp_beta) = self.scales
            h = self.post_attention_layernorm(alpha * h + beta * mixed)
            return mlp_alpha * h + mlp_beta * self.mlp(h), state
        x = x + self._scaled(mixed)
        if self.mlp is None:
            return x, state
        if isinstance(self.mlp, SwiGLU):
            return by_tokens(self._feed_forward, x), state
        return self._feed_forward(x), state

    def _feed_forward(self, x: Tensor) -> Tensor:
        return x + self._scaled(self.mlp(self.post_attention_layernorm(x)))

    def _scaled(self, x: Tensor) -> Tensor:
        return x if self.multiplier == 1 else self.multiplier * x


def _scales(config: HybridConfig, part: str) -> tuple[float, float]:
    """alpha and beta of a normed residual."""
    return getattr(config, f"{part}_alpha_factor"), getattr(config, f"{part}_beta_factor")
