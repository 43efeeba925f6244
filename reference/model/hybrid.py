"""The hybrid language model: embed, blocks of mixer and MLP, norm, head."""

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from reference.layers.batch import PLAIN, BatchLayout
from reference.layers.norm import RMSNorm
from reference.layers.projection import Projection
from reference.model.block import Block
from reference.model.cache import Cache
from reference.model.config import HybridConfig
from reference.ops.shapes import check_cu_seqlens


class MultiTokenHead(nn.Module):
    """From the model's last features at t and the embedding of token t+1 to features that predict token t+2.

    One block of softmax attention behind a projection of the two, each normed, side by side.
    forward(x, embedded [B, T, hidden_size], layout=PLAIN) -> [B, T, hidden_size], for the model's own lm_head. x is
    what lm_head reads, behind the last norm: Qwen3-Next's head was trained so (vLLM's qwen3_next_mtp), DeepSeek's
    reads the features before that norm. `step` continues behind a state, as drafts do.
    Source: DeepSeek-V3 section 2.2; names and order (embedding first) as in Qwen3-Next's checkpoints, `mtp.*`.
    """

    def __init__(self, config: HybridConfig):
        super().__init__()
        norm = {"eps": config.rms_norm_eps, "zero_centered": config.zero_centered_norm}
        self.pre_fc_norm_embedding = RMSNorm(config.hidden_size, **norm)
        self.pre_fc_norm_hidden = RMSNorm(config.hidden_size, **norm)
        self.fc = Projection(2 * config.hidden_size, config.hidden_size, bias=False)
        self.layers = nn.ModuleList([Block(config.with_layers(("full_attention",)), 0)])
        self.norm = RMSNorm(config.hidden_size, **norm)

    def forward(self, x: Tensor, embedded: Tensor, layout: BatchLayout = PLAIN) -> Tensor:
        return self.step(x, embedded, None, layout)[0]

    def step(self, x: Tensor, embedded: Tensor, state: object, layout: BatchLayout = PLAIN) -> tuple[Tensor, object]:
        """The features for the tokens of x, behind those that the state has read, and the state behind them."""
        both = torch.cat([self.pre_fc_norm_embedding(embedded), self.pre_fc_norm_hidden(x)], -1)
        x, state = self.layers[0](self.fc(both), state, layout)
        return self.norm(x), state


