"""The matrix product that most of a model's time goes to."""

import platform

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reference.derivatives import has_tangent, is_transformed

# Below this many weights the call costs more than the product.
WORTH_IT = 2**16
ROW_BLOCKS = 8
HAS_ONEDNN = platform.machine().lower() in ("x86_64", "amd64") and torch.backends.mkldnn.is_available()


class Projection(nn.Linear):
    """nn.Linear whose float32 products on x86 processors are oneDNN's; everything else is nn.Linear's own.

    PyTorch gives these products to MKL, which on AMD's processors was measured at half of oneDNN's speed, and which
    keeps to one thread for a single token: a batch of blocks of rows takes all threads. oneDNN comes with PyTorch;
    torch.compile uses the same call. `torch.backends.mkldnn.flags(enabled=False)` turns all of this off.
    """

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.weight, self.bias
        if not _suits(x, weight):
            return F.linear(x, weight, bias)
        if torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad):
            y = _Product.apply(x, weight)
        elif x.numel() == x.shape[-1] and weight.shape[0] % ROW_BLOCKS == 0:
            blocks = weight.view(ROW_BLOCKS, -1, x.numel())
            column = x.reshape(1, -1).t()  # these strides keep bmm from the slower of its two ways
            y = torch.bmm(blocks, column.expand(ROW_BLOCKS, -1, 1)).view(*x.shape[:-1], -1)
        else:
            y = _product(x, weight)
        return y if bias is None else y + bias


def _suits(x: Tensor, weight: Tensor) -> bool:
    if not HAS_ONEDNN or weight.numel() < WORTH_IT or x.dtype != torch.float32 or weight.dtype != torch.float32:
        return False
    if is_transformed() or has_tangent(x, weight):
        return False  # torch.func and forward mode know nn.Linear's own product only
    if type(x) is not Tensor or type(weight) not in (Tensor, nn.Parameter) or torch.compiler.is_compiling():
        return False  # a sharded or traced tensor
    here = x.is_cpu and x.numel() > 0 and weight.is_contiguous()
    return here and torch.backends.mkldnn.enabled and not torch.is_autocast_enabled("cpu")


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return _product(x, weight)

    @staticmethod
    def backward(ctx, dy):
        x, weight = ctx.saved_tensors
        if torch.is_grad_enabled():  # a graph of the gradient is wanted: in products that have one
            return dy @ weight, dy.flatten(0, -2).t() @ x.flatten(0, -2)
        dx = _product(dy, weight.t()) if ctx.needs_input_grad[0] else None
        dw = _product(dy.flatten(0, -2).t(), x.flatten(0, -2).t()) if ctx.needs_input_grad[1] else None
        return dx, dw


def _product(x: Tensor, weight: Tensor) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
