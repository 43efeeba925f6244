"""Multi-head latent attention, and DeepSeek's sparse attention on top of it."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from reference.arguments import check_count, check_positive_int
from reference.layers.batch import PLAIN, BatchLayout, read_packed
from reference.layers.indexer import Indexer
from reference.layers.mixer import Draw, Sizes, SoftmaxMixer
from reference.layers.norm import RMSNorm
from reference.layers.rope import RopeScaling, Rotary
from reference.ops.softmax import softmax_attention
from reference.ops.sparse import lightning_indexer, sparse_attention


class LatentState(NamedTuple):
    """What a latent layer remembers of each token: far less than its heads' keys and values."""

    latent: Tensor  # [B, S, kv_rank], normed
    k_rope: Tensor  # [B, S, rope_dim], turned already, one for all heads
    k_idx: Tensor | None  # [B, S, index_dim], the indexer's key, turned already; None without an indexer
    seen: int  # tokens since the start


class LatentAttention(nn.Module):
    """MLA: all heads' keys and values are computed from one small vector per token, and only that is cached.

    d_model       channels of x and y
    n_heads       heads
    kv_rank       width of the cached latent
    nope_dim      channels per head that carry content
    v_dim         channels of a value
    rope_dim      channels per head that carry the position, with one rotary key for all heads; 0: none
    q_rank        width of the query latent; None: queries are projected directly
    rope_theta    base of the rotary frequencies
    rope_scaling  frequencies for texts longer than those of pretraining
    rotate        False: the rope_dim channels are there and don't turn (Kimi Linear)
    bias          biases in the projections to the latents and in o_proj
    gate          whether a sigmoid of x, one per head, scales what the head has read (Ling 3.0)
    top_k         tokens that each query reads, chosen by an indexer (DeepSeek's sparse attention), which needs q_rank;
                  None: all of them
    index_heads   heads of the indexer
    index_dim     channels per head of the indexer
    keep_first    tokens at the start of the text that are always among the chosen
    norm_eps      eps of the latents' norms: in the models that ship 1e-6, whatever their config says of other norms

    forward(x [B, T, d_model], state=None, layout=PLAIN) -> (y [B, T, d_model], LatentState). Packed texts take no
    state and return None. Outputs at padding mean nothing. A dense prompt has its keys and values written out; a dense
    step of one token, and every sparse read, works on the latents (the multi-query form, (5.15)): same numbers, less
    to read. The indexer gets no gradient from y: see indexer_loss.
    Parameter names are those of transformers' deepseek_v32. Raises ValueError that names the argument.
    Source: DeepSeek-V2, section 2.1; DeepSeek-V3.2, section 2.1.
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        *,
        kv_rank: int,
        nope_dim: int,
        v_dim: int,
        rope_dim: int = 0,
        q_rank: int | None = None,
        rope_theta: float = 10_000.0,
        rope_scaling: RopeScaling | None = None,
        rotate: bool = True,
        bias: bool = False,
        gate: bool = False,
        top_k: int | None = None,
        index_heads: int = 0,
        index_dim: int = 0,
        keep_first: int = 0,
        norm_eps: float = 1e-6,
    ):
        super().__init__()
        sizes = {"d_model": d_model, "n_heads": n_heads, "kv_rank": kv_rank, "nope_dim": nope_dim, "v_dim": v_dim}
        if q_rank is not None:
            sizes["q_rank"] = q_rank
        if top_k is not None:
            sizes |= {"top_k": top_k, "index_heads": index_heads, "index_dim": index_dim}
            _check_indexer(q_rank, rope_dim, index_dim, top_k, keep_first)
        for name, value in sizes.items():
            check_positive_int(name, value)
        self.n_heads, self.kv_rank, self.q_rank = n_heads, kv_rank, q_rank
        self.nope_dim, self.rope_dim, self.v_dim = nope_dim, rope_dim, v_dim
        self.top_k, self.keep_first = top_k, keep_first
        width = nope_dim + rope_dim
        self.scale = width**-0.5
        if rotate and rope_scaling is not None:
            self.scale *= rope_scaling.temperature
        if q_rank is None:
            self.q_proj = nn.Linear(d_model, n_heads * width, bias=False)
        else:
            self.q_a_proj = nn.Linear(d_model, q_rank, bias=bias)
            self.q_a_layernorm = RMSNorm(q_rank, eps=norm_eps)
            self.q_b_proj = nn.Linear(q_rank, n_heads * width, bias=False)
        self.kv_a_proj_with_mqa = nn.Linear(d_model, kv_rank + rope_dim, bias=bias)
        self.kv_a_layernorm = RMSNorm(kv_rank, eps=norm_eps)
        self.kv_b_proj = nn.Linear(kv_rank, n_heads * (nope_dim + v_dim), bias=False)
        self.o_proj = nn.Linear(n_heads * v_dim, d_model, bias=bias)
        self.g_proj = nn.Linear(d_model, n_heads, bias=False) if gate else None
        self.rope, self.indexer = None, None
        self.sharpens = rotate and rope_scaling is not None and rope_scaling.llama_4_scaling_beta is not None
        if rotate and rope_dim:
            self.rope = Rotary(rope_dim, rope_theta, interleaved=True, scaling=rope_scaling)
        if top_k is not None:
            self.indexer = Indexer(d_model, q_rank, index_heads, index_dim, rope_dim, rope_theta, rope_scaling)

    def forward(
        self, x: Tensor, state: LatentState | None = None, layout: BatchLayout = PLAIN
    ) -> tuple[Tensor, LatentState | None]:
        if layout.cu_seqlens is not None:
            return read_packed(self, x, layout.cu_seqlens), None
        begin = 0 if state is None else state.seen
        positions = layout.positions(begin, x)
        q_nope, q_rope, q_latent = self._queries(x, positions)
        latent, k_rope = self._latents(x, positions)
        q_idx, k_idx, w_idx = (None,) * 3 if self.indexer is None else self.indexer(x, q_latent, positions)
        if state is not None:
            latent, k_rope = torch.cat([state.latent, latent], 1), torch.cat([state.k_rope, k_rope], 1)
            k_idx = None if k_idx is None else torch.cat([state.k_idx, k_idx], 1)
        after = LatentState(latent, k_rope, k_idx, begin + x.shape[1])
        padding = layout.left_padding
        if k_idx is not None and after.seen > self.top_k:  # below, nothing is left out
            limits = {"top_k": self.top_k, "keep_first": self.keep_first, "left_padding": padding}
            o = self._on_latents(q_nope, q_rope, after, chosen=lightning_indexer(q_idx, k_idx, w_idx, **limits))
        elif x.shape[1] == 1:
            o = self._on_latents(q_nope, q_rope, after, left_padding=padding)
        else:
            o = self._written_out(q_nope, q_rope, after, left_padding=padding)
        if self.g_proj is not None:
            o = o * self.g_proj(x).sigmoid()[..., None]
        return self.o_proj(o.flatten(2)), after

    def _queries(self, x: Tensor, positions: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Content and rotary channels of the queries, [B, T, H, nope_dim] and [B, T, H, rope_dim], and their latent."""
        q_latent = None if self.q_rank is None else self.q_a_layernorm(self.q_a_proj(x))
        q = self.q_proj(x) if q_latent is None else self.q_b_proj(q_latent)
        q_nope, q_rope = q.unflatten(-1, (self.n_heads, -1)).split([self.nope_dim, self.rope_dim], -1)
        q_rope = self.rope(q_rope, positions) if self.rope else q_rope
        if self.sharpens:
            by = self.rope.scaling.sharpening(positions)[..., None, None].to(q_nope.dtype)
            q_nope, q_rope = by * q_nope, by * q_rope
        return q_nope, q_rope, q_latent

    def _latents(self, x: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """What is cached of each token: the latent [B, T, kv_rank] and the rotary key [B, T, rope_dim]."""
        latent, k_rope = self.kv_a_proj_with_mqa(x).split([self.kv_rank, self.rope_dim], -1)
        if self.rope:
            k_rope = self.rope(k_rope[:, :, None], positions)[:, :, 0]
        return self.kv_a_layernorm(latent), k_rope

    def _written_out(self, q_nope: Tensor, q_rope: Tensor, state: LatentState, left_padding: Tensor | None) -> Tensor:
        """Every head's own keys and values, then ordinary attention: (5.14)."""
        kv = self.kv_b_proj(state.latent).unflatten(-1, (self.n_heads, -1))
        k_nope, v = kv.split([self.nope_dim, self.v_dim], -1)
        k = torch.cat([k_nope, state.k_rope[:, :, None].expand(-1, -1, self.n_heads, -1)], -1)
        q = torch.cat([q_nope, q_rope], -1)
        return softmax_attention(q, k, v, scale=self.scale, left_padding=left_padding)

    def _on_latents(
        self,
        q_nope: Tensor,
        q_rope: Tensor,
        state: LatentState,
        *,
        chosen: Tensor | None = None,
        left_padding: Tensor | None = None,
    ) -> Tensor:
        """The matrices change sides: one key and one value, the latent, for all heads: (5.15). chosen: the tokens that
        each query reads, padding left out already."""
        weight = self.kv_b_proj.weight.unflatten(0, (self.n_heads, -1))  # [H, nope + v, rank]
        to_key, to_value = weight.split([self.nope_dim, self.v_dim], 1)
        q = torch.cat([torch.einsum("bthd,hdr->bthr", q_nope, to_key), q_rope], -1)
        k, v = torch.cat([state.latent, state.k_rope], -1)[:, :, None], state.latent[:, :, None]
        if chosen is None:
            o = softmax_attention(q, k, v, scale=self.scale, left_padding=left_padding)
        else:
            o = sparse_attention(q, k, v, chosen, scale=self.scale)
        return torch.einsum("bthr,hdr->bthd", o, to_value)


def _check_indexer(q_rank: int | None, rope_dim: int, index_dim: int, top_k: int, keep_first: int) -> None:
    """Raises ValueError that names what an indexer can't work with."""
    check_count("keep_first", keep_first, most=top_k)
    if q_rank is None:
        raise ValueError("q_rank: the indexer needs the query latent, got None")
    if not 2 <= rope_dim <= index_dim:
        raise ValueError(f"rope_dim: expected 2 to index_dim = {index_dim} with an indexer, got {rope_dim}")


class LatentMixer(SoftmaxMixer):
    """latent_attention: MLA, softmax attention whose keys and values come from one small vector per token."""

    kind, short = "latent_attention", "MLA"
    needs = ("num_attention_heads", "kv_lora_rank", "qk_nope_head_dim", "v_head_dim")

    def build(self, config: Sizes, index: int) -> LatentAttention:
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
            gate=config.latent_gate,
            **self.index(config),
        )

    def index(self, config: Sizes) -> dict[str, int]:
        """LatentAttention's arguments for an indexer; none."""
        return {}

    def cache_bytes(self, config: Sizes, tokens: int, element_bytes: int) -> int:
        """The latent and the rotary key of every token."""
        return (config.kv_lora_rank + config.qk_rope_head_dim) * tokens * element_bytes

    def flops(self, config: Sizes, position: int, *, chunked: bool) -> float:
        """Keys and values written out in prefill (chunked), on the latents in decoding: the matrices that change sides
        there are projections."""
        return self.reading_flops(config, position + 1, written_out=chunked)

    def reading_flops(self, config: Sizes, tokens: int, *, written_out: bool) -> float:
        """Flops of one query's scores over so many tokens, and of the sum of their values."""
        H, rank, rope = config.num_attention_heads, config.kv_lora_rank, config.qk_rope_head_dim
        if written_out:
            return 2 * H * tokens * (config.qk_nope_head_dim + rope + config.v_head_dim)
        return 2 * H * tokens * (2 * rank + rope)

    def filled_state(self, config: Sizes, tokens: int, draw: Draw) -> LatentState:
        return LatentState(draw(tokens, config.kv_lora_rank), draw(tokens, config.qk_rope_head_dim), None, tokens)

    def operator_step(self, config: Sizes, state: LatentState) -> Callable[[], Tensor]:
        q, k, v = self._random_query(config, state)
        return lambda: softmax_attention(q, k, v)

    def _random_query(self, config: Sizes, state: LatentState) -> tuple[Tensor, Tensor, Tensor]:
        width = config.kv_lora_rank + config.qk_rope_head_dim
        q = torch.randn(state.latent.shape[0], 1, config.num_attention_heads, width)
        k = torch.cat([state.latent, state.k_rope], -1)[:, :, None]  # one memory, of which the values are a part
        return q, k, k[..., : config.kv_lora_rank]


