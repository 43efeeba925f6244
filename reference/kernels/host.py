"""The host's side: layouts, buffers, grids, and the order of the launches; the derivative as PyTorch sees it."""

from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from reference.derivatives import BackwardByHand
from reference.dtypes import full_precision
from reference.kernels.backward import ask_values, carry_back, chunk_gradients
from reference.kernels.decode import decode_token
from reference.kernels.forward import carry_states, carry_sums, one_kernel, read_chunks, solve_chunks
from reference.kernels.language import run_programs, runner

SHORTEST_CHUNK = 16  # tensor cores multiply tiles of 16
# A channel decay cuts its scores log2(C) times: with C = 64 and Dk = 128 Triton 3.9 asked for 489 KiB of shared memory,
# where an H100 has 227, with C = 16 for 55.
LONGEST_CHUNK, LONGEST_CHANNEL_CHUNK = 64, 16
ALL_AT_ONCE = 4  # chunks of a sequence from which three kernels are used in place of one


class GridPlan(NamedTuple):
    """Where sequences and chunks lie, and the constants of all kernels of one call."""

    bounds: Tensor  # [sequences + 1] first row of each sequence, int64
    chunks: Tensor  # [n, 2] first row of each chunk, and where its sequence ends
    firsts: Tensor  # [sequences + 1] the first chunk of each sequence
    heads: dict[str, int]
    sizes: dict[str, int]  # DK, DV, BV, C
    rounds: int
    kind: dict[str, object]  # CHANNEL, PRECISION

    @property
    def sequences(self) -> int:
        """How many states there are per value head."""
        return len(self.bounds) - 1

    @property
    def blocks(self) -> int:
        """Into how many blocks the value channels are cut."""
        return self.sizes["DV"] // self.sizes["BV"]


def grid_plan(q: Tensor, v: Tensor, g: Tensor, bounds: list[int], chunk_size: int) -> GridPlan:
    """The plan for q [B, T, H, Dk], v [B, T, HV, Dv] and g; bounds as check_cu_seqlens returns them."""
    (B, T, H, DK), (HV, DV) = q.shape, v.shape[2:]
    starts = bounds if len(bounds) > 2 else [n * T for n in range(B + 1)]
    longest = max(stop - start for start, stop in pairwise(starts))
    most = LONGEST_CHUNK if g.dim() == 3 else LONGEST_CHANNEL_CHUNK
    C = max(1 << (min(chunk_size, longest, most) - 1).bit_length(), SHORTEST_CHUNK)
    # float32 stays float32. What came in 8 or 11 bits is multiplied with 11 bits and added up in 24.
    precision = "ieee" if v.dtype == torch.float32 else "tf32"
    sizes = {"DK": DK, "DV": DV, "BV": min(DV, 32), "C": C}
    kind = {"CHANNEL": g.dim() == 4, "PRECISION": precision}
    return GridPlan(*chunk_places(tuple(starts), C, v.device), {"H": H, "HV": HV}, sizes, (C - 1).bit_length(), kind)


