"""One layer, many mixers: the same projections, the same short convolution for all, and one operator in the middle.

Every mixer gets the convolution, attention included: without it a small softmax model loses at recall to every linear
one, since it can't look one token back, and not because it lacks memory. To add a mixer, add a line to TOY_MIXERS.
Tensors have a first axis M: models that are trained side by side (members.py).
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reference.experiments.toys.least_squares import least_squares_attention
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

WINDOW = 8
TIED_STD = 0.1  # of an embedding that is the head as well, at first


class SoftmaxToy(NamedTuple):
    """A softmax mixer.

    rope         turn q and k by their positions
    window       read only the last so many tokens
    output_gate  a sigmoid gate on what was read
    """

    rope: bool = True
    window: int | None = None
    output_gate: bool = False

    def parts(self, d_model: int, n_heads: int, key_dim: int, value_dim: int) -> dict[str, nn.Module]:
        """Weights beside those that every mixer has, by name."""
        return {"gate": Linears(d_model, n_heads * value_dim)} if self.output_gate else {}

    def mix(self, layer: "ToyMixer", x: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Input x of the layer [M, B, T, d_model]; q, k, v [M, B, T, H, D] -> o like v."""
        M, (q, k, v) = len(q), (y.flatten(0, 1) for y in (q, k, v))  # for the operators members are rows of a batch
        if self.rope:
            positions = torch.arange(q.shape[1], device=q.device)
            q, k = (apply_rope(y, positions, layer.frequencies) for y in (q, k))
        return softmax_attention(q, k, v, window=self.window).unflatten(0, (M, -1))

    def cached_numbers(self, tokens: int, key_dim: int, value_dim: int) -> int:
        """Of one head: the keys and values of all tokens that the next one may read."""
        seen = tokens if self.window is None else min(tokens, self.window - 1)
        return seen * (key_dim + value_dim)


