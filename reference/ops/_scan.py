"""The loop over chunks, forward and backward, shared by all chunked operators."""

from itertools import pairwise

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from reference.ops._chunk import carry_state, chunk_decay, corrected_values, read_state
from reference.ops._chunk_backward import chunk_backward
from reference.ops._layout import chunk_spans, head_blocks, heads_first, inner_dtype, put_back


def chunk_scan(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    beta: Tensor | None,
    initial_state: Tensor | None,
    scale: float,
    chunk_size: int,
    bounds: list[int],
) -> tuple[Tensor, Tensor]:
    """Run the family's chunked form over checked arguments: (o [B, T, HV, Dv], final state [B, HV, Dk, Dv])."""
    tensors = (q, k, v, g, beta, initial_state)
    if torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in tensors):
        return _ChunkScan.apply(*tensors, scale, chunk_size, bounds)
    o, final_state, _ = _forward(*tensors, scale, chunk_size, bounds, keep=False)
    return o, final_state


def _forward(q, k, v, g, beta, initial_state, scale, chunk_size, bounds, keep):
    (B, _, H, Dk), (HV, Dv), n_sequences = q.shape, v.shape[2:], len(bounds) - 1
    dtype, group = inner_dtype(v), HV // H
    o = torch.empty_like(v, memory_format=torch.contiguous_format)
    states = torch.zeros(max(B, n_sequences), HV, Dk, Dv, dtype=dtype, device=v.device)
    if initial_state is not None:
        states.copy_(initial_state)
    kept = []  # the state that enters each chunk, in the order of the loops
    for block in head_blocks(B, HV, group, v.device):
        for n, (start, stop) in enumerate(pairwise(bounds)):
            own = states[block.rows if n_sequences == 1 else slice(n, n + 1), block.heads]
            S = own.flatten(0, 1).clone()
            for time in chunk_spans(start, stop, chunk_size):
                Q, K = (heads_first(x, block, time, group, dtype) for x in (q, k))
                V, decay = heads_first(v, block, time, 1, dtype), chunk_decay(heads_first(g, block, time, 1, dtype))
                U = V
                if beta is not None:
                    U = corrected_values(K, V, heads_first(beta, block, time, 1, dtype)[..., None], decay, S)
                put_back(o, read_state(Q, K, U, decay, S, scale), block, time)
                if keep:
                    kept.append(S)
                S = carry_state(K, U, decay, S)
            own.copy_(S.view_as(own))
    return o, states, kept


class _ChunkScan(torch.autograd.Function):
    """Keeps the inputs and one state per chunk; everything inside a chunk is computed again on the way back."""

    @staticmethod
    def forward(ctx, q, k, v, g, beta, initial_state, scale, chunk_size, bounds):
        o, states, kept = _forward(q, k, v, g, beta, initial_state, scale, chunk_size, bounds, keep=True)
        ctx.save_for_backward(q, k, v, g, beta, *kept)
        ctx.rest = (scale, chunk_size, bounds, None if initial_state is None else initial_state.dtype)
        return o, states

    @staticmethod
    @once_differentiable
    def backward(ctx, do, d_states):
        q, k, v, g, beta, *kept = ctx.saved_tensors
        scale, chunk_size, bounds, state_dtype = ctx.rest
        (B, _, H, _), HV, n_sequences = q.shape, v.shape[2], len(bounds) - 1
        dtype, group = inner_dtype(v), HV // H
        dq, dk, dv, dg = (torch.empty_like(x, memory_format=torch.contiguous_format) for x in (q, k, v, g))
        dbeta = None if beta is None else torch.empty_like(beta, memory_format=torch.contiguous_format)
        d_initial = torch.empty_like(d_states, memory_format=torch.contiguous_format)
        at = 0
        for block in head_blocks(B, HV, group, v.device):
            for n, (start, stop) in enumerate(pairwise(bounds)):
                rows = block.rows if n_sequences == 1 else slice(n, n + 1)
                dS = d_states[rows, block.heads].flatten(0, 1)
                spans = chunk_spans(start, stop, chunk_size)
                for time, S in reversed(list(zip(spans, kept[at : at + len(spans)], strict=True))):
                    Q, K = (heads_first(x, block, time, group, dtype) for x in (q, k))
                    V, G, dO = (heads_first(x, block, time, 1, dtype) for x in (v, g, do))
                    b = None if beta is None else heads_first(beta, block, time, 1, dtype)[..., None]
                    d = chunk_backward(Q, K, V, G, b, S, dO, dS, scale)
                    put_back(dq, d.q, block, time, group)
                    put_back(dk, d.k, block, time, group)
                    put_back(dv, d.v, block, time)
                    put_back(dg, d.g, block, time)
                    if beta is not None:
                        put_back(dbeta, d.beta[..., 0], block, time)
                    dS = d.S
                at += len(spans)
                d_initial[rows, block.heads] = dS.view_as(d_initial[rows, block.heads])
        d_initial = None if state_dtype is None else d_initial.to(state_dtype)
        return dq, dk, dv, dg, dbeta, d_initial, None, None, None
