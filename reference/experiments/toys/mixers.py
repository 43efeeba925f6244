"""One layer, many mixers: the same projections, the same short convolution for all, and one operator in the middle.

Every mixer gets the convolution, attention included: without it a small softmax model loses at recall to every linear
one, for want of a way to look one token back and not for want of memory.
Tensors have a first axis M: models that are trained side by side (members.py).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reference.experiments.toys.members import Embeddings, Linears, RMSNorms
from reference.layers.gates import initial_A_log, initial_dt_bias, log_decay
from reference.layers.lightning import decay_slopes
from reference.layers.rope import apply_rope, rope_frequencies
from reference.ops import (
    causal_conv,
    chunk_delta_rule,
    chunk_gated_delta_rule,
    chunk_kda,
    chunk_lightning_attention,
    chunk_linear_attention,
    softmax_attention,
)

SOFTMAX_MIXERS = ("softmax", "softmax_nope", "gated_softmax", "sliding_window")
LINEAR_MIXERS = (
    "linear",
    "lightning",
    "gated_linear",
    "deltanet",
    "deltanet_neg",
    "gated_deltanet",
    "gated_deltanet_neg",
    "kda",
)
TOY_MIXERS = (*SOFTMAX_MIXERS, *LINEAR_MIXERS)
WINDOW = 8


class ToyMixer(nn.Module):
    """q, k, v = silu(conv(W x)); the operator; a norm per head; W_o. x [M, B, T, d_model] -> the same shape.

    softmax            softmax attention with RoPE; softmax_nope without; gated_softmax with a sigmoid output gate
    sliding_window     softmax with RoPE over the last WINDOW tokens
    linear             S += beta k v^T
    lightning          the same with a fixed decay per head; gated_linear: with a decay from the data (Mamba-2's)
    deltanet           S += beta k (v - S^T k)^T; gated_deltanet with Mamba-2's decay, kda with one decay per channel
    ..._neg            beta in (0, 2) instead of (0, 1)
    Linear mixers have unit q and k and a learned beta, so that they differ in decay and erase alone.
    """

    def __init__(
        self, name: str, d_model: int, n_heads: int, key_dim: int, value_dim: int, *, layer: int, n_layers: int
    ):
        super().__init__()
        if name not in TOY_MIXERS:
            raise ValueError(f"mixer: expected one of {list(TOY_MIXERS)}, got {name!r}")
        self.name, self.n_heads, self.dims = name, n_heads, [n_heads * key_dim, n_heads * key_dim, n_heads * value_dim]
        self.in_proj = Linears(d_model, sum(self.dims))
        self.conv = nn.Parameter(torch.empty(1, sum(self.dims), 4).uniform_(-0.5, 0.5))
        self.norm = RMSNorms(value_dim)
        self.out_proj = Linears(self.dims[2], d_model)
        if name == "gated_softmax":
            self.gate = Linears(d_model, self.dims[2])
        if name in LINEAR_MIXERS:
            self.beta = Linears(d_model, n_heads, bias=True)
        width = {
            "kda": n_heads * key_dim,
            "gated_linear": n_heads,
            "gated_deltanet": n_heads,
            "gated_deltanet_neg": n_heads,
        }
        if name in width:
            self.decay = Linears(d_model, width[name])
            self.A_log = nn.Parameter(initial_A_log(1, n_heads))
            self.dt_bias = nn.Parameter(initial_dt_bias(1, width[name]))
        self.register_buffer("frequencies", rope_frequencies(key_dim), persistent=False)
        self.register_buffer("slopes", decay_slopes(n_heads, layer, max(n_layers, 2)), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (y.unflatten(-1, (self.n_heads, -1)) for y in self._convolved(self.in_proj(x)).split(self.dims, -1))
        o = self._softmax(q, k, v) if self.name in SOFTMAX_MIXERS else self._linear(x, q, k, v)
        o = self.norm(o).flatten(-2)
        if self.name == "gated_softmax":
            o = o * self.gate(x).sigmoid()
        return self.out_proj(o)

    def _convolved(self, x: Tensor) -> Tensor:
        """Members are channels of one convolution: [M, B, T, D] -> [B, T, M D] and back."""
        y, _ = causal_conv(x.permute(1, 2, 0, 3).flatten(2), self.conv.flatten(0, 1), activation="silu")
        return y.unflatten(2, (len(x), -1)).permute(2, 0, 1, 3)

    def _softmax(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        M, (q, k, v) = len(q), (y.flatten(0, 1) for y in (q, k, v))  # for the operators members are rows of a batch
        if self.name != "softmax_nope":
            positions = torch.arange(q.shape[1], device=q.device)
            q, k = (apply_rope(y, positions, self.frequencies) for y in (q, k))
        o = softmax_attention(q, k, v, window=WINDOW if self.name == "sliding_window" else None)
        return o.unflatten(0, (M, -1))

    def _linear(self, x: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        beta = self.beta(x).sigmoid() * (2 if self.name.endswith("_neg") else 1)
        M, (q, k, v, beta) = len(q), (y.flatten(0, 1) for y in (q, k, v, beta))
        unit = {"use_qk_l2norm_in_kernel": True}
        if self.name == "linear":
            o, _ = chunk_linear_attention(q, k, beta[..., None] * v, **unit)
        elif self.name == "lightning":
            o, _ = chunk_lightning_attention(q, k, beta[..., None] * v, -self.slopes, **unit)
        elif self.name == "gated_linear":
            o, _ = chunk_lightning_attention(q, k, beta[..., None] * v, self._decay(x), **unit)
        elif self.name in ("deltanet", "deltanet_neg"):
            o, _ = chunk_delta_rule(q, k, v, beta, **unit)
        else:
            op = chunk_kda if self.name == "kda" else chunk_gated_delta_rule
            o, _ = op(q, k, v, self._decay(x), beta, **unit)
        return o.unflatten(0, (M, -1))

    def _decay(self, x: Tensor) -> Tensor:
        """g [M B, T, H], for KDA [M B, T, H, Dk]."""
        a, A_log, dt_bias = self.decay(x), self.A_log[:, None, None], self.dt_bias[:, None, None]
        if self.name == "kda":
            a, dt_bias = (y.unflatten(-1, (self.n_heads, -1)) for y in (a, dt_bias))
            A_log = A_log[..., None]
        return log_decay(a, A_log, dt_bias).flatten(0, 1)


class ToyBlock(nn.Module):
    """x + mixer(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, mixer: ToyMixer, d_model: int, d_mlp: int):
        super().__init__()
        self.mixer, self.mixer_norm, self.mlp_norm = mixer, RMSNorms(d_model), RMSNorms(d_model)
        self.up, self.down = Linears(d_model, d_mlp, bias=True), Linears(d_mlp, d_model, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.mixer(self.mixer_norm(x))
        return x + self.down(F.gelu(self.up(self.mlp_norm(x))))


class ToyLM(nn.Module):
    """ids [M, B, T] -> logits [M, B, T, vocab_size]; layers: the name of each layer's mixer. Made with M = 1.

    The width of the MLPs is chosen so that every stack has as many parameters as the all-softmax one of the same
    depth with 16 key channels per head, within 1%: what a mixer or a wider key adds, the MLPs give up.
    """

    def __init__(
        self,
        vocab_size: int,
        layers: tuple[str, ...],
        *,
        d_model: int = 64,
        n_heads: int = 2,
        key_dim: int = 16,
        value_dim: int = 32,
    ):
        super().__init__()
        heads = {"n_heads": n_heads, "key_dim": key_dim, "value_dim": value_dim}
        mixers = [ToyMixer(name, d_model, layer=n, n_layers=len(layers), **heads) for n, name in enumerate(layers)]
        plain = ToyMixer("softmax", d_model, layer=0, n_layers=1, **heads | {"key_dim": 16})
        extra = sum(_count(mixer) - _count(plain) for mixer in mixers) / len(layers)
        d_mlp = round(2 * d_model - extra / (2 * d_model + 1))
        self.embed = Embeddings(vocab_size, d_model)
        self.blocks = nn.ModuleList(ToyBlock(mixer, d_model, d_mlp) for mixer in mixers)
        self.norm, self.head = RMSNorms(d_model), Linears(d_model, vocab_size)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def toy_cache_bytes(
    layers: tuple[str, ...], tokens: int, *, n_heads: int = 2, key_dim: int = 16, value_dim: int = 32
) -> int:
    """Bytes that a stack keeps of one text in float32 after `tokens` tokens: keys and values of softmax layers, the
    state of linear ones, and of every layer the last 3 inputs of its convolution."""
    numbers = 0
    for name in layers:
        if name in LINEAR_MIXERS:
            numbers += n_heads * key_dim * value_dim
        else:
            seen = min(tokens, WINDOW - 1) if name == "sliding_window" else tokens
            numbers += seen * n_heads * (key_dim + value_dim)
        numbers += 3 * n_heads * (2 * key_dim + value_dim)
    return 4 * numbers
