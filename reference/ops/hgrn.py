"""A memory of one number per channel: fade, then add. The RG-LRU of Griffin is this with gates of its own."""

from itertools import pairwise

import torch
from torch import Tensor

from reference.arguments import check_positive_int, cut_short
from reference.derivatives import NO_JVP, TWICE, BackwardByHand, for_torch_func, is_differentiated
from reference.dtypes import inner_dtype
from reference.ops._run import Result
from reference.ops.shapes import check_cu_seqlens, check_device, check_shapes, check_values


def recurrent_hgrn(
    x: Tensor,
    g: Tensor,
    *,
    initial_state: Tensor | None = None,
    output_final_state: bool = False,
    cu_seqlens: Tensor | None = None,
) -> Result:
    """A gated recurrence of single numbers, one token at a time.

        h_t = e^{g_t} ⊙ h_{t-1} + x_t        o_t = h_t

    x                   [B, T, D]
    g                   [B, T, D] log decay <= 0, -inf is a full reset
    initial_state       [B, D]; None means zeros
    output_final_state  return the last state too
    cu_seqlens          int boundaries [0, ..., T] of sequences packed into B = 1; initial and final state are then
                        [number of sequences, D]

    It is lightning attention with a head for each channel, Dk = Dv = 1, and k = q = 1: a memory without keys.
    Returns (o [B, T, D] in x's dtype, final state [B, D] or None). Half types are computed in float32, float64 in
    float64; the state is in that format. Raises TypeError or ValueError that names the argument, before any work.
    Source: Qin et al. 2023 (HGRN), De et al. 2024 (Griffin); names as fla's; chapter 03, (3.2) with k = 1.
    """
    return _run(x, g, initial_state, output_final_state, cu_seqlens, None)


def chunk_hgrn(
    x: Tensor,
    g: Tensor,
    *,
    initial_state: Tensor | None = None,
    output_final_state: bool = False,
    chunk_size: int = 64,
    cu_seqlens: Tensor | None = None,
) -> Result:
    """The same in chunks, of which all are read at once.

        o = local + e^G ⊙ h_in

    for each chunk of C = chunk_size tokens: local is what its own tokens leave, G the sum of g since it began, h_in the
    state that enters it. The first takes C steps for all chunks together, the rest one step for each chunk: C + T / C
    steps in place of T. There is no matrix product in it: with thousands of channels the memory's speed is the limit,
    and the plain loop is as fast.

    Arguments as recurrent_hgrn has them, and
    chunk_size               a whole number >= 1; it changes only the rounding, and the time

    Returns what recurrent_hgrn returns, with the same numbers up to rounding, and raises the same errors. A training
    step keeps e^g and the states; its backward is the same scan from the end.
    Source: Blelloch 1990 (scans in blocks); chapter 04, (4.5) with Dk = 1.
    """
    check_positive_int("chunk_size", chunk_size)
    return _run(x, g, initial_state, output_final_state, cu_seqlens, chunk_size)


def _run(x, g, initial_state, output_final_state, cu_seqlens, chunk_size: int | None) -> Result:
    sizes = check_shapes({"x": (x, "B T D"), "g": (g, "B T D")})
    bounds = check_cu_seqlens(cu_seqlens, sizes)
    rows = sizes["B"] if cu_seqlens is None else len(bounds) - 1
    if initial_state is not None:
        check_shapes({"initial_state": (initial_state, "B D")})
        if list(initial_state.shape) != [rows, sizes["D"]]:
            wanted = [rows, sizes["D"]]
            raise ValueError(f"initial_state: expected [B, D] = {wanted}, got {list(initial_state.shape)}")
    if not isinstance(output_final_state, bool):
        raise TypeError(f"output_final_state: expected True or False, got {cut_short(output_final_state)}")
    check_device(x=x, g=g, initial_state=initial_state)
    check_values(g, x=x, initial_state=initial_state)
    wide = inner_dtype(x)
    states = x.new_zeros(rows, sizes["D"], dtype=wide) if initial_state is None else initial_state.to(wide)
    states = [states] if cu_seqlens is None else states.split(1)
    outputs, after = [], []
    for (start, stop), h in zip(pairwise(bounds), states, strict=True):
        own, fade = x[:, start:stop].to(wide), g[:, start:stop].to(wide).exp()
        if start < stop:  # an empty sequence keeps its initial state
            o = _by_token(own, fade, h) if chunk_size is None else _chunked(own, fade, h, chunk_size)
            outputs.append(o)
            h = o[:, -1]
        after.append(h)
    o, state = torch.cat(outputs, 1), torch.cat(after)
    return o.to(x.dtype), state if output_final_state else None


