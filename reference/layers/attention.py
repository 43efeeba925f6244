"""Softmax attention as a layer: grouped heads, QK-norm, RoPE, window, sink logits, output gate, cache."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from reference.arguments import check_count, check_positive_int
from reference.layers.mixer import Draw, Sizes, SoftmaxMixer, TextBefore
from reference.layers.norm import RMSNorm
from reference.layers.projection import Projection
from reference.layers.rope import RopeScaling, Rotary
from reference.ops.softmax import softmax_attention

GATES = {None: 0, "headwise": 1, "elementwise": None}  # channels of gate per head; None: one per channel


class KVState(NamedTuple):
    """What a softmax layer remembers: all keys and values, or the first few and what a window reaches."""

    k: Tensor  # [B, S, HK, D], turned by RoPE already
    v: Tensor  # [B, S, HK, D]
    seen: int  # tokens since the start, evicted ones included: the position of the next


class Attention(nn.Module):
    """Project to heads, attend, project back; with every option of the models in this book.

    d_model, n_heads, n_kv_heads (grouped queries; default n_heads), head_dim (default d_model / n_heads).
    rope_dim: channels per head that turn with the position; None all of them, 0 none (NoPE).
    rope_scaling: frequencies for texts longer than those of pretraining.
    qk_norm: None, "head" (RMSNorm on each head: Qwen3), "full" (on the whole projection: MiniMax-M2).
    gate: None, "elementwise" or "headwise": sigmoid gate on the attention output, before o_proj; its logits
    come from q_proj, beside each head's query (Qwen3-Next). sinks: one learned logit per head (gpt-oss).
    window: a query sees its own token and the window - 1 before it; the cache keeps no more. keep_first: tokens at
    the start that stay in cache and sight, at the distance that they have in the cache: RoPE never meets a distance
    beyond window + keep_first - 1, however long the text (StreamingLLM, Xiao et al. 2024, section 3.2).

    forward(x [B, T, d_model], state=None) -> (y [B, T, d_model], KVState). With a state the tokens continue it.
    cu_seqlens packs sequences into B = 1 (no state then); left_padding [B] tokens at the start of each row are none.
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
        keep_first: int = 0,
        bias: bool = False,
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
        check_count("keep_first", keep_first)
        self.n_heads, self.n_kv_heads, self.head_dim = n_heads, n_kv_heads, head_dim
        self.window, self.keep_first, self.gate = window, keep_first if window is not None else 0, gate
        self.gate_dim = head_dim if gate == "elementwise" else GATES[gate]
        self.q_proj = Projection(d_model, n_heads * (head_dim + self.gate_dim), bias=bias)
        self.k_proj = Projection(d_model, n_kv_heads * head_dim, bias=bias)
        self.v_proj = Projection(d_model, n_kv_heads * head_dim, bias=bias)
        self.o_proj = Projection(n_heads * head_dim, d_model, bias=bias)
        self.qk_norm = qk_norm
        if qk_norm is not None:
            options = {"eps": norm_eps, "zero_centered": zero_centered_norm}
            self.q_norm = RMSNorm(head_dim * (n_heads if qk_norm == "full" else 1), **options)
            self.k_norm = RMSNorm(head_dim * (n_kv_heads if qk_norm == "full" else 1), **options)
        self.sinks = nn.Parameter(torch.zeros(n_heads)) if sinks else None
        rope_dim = head_dim if rope_dim is None else rope_dim
        self.rope = Rotary(rope_dim, rope_theta, scaling=rope_scaling) if rope_dim else None

    def forward(
        self,
        x: Tensor,
        state: KVState | None = None,
        *,
        cu_seqlens: Tensor | None = None,
        left_padding: Tensor | None = None,
    ) -> tuple[Tensor, KVState | None]:
        if cu_seqlens is not None:
            pieces = x.split(cu_seqlens.diff().tolist(), 1)  # sequences of one batch don't see each other
            return torch.cat([self(piece)[0] for piece in pieces], 1), None
        begin = 0 if state is None else state.seen
        bare, k, v, gate = self._project_unturned(x)
        q, k = self._turn(bare, k, begin, left_padding)
        if state is not None:
            k, v = torch.cat([state.k, k], 1), torch.cat([state.v, v], 1)
        keys, seen = k, begin + x.shape[1]
        if self.keep_first and self.rope:
            q, keys = self._two_distances(bare, q, k, begin)
        limits = {"window": self.window, "keep_first": self.keep_first, "scale": self.head_dim**-0.5}
        if left_padding is not None:
            if self.keep_first:
                raise ValueError("left_padding: the first tokens of padded rows are not the ones that keep_first keeps")
            limits["left_padding"] = left_padding - (seen - k.shape[1])  # what is evicted is no padding any more
        o = softmax_attention(q, keys, v, **limits, sinks=self.sinks)
        if gate is not None:
            o = o * gate.sigmoid()
        return self.o_proj(o.flatten(2)), KVState(self._evict(k), self._evict(v), seen)

    def project(self, x: Tensor, position: int) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """q [B, T, H, D], k and v [B, T, HK, D], normed and turned, and the gate's logits [B, T, H, D or 1] or None."""
        q, k, v, gate = self._project_unturned(x)
        return *self._turn(q, k, position), v, gate

    def _turn(self, q: Tensor, k: Tensor, position: int, left_padding: Tensor | None = None) -> tuple[Tensor, Tensor]:
        if not self.rope:
            return q, k
        positions = torch.arange(position, position + q.shape[1], device=q.device)
        if left_padding is not None:
            positions = (positions - left_padding[:, None]).clamp(min=0)
        return self.rope(q, positions), self.rope(k, positions)

    def _project_unturned(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        q = self.q_proj(x).unflatten(-1, (self.n_heads, -1))
        q, gate = q.split([self.head_dim, self.gate_dim], -1)
        k, v = self.k_proj(x), self.v_proj(x).unflatten(-1, (self.n_kv_heads, -1))
        if self.qk_norm == "full":
            q, k = self.q_norm(q.flatten(2)).unflatten(-1, (self.n_heads, -1)), self.k_norm(k)
        k = k.unflatten(-1, (self.n_kv_heads, -1))
        if self.qk_norm == "head":
            q, k = self.q_norm(q), self.k_norm(k)
        return q, k, v, gate if self.gate_dim else None

    def _two_distances(self, bare: Tensor, q: Tensor, k: Tensor, begin: int) -> tuple[Tensor, Tensor]:
        """q and k of twice the width: a key is met by the half of q that was turned for its kind, near or first."""
        positions = torch.arange(begin, begin + q.shape[1], device=q.device)
        in_cache = positions.clamp(max=self.window + self.keep_first - 1)  # where the query stands among what is kept
        first = (torch.arange(k.shape[1], device=k.device) < self.keep_first)[:, None, None]
        keys = torch.cat([k.masked_fill(first, 0), k.masked_fill(~first, 0)], -1)
        return torch.cat([q, self.rope(bare, in_cache)], -1), keys

    def _evict(self, kept: Tensor) -> Tensor:
        """The first keep_first tokens and the last window - 1; a copy, so that what is forgotten can be freed."""
        if self.window is None or kept.shape[1] <= self.keep_first + self.window - 1:
            return kept
        last = kept[:, kept.shape[1] - (self.window - 1) :]
        return torch.cat([kept[:, : self.keep_first], last], 1)


class FullMixer(SoftmaxMixer):
    """full_attention: every token is kept."""

    kind, short = "full_attention", "softmax"

    def window(self, config: Sizes) -> int | None:
        """Tokens in sight of a query, its own among them; None: all before it."""
        return None

    def build(self, config: Sizes, layer: int) -> Attention:
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
            window=self.window(config),
            bias=config.attention_bias,
            norm_eps=config.rms_norm_eps,
            zero_centered_norm=config.zero_centered_norm,
        )

    def kept_tokens(self, config: Sizes, tokens: int) -> int:
        """Tokens whose keys and values the next query may need."""
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
        _, k, v, _ = layer.project(h, seen)
        return KVState(before.everything(k), before.everything(v), seen)

    def look(self, layer: Attention, h: Tensor) -> tuple[Tensor, Tensor]:
        """The probabilities of attention, before any output gate."""
        q, k, v, _ = layer.project(h, 0)
        options = {"window": layer.window, "keep_first": layer.keep_first, "sinks": layer.sinks}
        return softmax_attention(q, k, v, **options, return_weights=True)[1], v


class SlidingMixer(FullMixer):
    """sliding_attention: the last sliding_window tokens."""

    kind, short = "sliding_attention", "window"
    grows = False
    needs = ("sliding_window",)

    def window(self, config: Sizes) -> int | None:
        return config.sliding_window

    def bends(self, config: Sizes) -> tuple[int, ...]:
        return (config.sliding_window - 1,)

    def state_before(self, layer: Attention, h: Tensor, before: TextBefore) -> KVState:
        raise ValueError(f"layer: a {type(layer).__name__} with a window can't be read in stretches")
