"""The hybrid language model: embed, blocks of mixer and MLP, norm, head."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from reference.cache import Cache
from reference.config import HybridConfig
from reference.layers.attention import Attention
from reference.layers.gated_deltanet import GatedDeltaNet, KimiDeltaAttention
from reference.layers.lightning import LightningAttention
from reference.layers.mlp import MixtureOfExperts, SwiGLU
from reference.layers.norm import RMSNorm
from reference.layers.projection import Projection
from reference.ops._shapes import check_cu_seqlens


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


class HybridLM(nn.Module):
    """model(ids [B, T]) -> logits [B, T, vocab_size]; model(ids, cache=cache) continues what the cache has seen.

    cu_seqlens [0, ..., T] packs several texts into B = 1: each is read as if alone. left_padding [B] makes
    texts of different lengths one batch: so many ids at the start of each row are no tokens, their logits mean nothing.
    A cache remembers it: give it with the first call.

    Weights start normal with standard deviation initializer_range, but for decays, norms and experts, which
    say in their layers where their start comes from.
    """

    def __init__(self, config: HybridConfig):
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Block(config, n) for n in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, eps=config.rms_norm_eps, zero_centered=config.zero_centered_norm)
        self.lm_head = Projection(config.hidden_size, config.vocab_size, bias=False)
        self.apply(self._initialize)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.embed_tokens.weight

    def _initialize(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=self.config.initializer_range)
            if getattr(module, "bias", None) is not None:
                nn.init.zeros_(module.bias)

    def forward(
        self,
        ids: Tensor,
        *,
        cache: Cache | None = None,
        cu_seqlens: Tensor | None = None,
        left_padding: Tensor | None = None,
    ) -> Tensor:
        self._check(ids, cache)
        rows = self._rows(ids, cache, cu_seqlens, left_padding)
        x = self.embed_tokens(ids)
        states = [None] * len(self.layers) if cache is None else cache.states
        after = []
        for layer, state in zip(self.layers, states, strict=True):
            x, state = layer(x, state, rows)
            after.append(state)
        if cache is not None:  # only now: an error inside leaves the cache as it was
            cache.states, cache.seen, cache.left_padding = after, cache.seen + ids.shape[1], rows.left_padding
        return self.lm_head(self.norm(x))

    def _rows(self, ids, cache, cu_seqlens, left_padding) -> Rows:
        if cu_seqlens is not None:
            if cache is not None or left_padding is not None:
                raise ValueError("cu_seqlens: packed texts take no cache and no left_padding")
            check_cu_seqlens(cu_seqlens, {"B": ids.shape[0], "T": ids.shape[1]})
            return Rows(cu_seqlens=cu_seqlens)
        begin = 0 if cache is None else cache.seen
        if left_padding is not None:
            if begin:
                raise ValueError("left_padding: give it with the first tokens of a cache, not later")
            _check_left_padding(left_padding, ids)
        elif cache is not None:
            left_padding = cache.left_padding
        if left_padding is None:
            return NO_ROWS
        slots = torch.arange(begin, begin + ids.shape[1], device=ids.device)
        return Rows(left_padding=left_padding, is_token=slots >= left_padding[:, None])

    def _check(self, ids: Tensor, cache: Cache | None) -> None:
        if not isinstance(ids, Tensor) or ids.dtype not in (torch.int32, torch.int64) or ids.dim() != 2:
            raise TypeError("ids: expected an int32 or int64 tensor [B, T]")
        if ids.numel() == 0:
            raise ValueError(f"ids: expected at least one token, got shape {list(ids.shape)}")
        if cache is not None and cache.batch_size != ids.shape[0]:
            raise ValueError(f"cache: holds {cache.batch_size} row(s), ids has {ids.shape[0]}")
        if not torch.compiler.is_compiling():
            low, high = ids.min().item(), ids.max().item()
            if low < 0 or high >= self.config.vocab_size:
                raise ValueError(
                    f"ids: expected 0 to vocab_size - 1 = {self.config.vocab_size - 1}, got {low} to {high}"
                )


def _check_left_padding(left_padding: object, ids: Tensor) -> None:
    if not isinstance(left_padding, Tensor) or left_padding.dtype not in (torch.int32, torch.int64):
        raise TypeError("left_padding: expected an int32 or int64 tensor [B]")
    if list(left_padding.shape) != [ids.shape[0]]:
        raise ValueError(f"left_padding: expected [B] = [{ids.shape[0]}], got {list(left_padding.shape)}")
    if torch.compiler.is_compiling():
        return
    low, high = left_padding.min().item(), left_padding.max().item()
    if low < 0 or high >= ids.shape[1]:
        raise ValueError(f"left_padding: expected 0 to T - 1 = {ids.shape[1] - 1}, got {low} to {high}")
