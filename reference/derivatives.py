"""Backward passes written by hand: what they promise about derivatives of derivatives."""

from collections.abc import Callable
from functools import wraps

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

TWICE = (
    "second derivatives are not implemented here, only in the recurrent forms (recurrent_*): trying to differentiate "
    "twice a function that was marked with @once_differentiable"
)


def first_derivative_only(backward: Callable) -> Callable:
    """For the backward of a torch.autograd.Function whose own derivative isn't written: whoever asks for it gets a
    RuntimeError, never a wrong number.

    torch's once_differentiable notices only derivatives with respect to the incoming gradient. Where that is a
    constant, as behind a sum, the second derivative with respect to the inputs would silently be zero.
    """
    once = once_differentiable(backward)

    @wraps(backward)
    def checked(ctx, *gradients):
        if torch.compiler.is_compiling() or not (torch.is_grad_enabled() and any(ctx.needs_input_grad)):
            return once(ctx, *gradients)
        with torch.no_grad():
            found = backward(ctx, *gradients)
        found = found if isinstance(found, tuple) else (found,)
        there = [x for x in found if x is not None]
        causes = [x for x in (*ctx.saved_tensors, *gradients) if x is not None and x.requires_grad]
        marked = iter(_Refuse.apply(len(there), *there, *causes))
        return tuple(None if x is None else next(marked) for x in found)

    return checked


class _Refuse(torch.autograd.Function):
    """The first n tensors as they are; whoever goes back through them to what they were made of gets an error."""

    @staticmethod
    def forward(ctx, n: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(x.view_as(x) for x in tensors[:n])

    @staticmethod
    def backward(ctx, *gradients: Tensor) -> None:
        raise RuntimeError(TWICE)
