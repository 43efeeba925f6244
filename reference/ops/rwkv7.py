"""RWKV-7: what is removed is put back under another key than what is written; two steps of one rule (chapter 03)."""

import torch
from torch import Tensor

from reference.arguments import check_positive_int
from reference.derivatives import is_transformed
from reference.dtypes import full_precision, inner_dtype, one_dtype
from reference.ops._run import Options, Result, run_operator
from reference.ops.shapes import check_device, check_shapes, check_values

LEAST_LOG_DECAY = -80.0  # e^80 is a float32 number, e^90 isn't


def recurrent_rwkv7(
    r: Tensor,
    w: Tensor,
    k: Tensor,
    v: Tensor,
    a: Tensor,
    b: Tensor,
    *,
    scale: float | None = 1.0,
    initial_state: Tensor | None = None,
    output_final_state: bool = False,
    cu_seqlens: Tensor | None = None,
) -> Result:
    """RWKV-7, one token at a time: fade, move what the old memory answers to a over to b, write v under k.

        S_t = Diag(e^{w_t}) S_{t-1} + b_t (S_{t-1}^T a_t)^T + k_t v_t^T        o_t = scale · S_t^T r_t

    r                   [B, T, H, Dk] what other rules call q
    w                   [B, T, H, Dk] log decay, from -80 to 0; the model's own is above -e^{-1/2} = -0.61
    k                   [B, T, H, Dk] replacement key
    v                   [B, T, H, Dv]
    a, b                [B, T, H, Dk]; in the model a = -κ, κ the removal key of unit length, and b = κ ⊙ (a strength
                        in (0, 1) per channel, which the paper calls a)
    scale               factor of the scores; None means Dk**-0.5
    initial_state       [B, H, Dk, Dv]; None means zeros
    output_final_state  return the last state too
    cu_seqlens          int boundaries [0, ..., T] of sequences packed into B = 1; initial and final state are then
                        [number of sequences, H, Dk, Dv]

    One token is two steps of the rule with two keys: the first fades and moves, its p is -e^{-w} ⊙ a,
    since a reads the memory before it fades; the second writes and is read. So the time is that of two tokens.
    Returns (o [B, T, H, Dv] in v's dtype, final state [B, H, Dk, Dv] or None). Raises TypeError or ValueError that
    names the argument.
    Source: Peng et al. 2025 (RWKV-7, arXiv 2503.14456); names as fla's; chapter 03, (3.14).
    """
    options = Options(scale, initial_state, output_final_state, False, cu_seqlens)
    return _two_steps(r, w, k, v, a, b, options, None)


def chunk_rwkv7(
    r: Tensor,
    w: Tensor,
    k: Tensor,
    v: Tensor,
    a: Tensor,
    b: Tensor,
    *,
    scale: float | None = 1.0,
    initial_state: Tensor | None = None,
    output_final_state: bool = False,
    chunk_size: int = 64,
    cu_seqlens: Tensor | None = None,
) -> Result:
    """RWKV-7 in chunks of chunk_size steps, two for each token: (4.4) to (4.6) with two keys, as chunk_gdn2 has them.

    Arguments, result and errors as recurrent_rwkv7 has them, and
    chunk_size               a whole number >= 1; it changes only the rounding, and the time

    Source: Peng et al. 2025 (RWKV-7, arXiv 2503.14456); chapter 04, (4.4) to (4.6) and (4.8).
    """
    check_positive_int("chunk_size", chunk_size)
    options = Options(scale, initial_state, output_final_state, False, cu_seqlens)
    return _two_steps(r, w, k, v, a, b, options, chunk_size)


def _two_steps(r, w, k, v, a, b, options: Options, chunk_size: int | None) -> Result:
    keys = {name: (x, "B T H Dk") for name, x in (("r", r), ("w", w), ("k", k), ("a", a), ("b", b))}
    sizes = check_shapes({**keys, "v": (v, "B T H Dv")})
    check_device(r=r, w=w, k=k, v=v, a=a, b=b)
    check_values(None, r=r, k=k, v=v, a=a, b=b)
    _check_log_decay(w)
    bounds = None if options.cu_seqlens is None else 2 * options.cu_seqlens
    kept, (r, k, v, a, b) = v.dtype, one_dtype(r, k, v, a, b)
    with full_precision(v):
        wide = inner_dtype(v)
        p = -a.to(wide) * (-w.to(wide)).exp()
        q, keys, values, g, p = (
            torch.stack(pair, 2).flatten(1, 2)
            for pair in (
                (torch.zeros_like(r), r),
                (b, k),
                (torch.zeros_like(v), v),
                (w, torch.zeros_like(w)),
                (p, torch.zeros_like(p)),
            )
        )
        beta = torch.ones(1, dtype=wide, device=v.device).expand(values.shape[:3])
    o, state = run_operator(
        q,
        keys,
        values,
        g,
        beta,
        options._replace(cu_seqlens=bounds),
        g_axes="B T HV Dk",
        has=("p", "g", "beta"),
        chunk_size=chunk_size,
        p=p,
    )
    return o.unflatten(1, (sizes["T"], 2))[:, :, 1].to(kept), state


def _check_log_decay(w: Tensor) -> None:
    """ValueError where e^{-w} would leave the numbers or e^w would grow; where values can't be looked at, nothing."""
    if torch.compiler.is_compiling() or is_transformed() or w.is_meta:
        return
    least, most = (x.item() for x in w.detach().aminmax())
    if not LEAST_LOG_DECAY <= least <= most <= 0:
        raise ValueError(f"w: expected log decays from {LEAST_LOG_DECAY:g} to 0, got {least:.4g} to {most:.4g}")
