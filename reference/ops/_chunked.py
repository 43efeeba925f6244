"""The chunked form of all operators: every piece goes through its chunks, forward and, where asked for, backward."""

from itertools import islice

import torch
from torch import Tensor

from reference.derivatives import NO_JVP, TWICE, BackwardByHand, for_torch_func, is_differentiated
from reference.dtypes import full_precision, inner_dtype
from reference.ops._chunk_backward import back_chunk_by_chunk
from reference.ops._pieces import chunk_spans, pieces
from reference.ops._two_keys import two_keys_by_chunk
from reference.ops.chunk import chunk_by_chunk


def chunked_form(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    beta: Tensor | None,
    p: Tensor | None,
    initial_state: Tensor | None,
    scale: float,
    bounds: list[int],
    chunk_size: int,
    entering: list[Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Checked arguments -> (o [B, T, HV, Dv], final state [B, HV, Dk, Dv]); `entering` collects each chunk's S_0.

    p [B, T, H or HV, Dk] or None: the keys that read what is erased, where they aren't k.
    """
    tensors = (q, k, v, g, beta, p, initial_state)
    if entering is None and is_differentiated(*tensors):
        return _chunked(*tensors, scale, bounds, chunk_size)[:2]
    o = torch.empty_like(v, memory_format=torch.contiguous_format)
    if initial_state is None:
        first = v.new_zeros(max(len(v), len(bounds) - 1), v.shape[2], q.shape[3], v.shape[3], dtype=inner_dtype(v))
    else:
        first = initial_state.to(inner_dtype(v), copy=True)  # the backward pass keeps what the caller may overwrite
    final = torch.empty_like(first)
    inputs = (q, k, v, g, None if beta is None else beta[..., None])
    for piece in pieces(q, v, bounds):
        own, S = (piece.heads_first(x) for x in inputs), piece.state(first).flatten(0, 1)
        if p is None:
            S = chunk_by_chunk(*own, S, scale, chunk_size, piece.view(o), entering)
        else:
            S = two_keys_by_chunk(*own, piece.heads_first(p), S, scale, chunk_size, piece.view(o), entering)
        piece.state(final).copy_(S.view_as(piece.state(final)))
    return o, final


class _Chunked(torch.autograd.Function):
    """Keeps the inputs and one state per chunk; everything inside a chunk is computed again on the way back."""

    @staticmethod
    def forward(q, k, v, g, beta, p, initial_state, scale, bounds, chunk_size):
        entering = []
        o, final = chunked_form(q, k, v, g, beta, p, initial_state, scale, bounds, chunk_size, entering)
        return o, final, *entering

    @staticmethod
    def setup_context(ctx, inputs, output):
        *inputs, initial_state, scale, bounds, chunk_size = inputs
        _, final, *entering = output
        ctx.mark_non_differentiable(*entering)
        ctx.set_materialize_grads(False)  # those of the states would be zeros as large as the states
        ctx.save_for_backward(*inputs, None if entering else initial_state, *entering)
        ctx.rest = (scale, bounds, chunk_size)
        ctx.state = (final.shape, final.dtype, None if initial_state is None else initial_state.dtype)

    @staticmethod
    def backward(ctx, do, d_final, *_):
        q, k, v, g, beta, p, initial_state, *entering = ctx.saved_tensors
        shape, dtype, state_dtype = ctx.state
        do = torch.zeros_like(v) if do is None else do
        d_final = v.new_zeros(shape, dtype=dtype) if d_final is None else d_final
        find = _Gradients.forward if torch.compiler.is_compiling() else _gradients
        *found, d_initial = find(do, d_final, q, k, v, g, beta, p, initial_state, *ctx.rest, *entering)
        return *found, None if state_dtype is None else d_initial.to(state_dtype), None, None, None


class _Gradients(BackwardByHand):
    """The backward pass of _Chunked, from do and d_final to those of q, k, v, g, beta, p and the first state."""

    @staticmethod
    def forward(do, d_final, q, k, v, g, beta, p, initial_state, scale, bounds, chunk_size, *entering):
        with full_precision(do):
            if not entering:  # as vmap calls it
                entering = []
                chunked_form(q, k, v, g, beta, p, initial_state, scale, bounds, chunk_size, entering)
            return _backward(do, d_final, q, k, v, g, beta, p, scale, bounds, chunk_size, entering)


def _without_states(do, d_final, q, k, v, g, beta, p, initial_state, scale, bounds, chunk_size, *entering):
    """The inputs of _Gradients with the first state in the place of all: more heads fall into other pieces."""
    if entering:
        shape = (max(len(v), len(bounds) - 1), v.shape[2], q.shape[3], v.shape[3])
        initial_state, states = entering[0].new_empty(shape), iter(entering)
        for piece in pieces(q, v, bounds):
            there = piece.state(initial_state)
            own = list(islice(states, len(chunk_spans(piece.time.stop - piece.time.start, chunk_size))))
            if own:  # an empty sequence has no chunk, and no token that reads its state
                there.copy_(own[0].view_as(there))
    return do, d_final, q, k, v, g, beta, p, initial_state, scale, bounds, chunk_size


# The axes of the heads, which vmap may make more of.
_TENSORS = (2, 2, 2, 2, 2, 2, 1)  # q, k, v, g, beta, p, state
_NO_TANGENTS = f"chunk_*: {NO_JVP}; use the recurrent form (recurrent_*), or torch.func.grad, vjp or jacrev"
_chunked = for_torch_func(_Chunked, _TENSORS, (2, 1), _NO_TANGENTS)
_gradients = for_torch_func(_Gradients, (2, 1, *_TENSORS), _TENSORS, TWICE, _without_states)


def _backward(do, d_final, q, k, v, g, beta, p, scale, bounds, chunk_size, entering) -> tuple[Tensor | None, ...]:
    inputs = (q, k, v, g, None if beta is None else beta[..., None], p)
    gradients = [None if x is None else torch.empty_like(x, memory_format=torch.contiguous_format) for x in inputs]
    d_initial, states = torch.empty_like(d_final, memory_format=torch.contiguous_format), iter(entering)
    for piece in pieces(q, v, bounds):
        own = [piece.heads_first(x) for x in (*inputs, do)]
        out = [None if x is None else piece.view(x) for x in gradients]
        dS, spans = piece.state(d_final).flatten(0, 1), chunk_spans(own[0].shape[1], chunk_size)
        dS = back_chunk_by_chunk(*own, dS, list(islice(states, len(spans))), scale, spans, out)
        piece.state(d_initial).copy_(dS.view_as(piece.state(d_initial)))
    *rest, dbeta, dp = gradients
    return *rest, None if dbeta is None else dbeta[..., 0], dp, d_initial
