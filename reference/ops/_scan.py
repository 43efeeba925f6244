"""The loop over chunks, forward and backward, shared by all chunked operators."""

from itertools import islice, pairwise

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from reference.dtypes import inner_dtype
from reference.ops._chunk import carry_state, chunk_decay, corrected_values, read_state
from reference.ops._chunk_backward import chunk_backward
from reference.ops._layout import at, chunk_spans, full_precision, head_blocks


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
        q_block, k_block = (block.heads_first(x, group) for x in (q, k))
        v_block, g_block = (block.heads_first(x) for x in (v, g))
        beta_block = None if beta is None else block.heads_first(beta[..., None])
        for n, (start, stop) in enumerate(pairwise(bounds)):
            own = states[block.rows if n_sequences == 1 else slice(n, n + 1), block.heads]
            S = own.flatten(0, 1).clone()
            for time in chunk_spans(start, stop, chunk_size):
                Q, K = at(q_block, time, dtype, group), at(k_block, time, dtype, group)
                V, decay = at(v_block, time, dtype), chunk_decay(at(g_block, time, dtype))
                kept += [S] if keep else []
                U = V if beta is None else corrected_values(K, V, at(beta_block, time, dtype), decay, S)
                block.put_back(o, read_state(Q, K, U, decay, S, scale), time)
                S = carry_state(K, U, decay, S, into=None if keep else S)
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
        with full_precision(do):
            return _backward(ctx, do, d_states)


def _backward(ctx, do: Tensor, d_states: Tensor) -> tuple:
    q, k, v, g, beta, *kept = ctx.saved_tensors
    scale, chunk_size, bounds, state_dtype = ctx.rest
    (B, _, H, _), HV, n_sequences = q.shape, v.shape[2], len(bounds) - 1
    dtype, group = inner_dtype(v), HV // H
    dq, dk, dv, dg = (torch.empty_like(x, memory_format=torch.contiguous_format) for x in (q, k, v, g))
    dbeta = None if beta is None else torch.empty_like(beta, memory_format=torch.contiguous_format)
    d_initial = torch.empty_like(d_states, memory_format=torch.contiguous_format)
    states = iter(kept)
    for block in head_blocks(B, HV, group, v.device):
        q_block, k_block = (block.heads_first(x, group) for x in (q, k))
        v_block, g_block, do_block = (block.heads_first(x) for x in (v, g, do))
        beta_block = None if beta is None else block.heads_first(beta[..., None])
        for n, (start, stop) in enumerate(pairwise(bounds)):
            rows = block.rows if n_sequences == 1 else slice(n, n + 1)
            dS = d_states[rows, block.heads].flatten(0, 1)
            spans = chunk_spans(start, stop, chunk_size)
            entering = list(islice(states, len(spans)))
            for time, S in reversed(list(zip(spans, entering, strict=True))):
                Q, K = at(q_block, time, dtype, group), at(k_block, time, dtype, group)
                V, G, dO = at(v_block, time, dtype), at(g_block, time, dtype), at(do_block, time, dtype)
                b = None if beta is None else at(beta_block, time, dtype)
                d = chunk_backward(Q, K, V, G, b, S, dO, dS, scale)
                block.put_back(dq, d.q, time, group)
                block.put_back(dk, d.k, time, group)
                block.put_back(dv, d.v, time)
                block.put_back(dg, d.g, time)
                if beta is not None:
                    block.put_back(dbeta, d.beta[..., 0], time)
                dS = d.S
            d_initial[rows, block.heads] = dS.view_as(d_initial[rows, block.heads])
    d_initial = None if state_dtype is None else d_initial.to(state_dtype)
    return dq, dk, dv, dg, dbeta, d_initial, None, None, None