def _by_token(x: Tensor, a: Tensor, h: Tensor) -> Tensor:
    """x [B, T, D], a = e^g, h [B, D] -> all states [B, T, D]. Without a derivative they are written in place."""
    if not is_differentiated(x, a, h):
        return _scan(x, a, h, x.shape[1])
    found = []
    for own, fade in zip(x.unbind(1), a.unbind(1), strict=True):
        h = fade * h + own  # (3.1), (3.2)
        found.append(h)
    return torch.stack(found, 1)


def _scan(x: Tensor, a: Tensor, h: Tensor, C: int) -> Tensor:
    """As _by_token, in chunks of C tokens."""
    o, T = x.clone(memory_format=torch.contiguous_format), x.shape[1]
    o[:, 0].addcmul_(a[:, 0], h)
    whole = 0 if C >= T else T // C * C
    if whole:
        chunks, fade = (y[:, :whole].unflatten(1, (-1, C)) for y in (o, a))  # [B, chunks, C, D]
        for t in range(1, C):
            chunks[:, :, t].addcmul_(fade[:, :, t], chunks[:, :, t - 1])
        since_start = fade.cumprod(2)  # e^G, (4.3)
        for n in range(1, chunks.shape[1]):
            chunks[:, n].addcmul_(since_start[:, n], chunks[:, n - 1, -1:])  # (4.5), whose last token is (4.6)
    for t in range(max(whole, 1), T):
        o[:, t].addcmul_(a[:, t], o[:, t - 1])
    return o


class _Scan(torch.autograd.Function):
    """All states; what goes back in time is the same scan from the end."""

    @staticmethod
    def forward(x, a, h, C):
        return _scan(x, a, h, C)

    @staticmethod
    def setup_context(ctx, inputs, output):
        _, a, h, ctx.C = inputs
        ctx.save_for_backward(a, h, output)

    @staticmethod
    def backward(ctx, do):
        find = _ScanGradients.forward if torch.compiler.is_compiling() else _gradients
        return *find(do, *ctx.saved_tensors, ctx.C), None


class _ScanGradients(BackwardByHand):
    """dx_t = do_t + a_{t+1} dx_{t+1}, da_t = h_{t-1} dx_t, dh_0 = a_1 dx_1."""

    @staticmethod
    def forward(do, a, h, o, C):
        later = torch.cat([a[:, 1:], torch.zeros_like(a[:, :1])], 1)
        dx = _scan(do.flip(1), later.flip(1), torch.zeros_like(h), C).flip(1)
        return dx, dx * torch.cat([h[:, None], o[:, :-1]], 1), a[:, 0] * dx[:, 0]


# The axis of the channels, which vmap may make more of: x, a, h.
_CHANNELS = (2, 2, 1)
_NO_TANGENTS = f"chunk_hgrn: {NO_JVP}; use recurrent_hgrn, or torch.func.grad, vjp or jacrev"
_chunked = for_torch_func(_Scan, _CHANNELS, (2,), _NO_TANGENTS)
_gradients = for_torch_func(_ScanGradients, (2, 2, 1, 2), _CHANNELS, TWICE)
