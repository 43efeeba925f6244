"""What a model's time can't fall below on this machine: its matrix products and its softmax attention, done bare.

Bare means: nothing between them, operands and results of the right sizes, and the faster of the two libraries that
PyTorch brings for float32 products. A step of decoding moves bytes instead: its weights and its states are read once.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reference.layers.attention import Attention
from reference.layers.gated_deltanet import GatedDeltaNet
from reference.layers.mixer import CHUNK
from reference.layers.projection import HAS_ONEDNN, PRODUCTS
from reference.model.hybrid import HybridLM


def bare_works(model: HybridLM, tokens: int, *, training: bool) -> dict[str, Callable[[], None]]:
    """One work for each library: every product of the model's layers and operators, and its softmax attention."""
    layers = [(torch.randn(tokens, m.in_features), m.weight.detach()) for m in model.modules() if _is_linear(m)]
    operators = [p for m in model.modules() if isinstance(m, GatedDeltaNet) for p in _operator_products(m, tokens)]
    attention = [_attention_inputs(m, tokens, training) for m in model.modules() if isinstance(m, Attention)]
    libraries = PRODUCTS if HAS_ONEDNN else {"torch": PRODUCTS["torch"]}

    def work(product: Callable[[Tensor, Tensor], Tensor]) -> None:
        with torch.no_grad():
            for x, weight in layers:
                y = product(x, weight)
                if training:  # dy is as large as y
                    product(y, weight.t())
                    product(y.t(), x.t())
            for a, b in operators * (3 if training else 1):  # a backward pass has two for each
                torch.bmm(a, b)
        for q, k, v in attention:
            o = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
            if training:
                torch.autograd.grad(o, (q, k, v), o.detach())

    return {f"bare {name}": lambda product=product: work(product) for name, product in libraries.items()}


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear)


def _operator_products(layer: GatedDeltaNet, tokens: int) -> list[tuple[Tensor, Tensor]]:
    """The products of (4.4) to (4.6), for all chunks and heads at once; the triangular system is left out."""
    N, Dk, Dv = layer.in_proj_b.out_features * tokens // CHUNK, layer.key_dim, layer.value_dim
    keys, values, state = torch.randn(N, CHUNK, Dk), torch.randn(N, CHUNK, Dv), torch.randn(N, Dk, Dv)
    scores = torch.randn(N, CHUNK, CHUNK)
    return [(keys, keys.mT)] * 2 + [(keys, state)] * 2 + [(scores, values)] * 2 + [(keys.mT, values)]


def _attention_inputs(layer: Attention, tokens: int, training: bool) -> tuple[Tensor, Tensor, Tensor]:
    heads = (layer.n_heads, layer.n_kv_heads, layer.n_kv_heads)
    return tuple(torch.randn(1, n, tokens, layer.head_dim, requires_grad=training) for n in heads)


def reading(model: HybridLM, states: list[object]) -> Callable[[], None]:
    """A work that reads, once, the weights that a token meets and the states of a filled cache, and no more."""
    weights = [p for name, p in model.named_parameters() if name != "embed_tokens.weight"]
    weights += [model.lm_head.weight] * (model.lm_head.weight is model.embed_tokens.weight)
    kept = [x for state in states for x in state if isinstance(x, Tensor)]

    @torch.no_grad()
    def work() -> None:
        for x in (*weights, *kept):
            x.sum()

    return work