@lru_cache(maxsize=64)
def chunk_places(starts: tuple[int, ...], C: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """GridPlan's bounds, chunks and firsts; kept, since a copy to the GPU makes the host wait."""
    chunks, firsts = [], [0]
    for start, stop in pairwise(starts):
        chunks += [(row, stop) for row in range(start, stop, C)]
        firsts.append(len(chunks))
    lists = list(starts), chunks, firsts
    return tuple(torch.tensor(x, dtype=torch.int64, device=device) for x in lists)


def kernel_form(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    beta: Tensor | None,
    initial_state: Tensor | None,
    scale: float,
    bounds: list[int],
    chunk_size: int,
    cut: bool | None = None,
) -> tuple[Tensor, Tensor]:
    """Checked arguments -> (o [B, T, HV, Dv], final state [B, HV, Dk, Dv]), as chunked_form of reference.ops has them.

    cut: True for the three kernels, False for one, None for what suits the lengths. beta None is an additive rule, for
    which cut means nothing and which has no gradient here. Raises ValueError for bfloat16 in Triton's interpreter,
    which computes it wrongly without a word.
    """
    if runner(v) == "interpreter" and torch.bfloat16 in {x.dtype for x in (q, k, v, g, beta) if x is not None}:
        raise ValueError("q: expected float32 or float16 in Triton's interpreter, got bfloat16, which it gets wrong")
    if beta is None:
        return _additive(q, k, v, g, initial_state, scale, bounds, chunk_size)
    return _Kernels.apply(q, k, v, g, beta, initial_state, scale, bounds, chunk_size, cut)


class _Kernels(torch.autograd.Function):
    """Keeps the inputs and one state per chunk, as _Chunked of reference.ops does."""

    @staticmethod
    def forward(ctx, q, k, v, g, beta, initial_state, scale, bounds, chunk_size, cut):
        own = grid_plan(q, v, g, bounds, chunk_size)
        q, k, v, g, beta = (x.contiguous() for x in (q, k, v, g, beta))
        first = _first_state(own, v, initial_state)
        o, last = torch.empty_like(v), torch.empty_like(first)
        needs_states = any(ctx.needs_input_grad)
        cut = len(own.chunks) >= ALL_AT_ONCE * own.sequences if cut is None else cut
        if cut or needs_states:
            states = first.new_empty(len(own.chunks), *first.shape[1:])
            _in_three_kernels(own, q, k, v, g, beta, first, o, states, last, scale)
        else:
            grid = own.sequences, own.heads["HV"], own.blocks
            inputs = q, k, v, g, beta, first, own.bounds, o, last, scale
            run_programs(one_kernel, grid, *inputs, **own.heads, **own.sizes, ROUNDS=own.rounds, **own.kind)
        if needs_states:
            ctx.save_for_backward(q, k, v, g, beta, states)
            ctx.rest = own, scale, None if initial_state is None else initial_state.dtype
        return o, last

    @staticmethod
    def backward(ctx, do, d_last):
        return *_Gradients.apply(do, d_last, *ctx.rest, *ctx.saved_tensors), None, None, None, None


class _Gradients(BackwardByHand):
    """The backward pass of _Kernels, from do and d_last to the gradients of q, k, v, g, beta and the first state."""

    @staticmethod
    def forward(do, d_last, own, scale, state_dtype, *saved):
        with full_precision(do):
            return _backward(do, d_last, own, scale, state_dtype, *saved)


def _first_state(own: GridPlan, v: Tensor, initial_state: Tensor | None) -> Tensor:
    first = v.new_zeros(own.sequences, own.heads["HV"], own.sizes["DK"], own.sizes["DV"], dtype=torch.float32)
    return first if initial_state is None else first.copy_(initial_state)


@torch.no_grad()
def _additive(q, k, v, g, initial_state, scale, bounds, chunk_size) -> tuple[Tensor, Tensor]:
    own = grid_plan(q, v, g, bounds, chunk_size)
    q, k, v, g = (x.contiguous() for x in (q, k, v, g))
    first = _first_state(own, v, initial_state)
    o, last, states = torch.empty_like(v), torch.empty_like(first), first.new_empty(len(own.chunks), *first.shape[1:])
    both = {**own.heads, **own.sizes, **own.kind}
    loop, inside = (own.sequences, own.heads["HV"], own.blocks), (len(own.chunks), own.heads["HV"])
    run_programs(carry_sums, loop, k, v, g, first, own.bounds, own.firsts, states, last, **both)
    run_programs(read_chunks, inside, q, k, g, v, states, own.chunks, o, scale, ROUNDS=own.rounds, **both)
    return o, last


def _in_three_kernels(own, q, k, v, g, beta, first, o, states, last, scale) -> None:
    DV = own.sizes["DV"]
    u = torch.empty_like(v, dtype=torch.float32)
    w = u.new_empty(*v.shape[:3], own.sizes["DK"])
    inside = len(own.chunks), own.heads["HV"]
    both = {**own.heads, **own.sizes, **own.kind}
    run_programs(solve_chunks, inside, k, v, g, beta, own.chunks, u, w, ROUNDS=own.rounds, **both)
    loop = own.sequences, own.heads["HV"], DV // own.sizes["BV"]
    run_programs(carry_states, loop, k, g, w, first, own.bounds, own.firsts, u, states, last, **both)
    run_programs(read_chunks, inside, q, k, g, u, states, own.chunks, o, scale, ROUNDS=own.rounds, **both)


def _backward(do, d_last, own, scale, state_dtype, q, k, v, g, beta, states) -> tuple[Tensor | None, ...]:
    do, d_last = do.contiguous(), d_last.to(torch.float32).contiguous()
    both, inside = {**own.heads, **own.sizes, **own.kind}, (len(own.chunks), own.heads["HV"])
    du = torch.empty_like(v, dtype=torch.float32)
    w = du.new_empty(*v.shape[:3], own.sizes["DK"])
    # W again; its U' isn't needed, and lies where du is written next
    run_programs(solve_chunks, inside, k, v, g, beta, own.chunks, du, w, ROUNDS=own.rounds, **both)
    run_programs(ask_values, inside, q, k, g, do, own.chunks, du, scale, ROUNDS=own.rounds, **both)
    d_first, d_states = torch.empty_like(d_last), torch.empty_like(states)
    loop = own.sequences, own.heads["HV"], own.blocks
    run_programs(carry_back, loop, q, k, g, w, do, d_last, own.bounds, own.firsts, du, d_states, d_first, scale, **both)
    dq, dk = torch.empty_like(w), torch.empty_like(w)
    dv, dg, dbeta = torch.empty_like(v), torch.empty_like(g), torch.empty_like(beta)
    out = dq, dk, dv, dg, dbeta
    inputs = q, k, v, g, beta, do, states, d_states, du, own.chunks
    run_programs(chunk_gradients, inside, *inputs, *out, scale, ROUNDS=own.rounds, num_warps=8, **both)
    group = own.heads["HV"] // own.heads["H"]
    dq, dk = (x.unflatten(2, (-1, group)).sum(3).to(q.dtype) for x in (dq, dk))
    d_initial = None if state_dtype is None else d_first.to(state_dtype)
    return dq, dk, dv, dg, dbeta, d_initial


def kernel_decode(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, state: Tensor, out: Tensor, scale: float
) -> Tensor:
    """One token, as decode_step of reference.ops has it: the new state into `out`, which may be `state`; returns o."""
    o = torch.empty_like(v, memory_format=torch.contiguous_format)
    (B, H, DK), (HV, DV) = q.shape, v.shape[1:]
    BV = min(DV, 32)
    inputs = (x.contiguous() for x in (q, k, v, g, beta))
    sizes = {"H": H, "HV": HV, "DK": DK, "DV": DV, "BV": BV, "CHANNEL": g.dim() == 3}
    run_programs(decode_token, (B, HV, DV // BV), *inputs, state, out, o, scale, **sizes)
    return o
