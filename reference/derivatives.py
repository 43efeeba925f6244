"""Backward passes written by hand: what they promise to autograd and to torch.func.

A torch.autograd.Function of this book computes plain tensors, forward and backward. Its backward calls a second
Function, so that torch.func.vmap can take both apart, and a second derivative raises.
"""

from collections.abc import Callable

import torch
import torch.autograd.forward_ad as forward_ad
from torch import Tensor

TWICE = (
    "second derivatives are not implemented here, only in the recurrent forms (recurrent_*) and in PyTorch's own "
    "functions, such as conv1d: trying to differentiate twice a function that was marked with @once_differentiable"
)
NO_JVP = "forward-mode derivatives (torch.func.jvp, jacfwd, hessian, forward_ad) are not implemented"


def is_transformed() -> bool:
    """Whether the call runs inside torch.func: grad, vjp, vmap, jvp. There, a tensor doesn't tell who watches it."""
    return not torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active()


def is_differentiated(*tensors: Tensor | None) -> bool:
    """Whether somebody may want a derivative of what is computed from these tensors, of whatever kind."""
    if torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in tensors):
        return True
    return is_transformed() or has_tangent(*tensors)


def has_tangent(*tensors: Tensor | None) -> bool:
    """Whether a forward-mode derivative (torch.autograd.forward_ad) runs through one of the tensors."""
    if torch.compiler.is_compiling() or forward_ad._current_level < 0:
        return False
    return any(x is not None and forward_ad.unpack_dual(x).tangent is not None for x in tensors)


def refuse_transforms(name: str, instead: str) -> None:
    """Raise RuntimeError inside torch.func: `name` would give zero gradients or wait for other processes there."""
    if is_transformed():
        raise RuntimeError(f"{name}: torch.func can't transform it; use {instead}")


class BackwardByHand(torch.autograd.Function):
    """The backward pass of a Function, itself a Function of plain tensors: it has no derivative."""

    @staticmethod
    def setup_context(ctx, inputs: tuple, output: object) -> None:
        """Keeps nothing."""

    @staticmethod
    def backward(ctx, *gradients: Tensor) -> None:
        """Raises RuntimeError: a wrong second derivative, zero where the loss is linear, would be silent."""
        raise RuntimeError(TWICE)


def fold(x: Tensor | None, batch_axis: int | None, axis: int, batch_size: int) -> Tensor | None:
    """vmap's own axis of x becomes the outer part of `axis`, counted without it: n heads become batch_size * n."""
    if x is None:
        return None
    x = x.expand(batch_size, *x.shape) if batch_axis is None else x.movedim(batch_axis, 0)
    return x.movedim(0, axis).flatten(axis, axis + 1)


def unfold(x: Tensor | None, axis: int, batch_size: int) -> Tensor | None:
    """The inverse of fold; vmap's axis is then `axis` itself."""
    return None if x is None else x.unflatten(axis, (batch_size, -1))


def for_torch_func(
    function: type,
    axes: tuple[int, ...],
    out_axes: tuple[int, ...],
    no_jvp: str,
    prepare: Callable[..., tuple] | None = None,
) -> Callable[..., object]:
    """`apply` of a torch.autograd.Function on independent heads or channels, with what torch.func asks of it.

    vmap makes more heads of its samples, and one call of all; forward-mode derivatives raise NotImplementedError with
    the text no_jvp. axes, out_axes: for each tensor among the inputs and outputs, which come first there, the axis of
    the heads. prepare: what changes the inputs before vmap folds them. torch.compile doesn't take Functions with a
    jvp: it traces `function` itself. What torch.func asks for costs a small call some tenth of a millisecond, most of
    it to bind the arguments to forward's names, so a call outside goes a shorter way.
    """

    def vmap(info, in_dims: tuple, *inputs: object) -> tuple:
        inputs = inputs if prepare is None else prepare(*inputs)
        tensors, rest = inputs[: len(axes)], inputs[len(axes) :]
        folded = [fold(x, at, axis, info.batch_size) for x, at, axis in zip(tensors, in_dims, axes, strict=False)]
        outputs = extended.apply(*folded, *rest)
        if isinstance(outputs, Tensor):
            return unfold(outputs, out_axes[0], info.batch_size), out_axes[0]
        found = tuple(unfold(x, axis, info.batch_size) for x, axis in zip(outputs, out_axes, strict=False))
        return found, tuple(None if x is None else axis for x, axis in zip(found, out_axes, strict=False))

    def jvp(ctx, *tangents: Tensor) -> None:
        raise NotImplementedError(no_jvp)

    def forward(ctx, *inputs: object) -> object:
        outputs = function.forward(*inputs)
        function.setup_context(ctx, inputs, outputs)
        return outputs

    def apply(*inputs: object) -> object:
        if torch.compiler.is_compiling():
            return function.apply(*inputs)
        if is_transformed() or forward_ad._current_level >= 0:
            return extended.apply(*inputs)
        return short.apply(*inputs) if torch.is_grad_enabled() else function.forward(*inputs)

    extended = type(function.__name__, (function,), {"vmap": staticmethod(vmap), "jvp": staticmethod(jvp)})
    own = {"forward": staticmethod(forward), "backward": staticmethod(function.backward)}
    short = type(function.__name__, (torch.autograd.Function,), own)
    return apply