class IndexedMixer(LatentMixer):
    """indexed_attention: MLA that reads the index_topk tokens that its indexer chose (DeepSeek V3.2)."""

    kind, short = "indexed_attention", "sparse MLA"
    needs = (*LatentMixer.needs, "q_lora_rank", "qk_rope_head_dim", "index_topk", "index_n_heads", "index_head_dim")

    def index(self, config: Sizes) -> dict[str, int]:
        """LatentAttention's arguments for an indexer."""
        return {"top_k": config.index_topk, "index_heads": config.index_n_heads, "index_dim": config.index_head_dim}

    def cache_bytes(self, config: Sizes, tokens: int, element_bytes: int) -> int:
        """The latent, the rotary key and the index key of every token."""
        return super().cache_bytes(config, tokens, element_bytes) + config.index_head_dim * tokens * element_bytes

    def flops(self, config: Sizes, position: int, *, chunked: bool) -> float:
        """2 HI (DI + 1) per token for the indexer; attention reads index_topk at most, on the latents as soon as there
        is a choice."""
        seen = position + 1
        indexing = 2 * config.index_n_heads * (config.index_head_dim + 1) * seen
        read = min(seen, config.index_topk)
        return indexing + self.reading_flops(config, read, written_out=chunked and read == seen)

    def bends(self, config: Sizes) -> tuple[int, ...]:
        return config.index_topk - 1, config.index_topk

    def moved_bytes(self, config: Sizes, position: int, element_bytes: int) -> float:
        """All index keys, and the latents of the chosen."""
        seen = position + 1
        held, index = self.cache_bytes(config, seen, element_bytes), config.index_head_dim * seen * element_bytes
        return index + (held - index) * min(seen, config.index_topk) / seen

    def filled_state(self, config: Sizes, tokens: int, draw: Draw) -> LatentState:
        k_idx = draw(tokens, config.index_head_dim)
        return super().filled_state(config, tokens, draw)._replace(k_idx=k_idx)

    def operator_step(self, config: Sizes, state: LatentState) -> Callable[[], Tensor]:
        q, k, v = self._random_query(config, state)
        B, H = q.shape[0], config.index_n_heads
        q_idx, w_idx = torch.randn(B, 1, H, config.index_head_dim), torch.randn(B, 1, H)

        def work() -> Tensor:
            chosen = lightning_indexer(q_idx, state.k_idx, w_idx, top_k=config.index_topk)
            return sparse_attention(q, k, v, chosen)

        return work
