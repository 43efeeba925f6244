"""What happens inside a model: attention weights, lengths of values, the residual stream after each layer."""

from typing import NamedTuple

import torch
from torch import Tensor

from reference.layers.mixers import mixer
from reference.model.hybrid import HybridLM


class Inside(NamedTuple):
    """What look_inside finds."""

    weights: list[Tensor]  # one [B, H, T, T] per layer: how much of value s is in what query t reads
    value_norms: list[Tensor]  # one [B, T, HK] per layer
    residuals: list[Tensor]  # n_layers + 1 of [B, T, hidden_size]: embeddings, then after each layer
    logits: Tensor  # [B, T, vocab_size]


@torch.no_grad()
def look_inside(model: HybridLM, ids: Tensor) -> Inside:
    """Run a model over ids [B, T] and keep what happens inside.

    What a layer's weights are is said where its kind has them (`look` in reference.layers): a softmax layer's are its
    probabilities, before any output gate; a delta layer's are |c_ts| / sum_s |c_ts| with o_t = sum_s c_ts v_s.
    Raises NotImplementedError for a kind that can't be looked at.
    """
    x = model.embed(ids)
    weights, value_norms, residuals = [], [], [x]
    for block in model.layers:
        w, v = mixer(block.kind).look(block.mixer, block.input_layernorm(x))
        x, _ = block(x, None)
        weights.append(w)
        value_norms.append(v.norm(dim=-1))
        residuals.append(x)
    return Inside(weights, value_norms, residuals, model.read_out(model.norm(x)))
