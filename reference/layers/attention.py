"""Softmax attention as a layer: grouped heads, QK-norm, RoPE, window, sink logits, output gate, cache."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from reference.arguments import check_positive_int
from reference.layers.batch import PLAIN, BatchLayout, read_packed
from reference.layers.mixer import Draw, Sizes, SoftmaxMixer, TextBefore
from reference.layers.norm import RMSNorm
from reference.layers.projection import Projection
from reference.layers.rope import RopeScaling, Rotary
from reference.ops.softmax import attention_weights, softmax_attention

GATES = (None, "headwise", "elementwise")


class KVState(NamedTuple):
    """What a softmax layer remembers: all keys and values, or those that a window still reaches."""

    k: Tensor  # [B, S, HK, D], turned by RoPE already
    v: Tensor  # [B, S, HK, D]
    seen: int  # tokens since the start, evicted ones included: the position of the next


class Heads(NamedTuple):
    """What attention is computed from."""

    q: Tensor  # [B, T, H, D]
    k: Tensor  # [B, T, HK, D]
    v: Tensor  # [B, T, HK, D]
    gate: Tensor | None  # logits of the output gate, [B, T, H, D or 1]; None without one


class Attention(nn.Module):
    """Project to heads, attend, project back; with every option of the models in this book.

    d_model             channels of x and y
    n_heads             query heads
    n_kv_heads          key and value heads, each for n_heads / n_kv_heads query heads; None: n_heads
    head_dim            channels per head; None: d_model / n_heads
    rope_dim            channels per head that turn with the position; None: all of them, 0: none (NoPE)
    rope_theta          base of the rotary frequencies
    rope_scaling        frequencies for texts longer than those of pretraining
    qk_norm             RMSNorm of queries and keys: None, "head" (each head: Qwen3), "full" (the whole projection:
                        MiniMax-M2)
    gate                sigmoid gate on what the heads have read, before o_proj: None, "elementwise" or "headwise"; its
                        logits come from q_proj, beside each head's query (Qwen3-Next)
    sinks               one learned logit per head in the softmax's denominator (gpt-oss)
    window              tokens that a query sees, its own among them, and the cache keeps one less (and so many more
                        as it may have to take back); None: all
    bias                biases in the four projections
    out_bias            that of o_proj; None: as the others
    scale               factor of the scores; None: head_dim^-0.5
    norm_eps            eps of the norms of queries and keys
    zero_centered_norm  their factor is 1 + weight

    forward(x [B, T, d_model], state=None, layout=PLAIN) -> (y [B, T, d_model], KVState). With a state, x continues
    the text that the state has read. Packed texts take no state and return None. Outputs at padding mean nothing.
    Raises ValueError that names the argument.
    Parameter names are those of transformers' llama, qwen3, qwen3_next and gpt_oss attention.
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        n_kv_heads: int | None = None,
        head_dim: int | None = None,
        *,
        rope_dim: int | None = None,
        rope_theta: float = 10_000.0,
        rope_scaling: RopeScaling | None = None,
        qk_norm: str | None = None,
        gate: str | None = None,
        sinks: bool = False,
        window: int | None = None,
        bias: bool = False,
        out_bias: bool | None = None,
        scale: float | None = None,
        norm_eps: float = 1e-6,
        zero_centered_norm: bool = False,
    ):
        super().__init__()
        n_kv_heads = n_heads if n_kv_heads is None else n_kv_heads
        head_dim = d_model // n_heads if head_dim is None else head_dim
        if n_heads % n_kv_heads:
            raise ValueError(f"n_heads: expected a multiple of n_kv_heads = {n_kv_heads}, got {n_heads}")
        if gate not in GATES:
            raise ValueError(f"gate: expected one of {list(GATES)}, got {gate!r}")
        if qk_norm not in (None, "head", "full"):
            raise ValueError(f"qk_norm: expected None, 'head' or 'full', got {qk_norm!r}")
        if window is not None:
            check_positive_int("window", window)
        self.n_heads, self.n_kv_heads, self.head_dim = n_heads, n_kv_heads, head_dim
        self.window, self.qk_norm = window, qk_norm
        self.scale = head_dim**-0.5 if scale is None else scale
        self.gate_dim = {None: 0, "headwise": 1, "elementwise": head_dim}[gate]
        self.q_proj = Projection(d_model, n_heads * (head_dim + self.gate_dim), bias=bias)
        self.k_proj = Projection(d_model, n_kv_heads * head_dim, bias=bias)
        self.v_proj = Projection(d_model, n_kv_heads * head_dim, bias=bias)
        self.o_proj = Projection(n_heads * head_dim, d_model, bias=bias if out_bias is None else out_bias)
        if qk_norm is not None:
            options = {"eps": norm_eps, "zero_centered": zero_centered_norm}
            self.q_norm = RMSNorm(head_dim * (n_heads if qk_norm == "full" else 1), **options)
            self.k_norm = RMSNorm(head_dim * (n_kv_heads if qk_norm == "full" else 1), **options)
        self.sinks = nn.Parameter(torch.zeros(n_heads)) if sinks else None
        rope_dim = head_dim if rope_dim is None else rope_dim
        self.rope = Rotary(rope_dim, rope_theta, scaling=rope_scaling) if rope_dim else None

    def forward(
        self, x: Tensor, state: KVState | None = None, layout: BatchLayout = PLAIN
    ) -> tuple[Tensor, KVState | None]:
        if layout.cu_seqlens is not None:
            return read_packed(self, x, layout.cu_seqlens), None
        begin = 0 if state is None else state.seen
        seen, positions = begin + x.shape[1], layout.positions(begin, x)
        q, k, v, gate = self.heads(x)
        q, k = self.turn(q, positions), self.turn(k, positions)
        if state is not None:
            k, v = torch.cat([state.k, k], 1), torch.cat([state.v, v], 1)
        limits = {"window": self.window, "left_padding": layout.padding_among(k, seen)}
        o = softmax_attention(q, k, v, scale=self.scale, sinks=self.sinks, **limits)
        reach = None if self.window is None else self.window + layout.rewind
        return self.output(o, gate), KVState(evict(k, reach), evict(v, reach), seen)

    def project(self, x: Tensor, position: int) -> Heads:
        """The heads of x [B, T, d_model], whose first token is at `position`, queries and keys turned by RoPE."""
        heads, positions = self.heads(x), PLAIN.positions(position, x)
        return heads._replace(q=self.turn(heads.q, positions), k=self.turn(heads.k, positions))

    def heads(self, x: Tensor) -> Heads:
        """The heads of x [B, T, d_model], queries and keys normed and not turned."""
        q = self.q_proj(x).unflatten(-1, (self.n_heads, -1))
        q, gate = q.split_with_sizes([self.head_dim, self.gate_dim], -1)
        k, v = self.k_proj(x), self.v_proj(x).unflatten(-1, (self.n_kv_heads, -1))
        if self.qk_norm == "full":
            q, k = self.q_norm(q.flatten(2)).unflatten(-1, (self.n_heads, -1)), self.k_norm(k)
        k = k.unflatten(-1, (self.n_kv_heads, -1))
        if self.qk_norm == "head":
            q, k = self.q_norm(q), self.k_norm(k)
        return Heads(q, k, v, gate if self.gate_dim else None)

    def turn(self, x: Tensor, positions: Tensor) -> Tensor:
        """Queries or keys x [B, T, heads, D] turned by RoPE, if the layer has it; positions [T] or [B, T]."""
        return x if self.rope is None else self.rope(x, positions)

    def output(self, o: Tensor, gate: Tensor | None) -> Tensor:
        """What the heads have read, o [B, T, H, D], through the output gate and o_proj: [B, T, d_model]."""
        if gate is not None:
            o = o * gate.sigmoid()
        return self.o_proj(o.flatten(2))


