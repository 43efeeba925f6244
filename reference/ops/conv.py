"""The causal short convolution that stands before q, k and v in most linear-attention layers."""

from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from reference.derivatives import NO_JVP, TWICE, BackwardByHand, for_torch_func, is_differentiated, refuse_transforms
from reference.dtypes import inner_dtype
from reference.ops._pieces import chunk_spans
from reference.ops.shapes import check_cu_seqlens, check_device, check_shapes, check_values

# Tokens that are worked on at a time: of some thousand channels they stay in the cache.
CONV_BLOCK = 128


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
    sizes = check_shapes({"x": (x, "B T D"), "weight": (weight, "D W"), "bias": (bias, "D")}, optional=("bias",))
    _check_activation(activation)
    bounds = check_cu_seqlens(cu_seqlens, sizes)
    n_states, tail = (sizes["B"] if cu_seqlens is None else len(bounds) - 1), sizes["W"] - 1
    if initial_state is not None:
        _check_tail("initial_state", initial_state, [n_states, sizes["D"], tail])
    check_device(x=x, weight=weight, bias=bias, initial_state=initial_state)
    check_values(None, x=x, weight=weight, bias=bias, initial_state=initial_state)
    before = x.new_zeros(n_states, sizes["D"], tail) if initial_state is None else initial_state.to(x.dtype)
    tensors = (x, weight, bias, before)
    scan = _convolution if is_differentiated(*tensors) else _convolve
    outputs, tails = [], []
    for n, (start, stop) in enumerate(pairwise(bounds)):
        own = before if len(bounds) == 2 else before[n : n + 1]
        outputs.append(scan(x[:, start:stop], own, weight, bias, activation))
        if output_final_state:
            last = torch.cat([own, x[:, max(start, stop - tail) : stop].mT], -1)
            tails.append(last[..., last.shape[-1] - tail :])
    y = outputs[0] if len(outputs) == 1 else torch.cat(outputs, 1)
    return y, torch.cat(tails) if output_final_state else None


def _convolve(x: Tensor, before: Tensor, weight: Tensor, bias: Tensor | None, activation: str | None) -> Tensor:
    dtype, y = inner_dtype(x), torch.empty_like(x, memory_format=torch.contiguous_format)
    taps, bias = weight.to(dtype).t().contiguous(), None if bias is None else bias.to(dtype)
    for time in chunk_spans(x.shape[1], CONV_BLOCK):
        mixed = _mix(_seen(x, before, time, dtype), taps, bias)
        y[:, time] = F.silu(mixed, inplace=True) if activation == "silu" else mixed
    return y


def _seen(x: Tensor, before: Tensor, time: slice, dtype: torch.dtype) -> Tensor:
    """The tokens of one block and the W-1 before it: [B, W-1 + C, D]."""
    tail = before.shape[-1]
    if time.start >= tail:
        return x[:, time.start - tail : time.stop].to(dtype)
    return torch.cat([before.mT, x[:, : time.stop]], 1)[:, time.start :].to(dtype)


def _mix(seen: Tensor, taps: Tensor, bias: Tensor | None) -> Tensor:
    W = taps.shape[0]
    C = seen.shape[1] - W + 1
    y = seen[:, W - 1 :] * taps[-1]
    for i in range(W - 1):
        y.addcmul_(seen[:, i : i + C], taps[i])
    return y if bias is None else y.add_(bias)


class _Convolution(torch.autograd.Function):
    """Block by block, so that one block stays in the processor's cache; y before silu is computed again."""

    @staticmethod
    def forward(x, before, weight, bias, activation):
        return _convolve(x, before, weight, bias, activation)

    @staticmethod
    def setup_context(ctx, inputs, output):
        *tensors, ctx.activation = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx, dy):
        find = _ConvolutionGradients.forward if torch.compiler.is_compiling() else _gradients
        return *find(dy, *ctx.saved_tensors, ctx.activation), None


class _ConvolutionGradients(BackwardByHand):
    """The backward pass of _Convolution: the gradients of x, before, weight and bias."""

    @staticmethod
    def forward(dy, x, before, weight, bias, activation):
        (B, T, D), W, dtype = x.shape, weight.shape[1], inner_dtype(x)
        taps, wide_bias = weight.to(dtype).t().contiguous(), None if bias is None else bias.to(dtype)
        dseen, dtaps = torch.zeros(B, W - 1 + T, D, dtype=dtype, device=x.device), torch.zeros_like(taps)
        dbias = torch.zeros(D, dtype=dtype, device=x.device)
        for time in chunk_spans(T, CONV_BLOCK):
            seen, d, C = _seen(x, before, time, dtype), dy[:, time].to(dtype), time.stop - time.start
            if activation == "silu":
                d = torch.ops.aten.silu_backward(d, _mix(seen, taps, wide_bias))
            dbias += d.sum((0, 1)) if bias is not None else 0
            for i in range(W):
                dseen[:, time.start + i : time.start + i + C].addcmul_(d, taps[i])
                dtaps[i] += (d * seen[:, i : i + C]).sum((0, 1))
        dx, dbefore = dseen[:, W - 1 :].to(x.dtype), dseen[:, : W - 1].mT.to(before.dtype)
        dbias = None if bias is None else dbias.to(bias.dtype)
        return dx, dbefore, dtaps.t().to(weight.dtype), dbias


# The axes of the channels, which vmap may make more of: x, before, weight, bias.
_CHANNELS = (2, 1, 0, 0)
_NO_TANGENTS = f"causal_conv: {NO_JVP}; use torch.nn.functional.conv1d, or torch.func.grad, vjp or jacrev"
_convolution = for_torch_func(_Convolution, _CHANNELS, (2,), _NO_TANGENTS)
_gradients = for_torch_func(_ConvolutionGradients, (2, *_CHANNELS), _CHANNELS, TWICE)


@torch.no_grad()
def causal_conv_step(
    x: Tensor, weight: Tensor, bias: Tensor | None, state: Tensor, *, activation: str | None = None
) -> Tensor:
    """One token x [B, D] of decoding; `state` [B, D, W-1] moves on by one token in place. Returns y [B, D]."""
    refuse_transforms("causal_conv_step", "causal_conv")
    check_shapes({"x": (x, "B D"), "weight": (weight, "D W"), "bias": (bias, "D")}, optional=("bias",))
    _check_tail("state", state, [x.shape[0], weight.shape[0], weight.shape[1] - 1])
    check_device(x=x, weight=weight, bias=bias, state=state)
    _check_activation(activation)
    dtype = inner_dtype(x)
    seen = torch.cat([state.to(dtype), x[..., None].to(dtype)], -1)  # [B, D, W]; x is rounded only where it is kept
    state.copy_(seen[..., 1:])
    y = (seen * weight.to(dtype)).sum(-1)
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
