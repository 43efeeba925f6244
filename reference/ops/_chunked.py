"""The chunked form of all operators: every piece goes through its chunks, forward and, where asked for, backward."""

from itertools import islice

import torch
from torch import Tensor

from reference.derivatives import first_derivative_only
from reference.dtypes import full_precision, inner_dtype
from reference.ops._chunk_backward import back_chunk_by_chunk
from reference.ops._pieces import chunk_spans, pieces
from reference.ops.chunk import chunk_by_chunk


def chunked_form(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    beta: Tensor | None,
    initial_state: Tensor | None,
    scale: float,
    bounds: list[int],
    chunk_size: int,
    entering: list[Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Checked arguments -> (o [B, T, HV, Dv], final state [B, HV, Dk, Dv]); `entering` collects each chunk's S_0."""
    tensors = (q, k, v, g, beta, initial_state)
    if entering is None and torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in tensors):
        return _Chunked.apply(*tensors, scale, bounds, chunk_size)
    o = torch.empty_like(v, memory_format=torch.contiguous_format)
    if initial_state is None:
        first = v.new_zeros(max(len(v), len(bounds) - 1), v.shape[2], q.shape[3], v.shape[3], dtype=inner_dtype(v))
    else:
        first = initial_state.to(inner_dtype(v), copy=True)  # the backward pass keeps what the caller may overwrite
    final = torch.empty_like(first)
    inputs = (q, k, v, g, None if beta is None else beta[..., None])
    for piece in pieces(q, v, bounds):
        own, S = (piece.heads_first(x) for x in inputs), piece.state(first).flatten(0, 1)
        S = chunk_by_chunk(*own, S, scale, chunk_size, piece.view(o), entering)
        piece.state(final).copy_(S.view_as(piece.state(final)))
    return o, final


class _Chunked(torch.autograd.Function):
    """Keeps the inputs and one state per chunk; everything inside a chunk is computed again on the way back."""

    @staticmethod
    def forward(ctx, q, k, v, g, beta, initial_state, scale, bounds, chunk_size):
        entering = []
        o, final = chunked_form(q, k, v, g, beta, initial_state, scale, bounds, chunk_size, entering)
        ctx.save_for_backward(q, k, v, g, beta, *entering)
        ctx.rest = (scale, bounds, chunk_size, None if initial_state is None else initial_state.dtype)
        return o, final

    @staticmethod
    @first_derivative_only
    def backward(ctx, do, d_final):
        with full_precision(do):
            return _backward(ctx, do, d_final)


def _backward(ctx, do: Tensor, d_final: Tensor) -> tuple[Tensor | None, ...]:
    q, k, v, g, beta, *entering = ctx.saved_tensors
    scale, bounds, chunk_size, state_dtype = ctx.rest
    inputs = (q, k, v, g, None if beta is None else beta[..., None])
    gradients = [None if x is None else torch.empty_like(x, memory_format=torch.contiguous_format) for x in inputs]
    d_initial, states = torch.empty_like(d_final, memory_format=torch.contiguous_format), iter(entering)
    for piece in pieces(q, v, bounds):
        own = [piece.heads_first(x) for x in (*inputs, do)]
        out = [None if x is None else piece.view(x) for x in gradients]
        dS, spans = piece.state(d_final).flatten(0, 1), chunk_spans(own[0].shape[1], chunk_size)
        dS = back_chunk_by_chunk(*own, dS, list(islice(states, len(spans))), scale, spans, out)
        piece.state(d_initial).copy_(dS.view_as(piece.state(d_initial)))
    *rest, dbeta = gradients
    d_initial = None if state_dtype is None else d_initial.to(state_dtype)
    return *rest, None if dbeta is None else dbeta[..., 0], d_initial, None, None, None