class LinearToy(NamedTuple):
    """A mixer with a state [Dk, Dv], unit q and k, and a learned write strength beta.

    operator  of reference.ops, in chunks
    erases    the operator takes beta; one that only adds gets beta v for v
    decay     None; "fixed": slopes by head; "head", "channel": from the data, one number per head or key channel
    beta_max  beta lies in (0, beta_max)
    solves    it keeps the sum of k k^T as well, [Dk, Dk]
    """

    operator: Callable[..., tuple[Tensor, Tensor | None]]
    erases: bool
    decay: Literal["fixed", "head", "channel"] | None = None
    beta_max: int = 1
    solves: bool = False

    output_gate = False

    def parts(self, d_model: int, n_heads: int, key_dim: int, value_dim: int) -> dict[str, nn.Module | nn.Parameter]:
        """Weights beside those that every mixer has, by name. Their order is that of the random draws."""
        found = {"beta": Linears(d_model, n_heads, bias=True)}
        if self.decay in ("head", "channel"):
            width = n_heads * (key_dim if self.decay == "channel" else 1)
            found["decay"] = Linears(d_model, width)
            found["A_log"] = nn.Parameter(initial_A_log(1, n_heads))
            found["dt_bias"] = nn.Parameter(initial_dt_bias(1, width))
        return found

    def mix(self, layer: "ToyMixer", x: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Input x of the layer [M, B, T, d_model]; q, k, v [M, B, T, H, D] -> o like v."""
        beta = layer.beta(x).sigmoid() * self.beta_max
        M, (q, k, v, beta) = len(q), (y.flatten(0, 1) for y in (q, k, v, beta))  # members are rows of a batch
        v = v if self.erases else beta[..., None] * v
        decay = [] if self.decay is None else [self._log_decay(layer, x)]
        strength = [beta] if self.erases else []
        o, _ = self.operator(q, k, v, *decay, *strength, use_qk_l2norm_in_kernel=True)
        return o.unflatten(0, (M, -1))

    def _log_decay(self, layer: "ToyMixer", x: Tensor) -> Tensor:
        """g [M B, T, H], by channel [M B, T, H, Dk], fixed [H]."""
        if self.decay == "fixed":
            return -layer.slopes
        a, A_log, dt_bias = layer.decay(x), layer.A_log[:, None, None], layer.dt_bias[:, None, None]
        if self.decay == "channel":
            a, dt_bias = (y.unflatten(-1, (layer.n_heads, -1)) for y in (a, dt_bias))
            A_log = A_log[..., None]
        return log_decay(a, A_log, dt_bias).flatten(0, 1)

    def cached_numbers(self, tokens: int, key_dim: int, value_dim: int) -> int:
        """Of one head: its state, after however many tokens."""
        return key_dim * (value_dim + key_dim * self.solves)


# S is a head's state; the rules in the operators' docstrings have their equations.
TOY_MIXERS: dict[str, SoftmaxToy | LinearToy] = {
    "softmax": SoftmaxToy(),
    "softmax_nope": SoftmaxToy(rope=False),
    "gated_softmax": SoftmaxToy(output_gate=True),
    "sliding_window": SoftmaxToy(window=WINDOW),
    # S += beta k v^T, after a decay of S where there is one
    "linear": LinearToy(chunk_linear_attention, erases=False),
    "lightning": LinearToy(chunk_lightning_attention, erases=False, decay="fixed"),
    "gated_linear": LinearToy(chunk_lightning_attention, erases=False, decay="head"),  # Mamba-2's decay
    # S += beta k (v - S^T k)^T, after a decay of S where there is one
    "deltanet": LinearToy(chunk_delta_rule, erases=True),
    "deltanet_neg": LinearToy(chunk_delta_rule, erases=True, beta_max=2),
    "gated_deltanet": LinearToy(chunk_gated_delta_rule, erases=True, decay="head"),
    "gated_deltanet_neg": LinearToy(chunk_gated_delta_rule, erases=True, decay="head", beta_max=2),
    "kda": LinearToy(chunk_kda, erases=True, decay="channel"),
    # the best S for all pairs so far
    "least_squares": LinearToy(least_squares_attention, erases=True, solves=True),
}


def toy_mixer(name: str) -> SoftmaxToy | LinearToy:
    """The record of a mixer. ValueError if there is none of this name."""
    if name not in TOY_MIXERS:
        raise ValueError(f"mixer: expected one of {list(TOY_MIXERS)}, got {name!r}")
    return TOY_MIXERS[name]


class ToyMixer(nn.Module):
    """q, k, v = silu(conv(W x)); what TOY_MIXERS says under `name`; a norm per head; W_o.

    x [M, B, T, d_model] -> the same shape. layer, of n_layers, sets the slopes of a fixed decay. ValueError if the name
    is unknown.
    """

    def __init__(
        self, name: str, d_model: int, n_heads: int, key_dim: int, value_dim: int, *, layer: int, n_layers: int
    ):
        super().__init__()
        self.kind, self.n_heads = toy_mixer(name), n_heads
        self.dims = [n_heads * key_dim, n_heads * key_dim, n_heads * value_dim]
        self.in_proj = Linears(d_model, sum(self.dims))
        self.conv = nn.Parameter(torch.empty(1, sum(self.dims), 4).uniform_(-0.5, 0.5))
        self.norm = RMSNorms(value_dim)
        self.out_proj = Linears(self.dims[2], d_model)
        for part, module in self.kind.parts(d_model, n_heads, key_dim, value_dim).items():
            setattr(self, part, module)
        self.register_buffer("frequencies", rope_frequencies(key_dim), persistent=False)
        self.register_buffer("slopes", decay_slopes(n_heads, layer, max(n_layers, 2)), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """One layer's mixing of tokens."""
        q, k, v = (y.unflatten(-1, (self.n_heads, -1)) for y in self._convolved(self.in_proj(x)).split(self.dims, -1))
        o = self.norm(self.kind.mix(self, x, q, k, v)).flatten(-2)
        if self.kind.output_gate:
            o = o * self.gate(x).sigmoid()
        return self.out_proj(o)

    def _convolved(self, x: Tensor) -> Tensor:
        """Members are channels of one convolution: [M, B, T, D] -> [B, T, M D] and back."""
        y, _ = causal_conv(x.permute(1, 2, 0, 3).flatten(2), self.conv.flatten(0, 1), activation="silu")
        return y.unflatten(2, (len(x), -1)).permute(2, 0, 1, 3)


class ToyBlock(nn.Module):
    """x + mixer(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, mixer: ToyMixer, d_model: int, d_mlp: int):
        super().__init__()
        self.mixer, self.mixer_norm, self.mlp_norm = mixer, RMSNorms(d_model), RMSNorms(d_model)
        self.up, self.down = Linears(d_model, d_mlp, bias=True), Linears(d_mlp, d_model, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        """[M, B, T, d_model] -> the same shape."""
        x = x + self.mixer(self.mixer_norm(x))
        return x + self.down(F.gelu(self.up(self.mlp_norm(x))))


class ToyLM(nn.Module):
    """ids [M, B, T] -> logits [M, B, T, vocab_size]; layers: the name of each layer's mixer. Made with M = 1.

    The width of the MLPs is chosen so that every stack has as many parameters as the all-softmax one of the same
    depth with 16 key channels per head, within 1%: what a mixer or a wider key adds, the MLPs give up. tied: the
    embedding, larger at first, is the head as well.
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
        tied: bool = False,
    ):
        super().__init__()
        heads = {"n_heads": n_heads, "key_dim": key_dim, "value_dim": value_dim}
        mixers = [ToyMixer(name, d_model, layer=n, n_layers=len(layers), **heads) for n, name in enumerate(layers)]
        plain = ToyMixer("softmax", d_model, layer=0, n_layers=1, **heads | {"key_dim": 16})
        extra = sum(_count(mixer) - _count(plain) for mixer in mixers) / len(layers)
        d_mlp = round(2 * d_model - extra / (2 * d_model + 1))
        self.embed = Embeddings(vocab_size, d_model, std=TIED_STD) if tied else Embeddings(vocab_size, d_model)
        self.blocks = nn.ModuleList(ToyBlock(mixer, d_model, d_mlp) for mixer in mixers)
        self.norm, self.head = RMSNorms(d_model), None if tied else Linears(d_model, vocab_size)

    def forward(self, ids: Tensor) -> Tensor:
        """Logits after each token."""
        return self.read(self.after_layers(ids)[-1])

    def after_layers(self, ids: Tensor) -> list[Tensor]:
        """What each layer hands on, x [M, B, T, d_model]."""
        x, found = self.embed(ids), []
        for block in self.blocks:
            x = block(x)
            found.append(x)
        return found

    def read(self, x: Tensor) -> Tensor:
        """Logits of the head for what any layer hands on."""
        x = self.norm(x)
        if self.head is not None:
            return self.head(x)
        return torch.bmm(x.flatten(1, -2), self.embed.weight.mT).unflatten(1, x.shape[1:-1])


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def toy_cache_bytes(
    layers: tuple[str, ...], tokens: int, *, n_heads: int = 2, key_dim: int = 16, value_dim: int = 32
) -> int:
    """Bytes that a stack keeps of one text in float32 after `tokens` tokens: keys and values of softmax layers, the
    state of linear ones, and of every layer the last 3 inputs of its convolution. ValueError if a name is unknown."""
    numbers = 0
    for name in layers:
        numbers += n_heads * toy_mixer(name).cached_numbers(tokens, key_dim, value_dim)
        numbers += 3 * n_heads * (2 * key_dim + value_dim)
    return 4 * numbers
