"""The causal short convolution that stands before q, k and v in most linear-attention layers."""

from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from reference.ops._layout import inner_dtype
from reference.ops._shapes import check_cu_seqlens, check_same, check_shapes, check_values


def causal_conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    activation: str | None = None,
    initial_state: Tensor | None = None,
    output_final_state: bool = False,
    cu_seqlens: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Each channel mixes its last W tokens: y_t = act(Σ_{i<W} weight[W-1-i] x_{t-i} + bias).

    x [B, T, D]; weight [D, W], its last column meets the newest token (PyTorch's and fla's order); bias [D];
    activation None or "silu". initial_state [B, D, W-1]: the tokens before the first, oldest first; None means
    zeros. cu_seqlens packs sequences into B = 1: a token never sees the sequence before its own, and states
    are [number of sequences, D, W-1]. Works in float32 (float64 for float64).

    Returns (y [B, T, D] in x's dtype, the last W-1 tokens [B, D, W-1] in x's dtype, or None unless
    output_final_state). Raises TypeError or ValueError that names the argument. Source: Qwen3-Next, W = 4, silu.
    """
    sizes = check_shapes({"x": (x, "B T D"), "weight": (weight, "D W"), "bias": (bias, "D")})
    _check_activation(activation)
    bounds = check_cu_seqlens(cu_seqlens, sizes)
    n_states, tail = (sizes["B"] if cu_seqlens is None else len(bounds) - 1), sizes["W"] - 1
    if initial_state is not None:
        _check_tail("initial_state", initial_state, [n_states, sizes["D"], tail])
    check_same("device", x=x, weight=weight, bias=bias, initial_state=initial_state)
    check_values(None, x=x, weight=weight, bias=bias, initial_state=initial_state)
    before = x.new_zeros(n_states, sizes["D"], tail) if initial_state is None else initial_state.to(x.dtype)
    outputs, tails = [], []
    for n, (start, stop) in enumerate(pairwise(bounds)):
        own = before if len(bounds) == 2 else before[n : n + 1]
        seen = torch.cat([own, x[:, start:stop].mT], -1)  # [B, D, W-1 + T]
        outputs.append(_mix(seen, weight, bias, activation))
        tails.append(seen[..., seen.shape[-1] - tail :])
    y = torch.cat(outputs, 1).to(x.dtype)
    return y, torch.cat(tails).contiguous() if output_final_state else None


def _mix(seen: Tensor, weight: Tensor, bias: Tensor | None, activation: str | None) -> Tensor:
    dtype = inner_dtype(seen)
    bias = None if bias is None else bias.to(dtype)
    y = F.conv1d(seen.to(dtype), weight.to(dtype)[:, None], bias, groups=weight.shape[0]).mT  # [B, T, D]
    return F.silu(y) if activation == "silu" else y


@torch.no_grad()
def causal_conv_step(
    x: Tensor, weight: Tensor, bias: Tensor | None, state: Tensor, *, activation: str | None = None
) -> Tensor:
    """One token x [B, D] of decoding; `state` [B, D, W-1] moves on by one token in place. Returns y [B, D]."""
    check_shapes({"x": (x, "B D"), "weight": (weight, "D W"), "bias": (bias, "D")})
    _check_tail("state", state, [x.shape[0], weight.shape[0], weight.shape[1] - 1])
    check_same("device", x=x, weight=weight, bias=bias, state=state)
    _check_activation(activation)
    seen = torch.cat([state, x[..., None].to(state.dtype)], -1)  # [B, D, W]
    state.copy_(seen[..., 1:])
    dtype = inner_dtype(x)
    y = (seen.to(dtype) * weight.to(dtype)).sum(-1)
    y = y if bias is None else y + bias.to(dtype)
    return (F.silu(y) if activation == "silu" else y).to(x.dtype)


def _check_activation(activation: str | None) -> None:
    if activation not in (None, "silu"):
        raise ValueError(f"activation: expected None or 'silu', got {activation!r}")


def _check_tail(name: str, tail: object, wanted: list[int]) -> None:
    if not isinstance(tail, Tensor) or not tail.is_floating_point():
        what = tail.dtype if isinstance(tail, Tensor) else type(tail).__name__
        raise TypeError(f"{name}: expected a floating tensor, got {what}")
    if list(tail.shape) != wanted:
        raise ValueError(f"{name}: expected [B, D, W-1] = {wanted}, got {list(tail.shape)}")
