"""The matrix product that most of a model's time goes to."""

import platform

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

# Below this many weights the call costs more than the product.
WORTH_IT = 2**16
HAS_ONEDNN = platform.machine().lower() in ("x86_64", "amd64") and torch.backends.mkldnn.is_available()


class Projection(nn.Linear):
    """nn.Linear whose float32 products on x86 processors are oneDNN's; everything else is nn.Linear's own.

    PyTorch gives these products to MKL, which on AMD's processors was measured at half of oneDNN's speed, and at less
    than half for a single token, where it keeps to one thread. oneDNN comes with PyTorch: torch.compile uses this same
    call. `torch.backends.mkldnn.flags(enabled=False)` turns it off.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not self._suits(x):
            return super().forward(x)
        if torch.is_grad_enabled() and (x.requires_grad or self.weight.requires_grad):
            y = _Product.apply(x, self.weight)
            return y if self.bias is None else y + self.bias
        return _product(x, self.weight, self.bias)

    def _suits(self, x: Tensor) -> bool:
        plain = type(x) is Tensor and type(self.weight) in (Tensor, nn.Parameter)  # no tensor of another framework
        if not plain or not HAS_ONEDNN or torch.compiler.is_compiling():
            return False
        if x.dtype != torch.float32 or self.weight.dtype != torch.float32 or x.device.type != "cpu":
            return False
        big = self.weight.numel() >= WORTH_IT and x.numel() > 0
        return big and torch.backends.mkldnn.enabled and not torch.is_autocast_enabled("cpu")


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return _product(x, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx, dy):
        x, weight = ctx.saved_tensors
        dx = _product(dy, weight.t()) if ctx.needs_input_grad[0] else None
        dw = dy.flatten(0, -2).t() @ x.flatten(0, -2) if ctx.needs_input_grad[1] else None
        return dx, dw


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
