"""What every operator of the family does around its equations: check, prepare, run one of the two forms."""

from typing import NamedTuple

import torch
from torch import Tensor

from reference.arguments import cut_short
from reference.derivatives import is_differentiated, is_transformed
from reference.dtypes import full_precision, inner_dtype, one_dtype
from reference.kernels import choice
from reference.ops._chunked import chunked_form
from reference.ops._recurrent import recurrent_form, repeat_heads
from reference.ops.shapes import (
    check_cu_seqlens,
    check_device,
    check_groups,
    check_scale,
    check_shapes,
    check_state,
    check_values,
)

Result = tuple[Tensor, Tensor | None]


class Options(NamedTuple):
    """The keywords that all operators share, with the meaning that the public docstrings give them."""

    scale: float | None
    initial_state: Tensor | None
    output_final_state: bool
    use_qk_l2norm_in_kernel: bool
    cu_seqlens: Tensor | None


def run_operator(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor | None,
    beta: Tensor | None,
    options: Options,
    *,
    g_axes: str = "B T HV",
    has: tuple[str, ...] = ("g", "beta"),
    chunk_size: int | None = None,
    p: Tensor | None = None,
    b: Tensor | None = None,
    w: Tensor | None = None,
) -> Result:
    """Run the member of the family that `has` names, in chunks, or token by token if chunk_size is None.

    p [B, T, H, Dk]: keys of their own that read what is erased. b [B, T, HV, Dk], w [B, T, HV, Dv]: instead of beta,
    strengths per channel of what is erased and of what is written.
    """
    bounds, scale = _check(q, k, v, {"g": g, "beta": beta, "p": p, "b": b, "w": w}, options, g_axes, has)
    dtype = v.dtype
    q, k, v = one_dtype(q, k, v)
    with full_precision(v):
        if options.use_qk_l2norm_in_kernel:
            q, k = l2norm(q), l2norm(k)
        if g is None:  # nothing fades
            g = torch.zeros(1, dtype=inner_dtype(v), device=v.device).expand(v.shape[:3])
        if "b" in has:  # what the faded memory holds in the channels b is replaced by w ⊙ v
            wide = inner_dtype(v)
            p, v = b.to(wide) * repeat_heads(k.to(wide), v.shape[2]), w.to(wide) * v.to(wide)
            beta = torch.ones(1, dtype=wide, device=v.device).expand(v.shape[:3])
        inputs = (q, k, v, g, beta, p, options.initial_state, scale, bounds)
        if chunk_size is None:
            o, final_state = recurrent_form(*inputs)
        elif (
            p is None
            and v.is_cuda
            and not is_transformed()
            and choice.takes_kernel(q, v, beta, not is_differentiated(*inputs[:7]))
        ):
            o, final_state = choice.host().kernel_form(
                q, k, v, g, beta, options.initial_state, scale, bounds, chunk_size
            )
        else:
            o, final_state = chunked_form(*inputs, chunk_size)
    return o.to(dtype), final_state if options.output_final_state else None


def _check(q, k, v, rest: dict, options: Options, g_axes: str, has: tuple[str, ...]) -> tuple[list[int], float]:
    """The boundaries of the packed sequences, and the scale; TypeError or ValueError before any work.

    rest: g, beta, p, b, w by name, of which an operator takes those that `has` names.
    """
    initial_state, cu_seqlens = options.initial_state, options.cu_seqlens
    tensors = {"q": (q, "B T H Dk"), "k": (k, "B T H Dk"), "v": (v, "B T HV Dv")}
    axes = {"g": g_axes, "beta": "B T HV", "p": "B T H Dk", "b": "B T HV Dk", "w": "B T HV Dv"}
    rest = {name: rest[name] for name in axes if name in has}
    sizes = check_shapes({**tensors, **{name: (x, axes[name]) for name, x in rest.items()}})
    check_groups(sizes)
    bounds = check_cu_seqlens(cu_seqlens, sizes)
    check_state(initial_state, sizes, len(bounds) - 1 if cu_seqlens is not None else sizes["B"])
    check_device(q=q, k=k, v=v, **rest, initial_state=initial_state)
    scale = check_scale(options.scale, sizes["Dk"])
    for name in ("output_final_state", "use_qk_l2norm_in_kernel"):
        if not isinstance(getattr(options, name), bool):
            raise TypeError(f"{name}: expected True or False, got {cut_short(getattr(options, name))}")
    check_values(rest.pop("g", None), q=q, k=k, v=v, **rest, initial_state=initial_state)
    return bounds, scale


def l2norm(x: Tensor, eps: float = 1e-6) -> Tensor:
    """x / sqrt(|x|^2 + eps) along the last axis, in float32 at least; its gradient at x = 0 is finite.

    Source: fla's l2norm, eps inside the root, as Qwen3-Next has it.
    """
    x = x.to(inner_dtype(x))
    return x * ((x * x).sum(-1, keepdim=True) + eps).rsqrt()
