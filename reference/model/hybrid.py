"""The hybrid language model: embed, blocks of mixer and MLP, norm, head."""

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from reference.layers.norm import RMSNorm
from reference.layers.projection import Projection
from reference.model.block import NO_ROWS, Block, Rows
from reference.model.cache import Cache
from reference.model.config import HybridConfig
from reference.ops.shapes import check_cu_seqlens


class MultiTokenHead(nn.Module):
    """From the model's last features at t and the embedding of token t+1 to features that predict token t+2.

    forward(x, embedded [B, T, hidden_size], rows) -> [B, T, hidden_size], for the model's own lm_head. One block of
    softmax attention behind a projection of the two, each normed, side by side. x is what lm_head reads, behind the
    last norm: Qwen3-Next's head was trained so (vLLM's qwen3_next_mtp), DeepSeek's reads it before that norm.
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

    def forward(self, x: Tensor, embedded: Tensor, rows: Rows = NO_ROWS) -> Tensor:
        both = torch.cat([self.pre_fc_norm_embedding(embedded), self.pre_fc_norm_hidden(x)], -1)
        x, _ = self.layers[0](self.fc(both), None, rows)
        return self.norm(x)


class HybridLM(nn.Module):
    """model(ids [B, T]) -> logits [B, T, vocab_size]; model(ids, cache=cache) continues what the cache has seen.

    cu_seqlens [0, ..., T] packs several texts into B = 1: each is read as if alone. left_padding [B] makes
    texts of different lengths one batch: so many ids at the start of each row are no tokens, their logits mean nothing.
    A cache remembers it: give it with the first call. predict_ahead: (logits, logits of the token after the next
    [B, T, vocab_size]) by the multi-token-prediction head; at the last token of a text the second means nothing.

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
        self.mtp = MultiTokenHead(config) if config.num_nextn_predict_layers else None
        self.recompute = False  # blocks keep their input alone and run again on the way back (activation checkpointing)
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
        predict_ahead: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        self._check(ids, cache)
        if predict_ahead and (self.mtp is None or cache is not None):
            raise ValueError("predict_ahead: needs num_nextn_predict_layers = 1, and takes no cache")
        rows = self._rows(ids, cache, cu_seqlens, left_padding)
        x = self.embed_tokens(ids)
        states = [None] * len(self.layers) if cache is None else cache.states
        after = []
        for layer, state in zip(self.layers, states, strict=True):
            if self.recompute and torch.is_grad_enabled() and cache is None:
                x, state = checkpoint(layer, x, state, rows, use_reentrant=False)
            else:
                x, state = layer(x, state, rows)
            after.append(state)
        if cache is not None:  # only now: an error inside leaves the cache as it was
            cache.states, cache.seen, cache.left_padding = after, cache.seen + ids.shape[1], rows.left_padding
            cache.unread = None
        x = self.norm(x)
        logits = self.lm_head(x)
        if not predict_ahead:
            return logits
        return logits, self.lm_head(self.mtp(x, self.embed_tokens(ids.roll(-1, 1)), rows))

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
