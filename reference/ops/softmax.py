"""Softmax attention: the explicit form, which can show its weights, and PyTorch's fused one where that can serve."""

import torch
from torch import Tensor
from torch.nn import functional as F

from reference.arguments import check_count, check_positive_int, cut_short
from reference.dtypes import inner_dtype, one_dtype
from reference.ops._recurrent import repeat_heads
from reference.ops.shapes import check_device, check_left_padding, check_scale, check_shapes


def softmax_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    causal: bool = True,
    scale: float | None = None,
    window: int | None = None,
    keep_first: int = 0,
    sinks: Tensor | None = None,
    left_padding: Tensor | None = None,
    return_weights: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """o_t = Σ_s p_ts v_s with p_ts = e^{scale q_t·k_s} / (e^{sink} + Σ_s' e^{scale q_t·k_s'}).

    q               [B, T, H, D]
    k, v            [B, S, HK, D], [B, S, HK, Dv], H a multiple of HK (grouped queries: each key head serves H / HK
                    neighbouring query heads)
    causal          the queries are the last T of S >= T tokens, so that a cache can come before them
    scale           factor of the scores; None means D**-0.5
    window          each query sees its own token and the window - 1 before it (and after it, if not causal)
    keep_first      tokens at the start that stay in sight of every window (StreamingLLM)
    sinks           [H], one logit per query head that takes part in the normalizer and has no value; None means
                    there is none (e^{sink} = 0)
    left_padding    [B] whole numbers: how many of row b's first keys are padding, which no token sees; the outputs
                    of padding mean nothing
    return_weights  short for (softmax_attention(...), attention_weights(...)), computed once

    Returns o [B, T, H, Dv] in v's dtype, or (o, p [B, H, T, S]) with return_weights. PyTorch's fused kernel is used
    unless sinks or weights are asked for: then, or with a window, T x S scores or their mask are held in memory.
    Raises TypeError or ValueError that names the argument.
    Source: Vaswani et al. 2017, eq. 1; grouped queries Ainslie et al. 2023; keep_first Xiao et al. 2024; sinks gpt-oss.
    """
    limits = {"causal": causal, "window": window, "keep_first": keep_first, "left_padding": left_padding}
    sizes, scale = _check(q, k, v, sinks, scale, **limits)
    T, S, kept, (q, k, v) = sizes["T"], sizes["S"], v.dtype, one_dtype(q, k, v)
    if sinks is not None or return_weights:
        p = _weights(q, k, _mask(T, S, **limits, device=q.device), scale, sinks)
        o = torch.einsum("bhts,bshd->bthd", p, repeat_heads(v, sizes["H"]).to(p.dtype)).to(kept)
        return (o, p) if return_weights else o
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    plain = causal and T == S and window is None and left_padding is None
    all_seen = (window is None or window >= S) and (not causal or T == 1) and left_padding is None  # a decoding step
    mask = None if plain or all_seen else _mask(T, S, **limits, device=q.device)
    grouped = sizes["H"] != sizes["HK"]
    o = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=plain, scale=scale, enable_gqa=grouped)
    return o.transpose(1, 2).to(kept)


def attention_weights(
    q: Tensor,
    k: Tensor,
    *,
    causal: bool = True,
    scale: float | None = None,
    window: int | None = None,
    keep_first: int = 0,
    sinks: Tensor | None = None,
    left_padding: Tensor | None = None,
) -> Tensor:
    """p_ts of softmax_attention: how much of value s is in what query t reads.

    Arguments and errors are softmax_attention's. Returns p [B, H, T, S] in float32, or in float64 for float64 inputs;
    its rows sum to 1, with sinks to less. Source: Vaswani et al. 2017, eq. 1.
    """
    limits = {"causal": causal, "window": window, "keep_first": keep_first, "left_padding": left_padding}
    sizes, scale = _check(q, k, k, sinks, scale, **limits)
    return _weights(q, k, _mask(sizes["T"], sizes["S"], **limits, device=q.device), scale, sinks)


def _check(
    q, k, v, sinks, scale: float | None, causal: bool, window: int | None, keep_first: int, left_padding: Tensor | None
) -> tuple[dict[str, int], float]:
    """The sizes of the axes, and the scale; TypeError or ValueError that names the argument."""
    arguments = {"q": (q, "B T H D"), "k": (k, "B S HK D"), "v": (v, "B S HK Dv"), "sinks": (sinks, "H")}
    sizes = check_shapes(arguments, optional=("sinks",))
    check_device(q=q, k=k, v=v, sinks=sinks)
    if not isinstance(causal, bool):
        raise TypeError(f"causal: expected True or False, got {cut_short(causal)}")
    if sizes["H"] % sizes["HK"]:
        raise ValueError(f"q: the number of heads must be a multiple of k's {sizes['HK']}, got {sizes['H']}")
    if (causal or window is not None) and sizes["S"] < sizes["T"]:
        kind = "causal attention" if causal else "a window"
        raise ValueError(f"k: {kind} needs at least q's {sizes['T']} tokens, got {sizes['S']}")
    if window is not None:
        check_positive_int("window", window)
    check_count("keep_first", keep_first)
    check_left_padding(left_padding, sizes["B"], sizes["S"], q.device)
    return sizes, check_scale(scale, sizes["D"])


def visible(
    T: int, S: int, *, causal: bool, window: int | None, keep_first: int = 0, device: torch.device | str
) -> Tensor:
    """Which of S tokens each of the last T sees: [T, S], True where a query may look."""
    query = torch.arange(S - T, S, device=device)[:, None]
    key = torch.arange(S, device=device)
    seen = torch.ones(T, S, dtype=torch.bool, device=device)
    if window is not None:
        seen = (key > query - window) & (key < query + window) | (key < keep_first)
    return seen & (key <= query) if causal else seen


def _mask(T: int, S: int, *, left_padding: Tensor | None, device: torch.device, **limits) -> Tensor:
    """visible, [T, S], or with padding [B, 1, T, S]: padding sees only itself, so that no row of weights is empty."""
    seen = visible(T, S, **limits, device=device)
    if left_padding is None:
        return seen
    key = torch.arange(S, device=device)
    itself = key == torch.arange(S - T, S, device=device)[:, None]
    return (seen & (key >= left_padding[:, None, None]) | itself)[:, None]


def _weights(q: Tensor, k: Tensor, seen: Tensor, scale: float, sinks: Tensor | None) -> Tensor:
    q, k = one_dtype(q, k)
    dtype = inner_dtype(q)
    scores = scale * torch.einsum("bthd,bshd->bhts", q.to(dtype), repeat_heads(k, q.shape[2]).to(dtype))
    scores = scores.masked_fill(~seen, float("-inf"))
    if sinks is not None:
        column = sinks.to(dtype)[None, :, None, None].expand(*scores.shape[:3], 1)
        scores = torch.cat([scores, column], -1)  # a token that every query sees and that holds nothing
    return scores.softmax(-1)[..., : k.shape[1]]