class HybridLM(nn.Module):
    """model(ids [B, T]) -> logits [B, T, vocab_size].

    ids           int32 or int64, 0 to vocab_size - 1
    cache         what the model has read before ids, from new_cache; filled with ids by the call
    cu_seqlens    [0, ..., T]: boundaries of the texts packed into B = 1, each of which is read by itself; no cache
    left_padding  [B], so many ids at the start of each row are padding, whose logits mean nothing: texts of different
                  lengths in one batch. With a cache, give left_padding with the first call; the cache keeps it

    Weights start normal with standard deviation initializer_range, except those of decays, norms and experts, whose
    layers say where they start. Raises TypeError or ValueError that names the argument.
    """

    def __init__(self, config: HybridConfig):
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Block(config, n) for n in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, eps=config.rms_norm_eps, zero_centered=config.zero_centered_norm)
        self.lm_head = Projection(config.hidden_size, config.vocab_size, bias=False)
        self.mtp = MultiTokenHead(config) if config.num_nextn_predict_layers else None
        self.recompute = False  # activation checkpointing: blocks keep only their input and run again in the backward
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
        return self.read_out(self.features(ids, cache=cache, cu_seqlens=cu_seqlens, left_padding=left_padding))

    def features(
        self,
        ids: Tensor,
        *,
        cache: Cache | None = None,
        cu_seqlens: Tensor | None = None,
        left_padding: Tensor | None = None,
    ) -> Tensor:
        """What lm_head reads of each token, [B, T, hidden_size]; arguments and errors as in the model's call."""
        self._check(ids, cache)
        return self._features(ids, cache, self._layout(ids, cache, cu_seqlens, left_padding))

    def predict_ahead(
        self, ids: Tensor, *, cu_seqlens: Tensor | None = None, left_padding: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The logits of model(ids) and those of the token after the next, both [B, T, vocab_size], the latter by the
        multi-token-prediction head: at the last token of a text they mean nothing. Raises ValueError if the model has
        no such head."""
        if self.mtp is None:
            raise ValueError("predict_ahead: needs num_nextn_predict_layers = 1")
        self._check(ids, None)
        layout = self._layout(ids, None, cu_seqlens, left_padding)
        x = self._features(ids, None, layout)
        return self.read_out(x), self.read_out(self.mtp(x, self.embed(ids.roll(-1, 1)), layout))

    def embed(self, ids: Tensor) -> Tensor:
        """What the first block reads: [B, T, hidden_size]."""
        x, factor = self.embed_tokens(ids), self.config.embedding_multiplier
        return x if factor == 1 else factor * x

    def read_out(self, x: Tensor) -> Tensor:
        """Logits [B, T, vocab_size] of what lm_head reads, behind the last norm."""
        logits, divisor, cap = self.lm_head(x), self.config.logits_scaling, self.config.logits_soft_cap
        logits = logits if divisor == 1 else logits / divisor
        return logits if cap is None else cap * torch.tanh(logits / cap)

    def _features(self, ids: Tensor, cache: Cache | None, layout: BatchLayout) -> Tensor:
        """What lm_head reads, [B, T, hidden_size]; the cache is filled."""
        x = self.embed(ids)
        states = [None] * len(self.layers) if cache is None else cache.states
        after = []
        for layer, state in zip(self.layers, states, strict=True):
            if self.recompute and torch.is_grad_enabled() and cache is None:
                x, state = checkpoint(layer, x, state, layout, use_reentrant=False)
            else:
                x, state = layer(x, state, layout)
            after.append(state)
        if cache is not None:  # only now: an error inside leaves the cache as it was
            cache.states, cache.seen, cache.left_padding = after, cache.seen + ids.shape[1], layout.left_padding
            cache.unread = None
        return self.norm(x)

    def _layout(
        self, ids: Tensor, cache: Cache | None, cu_seqlens: Tensor | None, left_padding: Tensor | None
    ) -> BatchLayout:
        if cu_seqlens is not None:
            if cache is not None or left_padding is not None:
                raise ValueError("cu_seqlens: packed texts take no cache and no left_padding")
            check_cu_seqlens(cu_seqlens, {"B": ids.shape[0], "T": ids.shape[1]})
            return BatchLayout(cu_seqlens=cu_seqlens)
        begin = 0 if cache is None else cache.seen
        if left_padding is not None:
            if begin:
                raise ValueError("left_padding: give it with the first tokens of a cache, not later")
            _check_left_padding(left_padding, ids)
        elif cache is not None:
            left_padding = cache.left_padding
        layout = PLAIN if left_padding is None else BatchLayout.padded(left_padding, begin, ids.shape[1])
        return layout if cache is None else layout._replace(rewind=cache.rewindable)

    def _check(self, ids: Tensor, cache: Cache | None) -> None:
        if not isinstance(ids, Tensor) or ids.dtype not in (torch.int32, torch.int64) or ids.dim() != 2:
            raise TypeError("ids: expected an int32 or int64 tensor [B, T]")
        if ids.numel() == 0:
            raise ValueError(f"ids: expected at least one token, got shape {list(ids.shape)}")
        if cache is not None and cache.batch_size != ids.shape[0]:
            raise ValueError(f"cache: holds {cache.batch_size} row(s), ids has {ids.shape[0]}")
        if cache is not None and cache.rewindable and torch.is_grad_enabled():
            raise ValueError("cache: one that can be rewound takes no gradients; call the model under torch.no_grad()")
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


class BothHeads(nn.Module):
    """model.predict_ahead as a module's call: what wraps a module for training wraps only that.

    forward(ids, cu_seqlens=None) -> as HybridLM.predict_ahead.
    """

    def __init__(self, model: HybridLM):
        super().__init__()
        self.model, self.config = model, model.config

    @property
    def layers(self) -> nn.ModuleList:
        """The model's blocks."""
        return self.model.layers

    def forward(self, ids: Tensor, *, cu_seqlens: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.model.predict_ahead(ids, cu_seqlens=cu_seqlens)
