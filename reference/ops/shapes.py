"""Checks of arguments, before any work: an error names the argument, what came and what was expected."""

import math
from functools import cache
from itertools import pairwise

import torch
from torch import Tensor

from reference.arguments import NotANumber, cut_short
from reference.derivatives import is_transformed

LARGEST_SCALE = 1e300  # a whole number can be longer than any float
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def check_shapes(arguments: dict[str, tuple[object, str]], optional: tuple[str, ...] = ()) -> dict[str, int]:
    """Bind axis names to sizes and return them.

    arguments: name -> (tensor, axes), the axes in words, such as "B T H Dk". optional: names that may be None, and
    are passed over then. The same axis name must have the same size everywhere. Raises TypeError, ValueError.
    """
    sizes: dict[str, int] = {}
    for name, (x, axes) in arguments.items():
        if x is None and name in optional:
            continue
        if not isinstance(x, Tensor):
            raise TypeError(f"{name}: expected a tensor, got {type(x).__name__}")
        if x.layout != torch.strided or x.is_nested:
            raise TypeError(f"{name}: expected a dense tensor, got {'a nested one' if x.is_nested else x.layout}")
        if x.dtype not in FLOATS:
            raise TypeError(f"{name}: expected a floating dtype, got {x.dtype}")
        letters = _letters(axes)
        fits = x.dim() == len(letters)
        fits = fits and all(sizes.setdefault(axis, n) == n for axis, n in zip(letters, x.shape, strict=True))
        if not fits:
            known = ", ".join(f"{axis}={n}" for axis, n in sizes.items())
            raise ValueError(
                f"{name}: expected axes [{', '.join(letters)}], got shape {list(x.shape)} (so far {known})"
            )
        if 0 in x.shape:
            raise ValueError(f"{name}: every axis needs at least one entry, got shape {list(x.shape)}")
    return sizes


@cache
def _letters(axes: str) -> list[str]:
    return axes.split()


def check_device(**tensors: Tensor | None) -> None:
    """All tensors share the first one's device. Raises ValueError."""
    (first, reference), *rest = tensors.items()
    for name, x in rest:
        if x is not None and x.device != reference.device:
            raise ValueError(f"{name}: expected {first}'s device {reference.device}, got {x.device}")


def check_groups(sizes: dict[str, int]) -> None:
    """Every query/key head serves HV / H value heads."""
    if sizes["HV"] % sizes["H"]:
        raise ValueError(
            f"v: the number of value heads must be a multiple of q's {sizes['H']} heads, got {sizes['HV']}"
        )


def check_values(g: Tensor | None, **tensors: Tensor | None) -> None:
    """No argument holds NaN or infinity, and a log decay is never positive (-inf is a full reset).

    An infinite value would be multiplied by the zeros above the diagonal of a chunk, and spoil the tokens before it.

    Values can't be looked at while torch.compile traces or a CUDA graph is captured, and tensors on "meta" have none:
    such a call skips this check. Inside torch.func.vmap an index in the message begins with the sample's.
    One sum per tensor finds such an entry at the price of one read (a maximum is NaN too where one entry is); only
    then is the tensor searched.
    """
    first = next(iter(tensors.values()))
    if torch.compiler.is_compiling() or _is_captured(first) or first.is_meta:
        return
    if is_transformed():
        _Look.apply(tuple(tensors), g, *tensors.values())
    else:
        _look_at_values(g, tensors)


class _Look(torch.autograd.Function):
    """Inside torch.func a tensor has no values to look at; a Function's vmap is given those that have."""

    @staticmethod
    def forward(names, g, *tensors):
        _look_at_values(g, dict(zip(names, tensors, strict=True)))
        return torch.zeros(())

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.mark_non_differentiable(output)

    @staticmethod
    def vmap(info, in_dims, *inputs):
        return _Look.apply(*inputs), None

    @staticmethod
    def jvp(ctx, *tangents):
        return None


def _look_at_values(g: Tensor | None, tensors: dict[str, Tensor | None]) -> None:
    largest = None if g is None else g.detach().max().item()
    for name, x in {**tensors, "g": g}.items():
        suspect = math.isnan(largest) if name == "g" and g is not None else _sum_is_no_number(x)
        wrong = None if not suspect else x.isnan() if name == "g" else ~x.isfinite()
        if wrong is not None and wrong.any():
            where = wrong.nonzero()[0].tolist()
            found = "NaN" if x.isnan().any() else "infinity"
            raise NotANumber(f"{name}: expected numbers, got {found} (first at index {where})")
    if largest is not None and largest > 0:
        raise ValueError(f"g: a log decay must be <= 0, got {largest:.4g} (did you pass exp(g)?)")


