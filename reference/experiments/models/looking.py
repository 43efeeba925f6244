"""What a model does inside: attention weights, lengths of values, the residual stream after each layer."""

from typing import NamedTuple

import torch
from torch import Tensor

from reference.layers.attention import Attention
from reference.layers.gated_deltanet import GatedDeltaNet
from reference.model.hybrid import HybridLM
from reference.ops import attention_weights, chunk_gated_delta_rule


class Inside(NamedTuple):
    weights: list[Tensor]  # one [B, H, T, T] per layer: how much of value s is in what query t reads
    value_norms: list[Tensor]  # one [B, T, HK] per layer
    residuals: list[Tensor]  # n_layers + 1 of [B, T, hidden_size]: embeddings, then after each layer
    logits: Tensor  # [B, T, vocab_size]


@torch.no_grad()
def look_inside(model: HybridLM, ids: Tensor) -> Inside:
    """Run a model of softmax and Gated DeltaNet layers over ids [B, T] and keep what happens inside.

    A softmax layer's weights are its probabilities, before any output gate. A linear layer reads sums of
    values too, o_t = sum_s c_ts v_s: its weights are |c_ts| / sum_s |c_ts|.
    """
    x = model.embed_tokens(ids)
    weights, value_norms, residuals = [], [], [x]
    for block in model.layers:
        w, v = _weights(block.mixer, block.input_layernorm(x))
        x, _ = block(x, None)
        weights.append(w)
        value_norms.append(v.norm(dim=-1))
        residuals.append(x)
    return Inside(weights, value_norms, residuals, model.lm_head(model.norm(x)))


def _weights(mixer: torch.nn.Module, h: Tensor) -> tuple[Tensor, Tensor]:
    """[B, H, T, T] and the values [B, T, HK, Dv]."""
    if isinstance(mixer, Attention):
        q, k, v, _ = mixer.project(h, 0)
        options = {"window": mixer.window, "keep_first": mixer.keep_first, "sinks": mixer.sinks}
        return attention_weights(q, k, **options), v
    if isinstance(mixer, GatedDeltaNet):
        q, k, v, g, beta, _ = mixer.project(h)
        (B, T), HV = v.shape[:2], v.shape[2]
        one_hot = torch.eye(T, dtype=v.dtype, device=v.device)[None, :, None].expand(B, T, HV, T)
        c, _ = chunk_gated_delta_rule(q, k, one_hot, g, beta, use_qk_l2norm_in_kernel=True)  # o is linear in v
        c = c.transpose(1, 2).abs()
        return c / c.sum(-1, keepdim=True).clamp(min=1e-30), v
    raise TypeError(f"model: expected softmax and Gated DeltaNet layers, got {type(mixer).__name__}")