def evict(kept: Tensor, window: int | None, keep_first: int = 0) -> Tensor:
    """The last window - 1 of the keys or values kept [B, S, HK, D], and the first keep_first; None: all. A copy, so
    that what is evicted can be freed."""
    if window is None or kept.shape[1] <= keep_first + window - 1:
        return kept
    last = kept[:, kept.shape[1] - (window - 1) :]
    return torch.cat([kept[:, :keep_first], last], 1)


class FullMixer(SoftmaxMixer):
    """full_attention: every token is kept."""

    kind, short = "full_attention", "softmax"
    needs = ("num_attention_heads", "num_key_value_heads", "head_dim")

    def window(self, config: Sizes) -> int | None:
        """Tokens in sight of a query, its own among them; None: all before it."""
        return None

    def build(self, config: Sizes, index: int) -> Attention:
        theta = config.theta_of(index)
        return Attention(
            config.hidden_size,
            config.num_attention_heads,
            config.num_key_value_heads,
            config.head_dim,
            rope_dim=config.rotary_dim if theta else 0,
            rope_theta=theta,
            rope_scaling=self.rope_scaling(config),
            qk_norm=config.qk_norm,
            gate=config.attention_gate,
            sinks=config.attention_sinks,
            window=self.window(config),
            bias=config.attention_bias,
            out_bias=config.attention_output_bias,
            scale=config.attention_multiplier,
            norm_eps=config.rms_norm_eps,
            zero_centered_norm=config.zero_centered_norm,
        )

    def rope_scaling(self, config: Sizes) -> RopeScaling | None:
        """How frequencies are changed for long texts."""
        return config.rope_scaling

    def kept_tokens(self, config: Sizes, tokens: int) -> int:
        """Of so many tokens, those whose keys and values the next query may need."""
        window = self.window(config)
        return tokens if window is None else min(tokens, window - 1)

    def cache_bytes(self, config: Sizes, tokens: int, element_bytes: int) -> int:
        """A key and a value of each key head, for every token kept."""
        return 2 * config.num_key_value_heads * config.head_dim * self.kept_tokens(config, tokens) * element_bytes

    def flops(self, config: Sizes, position: int, *, chunked: bool) -> float:
        """4 H D per token in sight: the scores, and the sum of values."""
        window = self.window(config)
        seen = position + 1 if window is None else min(position + 1, window)
        return 4 * config.num_attention_heads * config.head_dim * seen  # (11.1)

    def filled_state(self, config: Sizes, tokens: int, draw: Draw) -> KVState:
        shape = (self.kept_tokens(config, tokens), config.num_key_value_heads, config.head_dim)
        return KVState(draw(*shape), draw(*shape), tokens)

    def operator_step(self, config: Sizes, state: KVState) -> Callable[[], Tensor]:
        q = torch.randn(state.k.shape[0], 1, config.num_attention_heads, config.head_dim)
        return lambda: softmax_attention(q, state.k, state.v)

    def state_before(self, layer: Attention, h: Tensor, before: TextBefore) -> KVState:
        seen = before.count(h)
        heads = layer.project(h, seen)
        return KVState(before.everything(heads.k), before.everything(heads.v), seen)

    def look(self, layer: Attention, h: Tensor) -> tuple[Tensor, Tensor]:
        """The probabilities of attention, before any output gate."""
        q, k, v, _ = layer.project(h, 0)
        return attention_weights(q, k, scale=layer.scale, window=layer.window, sinks=layer.sinks), v


class SlidingMixer(FullMixer):
    """sliding_attention: the last sliding_window tokens."""

    kind, short = "sliding_attention", "window"
    grows = False
    needs = (*FullMixer.needs, "sliding_window")

    def window(self, config: Sizes) -> int | None:
        return config.sliding_window

    def rope_scaling(self, config: Sizes) -> RopeScaling | None:
        return config.rope_scaling if config.window_rope_scaling else None

    def bends(self, config: Sizes) -> tuple[int, ...]:
        return (config.sliding_window - 1,)

    def state_before(self, layer: Attention, h: Tensor, before: TextBefore) -> KVState:
        raise ValueError(f"layer: a {type(layer).__name__} with a window can't be read in stretches")