def _is_captured(x: Tensor | None) -> bool:
    return x is not None and x.is_cuda and torch.cuda.is_current_stream_capturing()


def _sum_is_no_number(x: Tensor | None) -> bool:
    return x is not None and not math.isfinite(x.detach().sum().item())


def check_scale(scale: float | None, Dk: int) -> float:
    """The factor of the scores; None means Dk**-0.5. Raises ValueError."""
    if scale is None:
        return Dk**-0.5
    is_number = isinstance(scale, int | float) and not isinstance(scale, bool)
    if not is_number or not abs(scale) < LARGEST_SCALE:
        raise ValueError(f"scale: expected a finite number or None (Dk**-0.5), got {cut_short(scale)}")
    return float(scale)


def check_cu_seqlens(cu_seqlens: Tensor | None, sizes: dict[str, int]) -> list[int]:
    """The boundaries [0, ..., T] of the sequences that are packed along T; [0, T] when there is one per row."""
    if cu_seqlens is None:
        return [0, sizes["T"]]
    if (
        not isinstance(cu_seqlens, Tensor)
        or cu_seqlens.dtype not in (torch.int32, torch.int64)
        or cu_seqlens.dim() != 1
    ):
        raise TypeError("cu_seqlens: expected a 1-d int32 or int64 tensor of boundaries [0, ..., T]")
    if sizes["B"] != 1:
        raise ValueError(f"cu_seqlens: packed sequences need batch size B = 1, got {sizes['B']}")
    if cu_seqlens.is_meta:
        raise TypeError("cu_seqlens: expected a tensor with values, got one on the device meta")
    bounds = cu_seqlens.tolist()
    rising = all(a <= b for a, b in pairwise(bounds))  # equal ones: an empty sequence
    if len(bounds) < 2 or bounds[0] != 0 or bounds[-1] != sizes["T"] or not rising:
        raise ValueError(f"cu_seqlens: expected rising boundaries from 0 to T = {sizes['T']}, got {cut_short(bounds)}")
    return bounds


def check_state(state: Tensor | None, sizes: dict[str, int], n_sequences: int) -> None:
    """initial_state is [B, HV, Dk, Dv], with B the number of packed sequences when there are several."""
    if state is None:
        return
    wanted = [n_sequences, sizes["HV"], sizes["Dk"], sizes["Dv"]]
    check_shapes({"initial_state": (state, "B HV Dk Dv")})
    if list(state.shape) != wanted:
        raise ValueError(f"initial_state: expected [B, HV, Dk, Dv] = {wanted}, got {list(state.shape)}")


def check_left_padding(left_padding: object, B: int, S: int, device: torch.device) -> None:
    """left_padding is None or [B], whole numbers from 0 to the S keys. Raises TypeError, ValueError."""
    if left_padding is None:
        return
    if not isinstance(left_padding, Tensor) or left_padding.dtype not in (torch.int32, torch.int64):
        what = left_padding.dtype if isinstance(left_padding, Tensor) else type(left_padding).__name__
        raise TypeError(f"left_padding: expected an int32 or int64 tensor [B], got {what}")
    if list(left_padding.shape) != [B]:
        raise ValueError(f"left_padding: expected [B] = [{B}], got {list(left_padding.shape)}")
    if left_padding.device != device:
        raise ValueError(f"left_padding: expected q's device {device}, got {left_padding.device}")
    if torch.compiler.is_compiling() or is_transformed() or left_padding.is_meta or _is_captured(left_padding):
        return
    if not 0 <= left_padding.min().item() <= left_padding.max().item() <= S:
        raise ValueError(f"left_padding: expected 0 to the {S} keys, got {cut_short(left_padding.tolist())}")


def check_lightning_decay(g: object, v: object) -> Tensor:
    """A fixed decay per head, g [HV], is spread over v's batch and time; any other g is left to check_shapes."""
    if isinstance(g, Tensor) and g.dim() == 1 and isinstance(v, Tensor) and v.dim() == 4:
        check_shapes({"v": (v, "B T HV Dv"), "g": (g, "HV")})
        return g.expand(v.shape[:3])
    return g
