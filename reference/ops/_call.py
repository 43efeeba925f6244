"""What every operator of the family does around its own two equations: check, prepare, run, hand back."""

import math

import torch
from torch import Tensor

from reference.arguments import check_positive_int
from reference.dtypes import inner_dtype
from reference.ops._layout import full_precision, l2norm
from reference.ops._recurrent import recurrent_scan
from reference.ops._scan import chunk_scan
from reference.ops.shapes import (
    check_cu_seqlens,
    check_groups,
    check_same,
    check_shapes,
    check_state,
    check_values,
)

Result = tuple[Tensor, Tensor | None]


def run_recurrent(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor | None,
    beta: Tensor | None,
    g_axes: str,
    *,
    scale: float | None,
    initial_state: Tensor | None,
    output_final_state: bool,
    use_qk_l2norm_in_kernel: bool,
    cu_seqlens: Tensor | None,
) -> Result:
    """One token after the other: the definition that everything else is tested against."""
    bounds, scale = _check(q, k, v, g, beta, g_axes, scale, initial_state, cu_seqlens)
    with full_precision(v):
        q, k, g = _prepare(q, k, v, g, use_qk_l2norm_in_kernel)
        o, final_state = recurrent_scan(q, k, v, g, beta, initial_state, scale, bounds)
    return o, final_state if output_final_state else None


def run_chunked(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor | None,
    beta: Tensor | None,
    g_axes: str,
    *,
    scale: float | None,
    initial_state: Tensor | None,
    output_final_state: bool,
    use_qk_l2norm_in_kernel: bool,
    chunk_size: int,
    cu_seqlens: Tensor | None,
) -> Result:
    """Chunk after chunk: the same numbers up to rounding, in matrix products."""
    check_positive_int("chunk_size", chunk_size)
    bounds, scale = _check(q, k, v, g, beta, g_axes, scale, initial_state, cu_seqlens)
    with full_precision(v):
        q, k, g = _prepare(q, k, v, g, use_qk_l2norm_in_kernel)
        o, final_state = chunk_scan(q, k, v, g, beta, initial_state, scale, chunk_size, bounds)
    return o, final_state if output_final_state else None


def _check(q, k, v, g, beta, g_axes, scale, initial_state, cu_seqlens) -> tuple[list[int], float]:
    tensors = {"q": (q, "B T H Dk"), "k": (k, "B T H Dk"), "v": (v, "B T HV Dv")}
    sizes = check_shapes({**tensors, "g": (g, g_axes), "beta": (beta, "B T HV")})
    check_groups(sizes)
    check_same("dtype", q=q, k=k, v=v)
    bounds = check_cu_seqlens(cu_seqlens, sizes)
    check_state(initial_state, sizes, len(bounds) - 1 if cu_seqlens is not None else sizes["B"])
    check_same("device", q=q, k=k, v=v, g=g, beta=beta, initial_state=initial_state)
    scale = check_scale(scale, sizes["Dk"])
    check_values(g, q=q, k=k, v=v, beta=beta, initial_state=initial_state)
    return bounds, scale


def _prepare(q, k, v, g, use_qk_l2norm_in_kernel) -> tuple[Tensor, Tensor, Tensor]:
    if use_qk_l2norm_in_kernel:
        q, k = l2norm(q), l2norm(k)
    if g is None:  # nothing fades
        g = torch.zeros(1, dtype=inner_dtype(v), device=v.device).expand(v.shape[:3])
    return q, k, g


def check_scale(scale: float | None, Dk: int) -> float:
    """The factor of the scores; None means Dk**-0.5."""
    if scale is None:
        return Dk**-0.5
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not math.isfinite(scale):
        raise ValueError(f"scale: expected a finite number or None (Dk**-0.5), got {scale!r}")
    return float(scale)
