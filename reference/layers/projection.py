"""The matrix product that most of a model's time goes to."""

import os
import platform
import time
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reference.derivatives import has_tangent, is_transformed

# Below this many weights the call costs more than the product.
WORTH_IT = 2**16
ROW_BLOCKS = 8
LIBRARY_SWITCH = "REFERENCE_PRODUCTS"
HAS_ONEDNN = platform.machine().lower() in ("x86_64", "amd64") and torch.backends.mkldnn.is_available()


def onednn_product(x: Tensor, weight: Tensor) -> Tensor:
    """x [..., in] @ weight [out, in]^T in float32 by oneDNN."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")


PRODUCTS = {"onednn": onednn_product, "torch": F.linear}


@cache
def product_library() -> str:
    """Which of PRODUCTS a Projection takes: "onednn" where there is one, unless REFERENCE_PRODUCTS says "torch". The
    variable is read once in a process.

    A rule and no measurement: the two round differently, so that one process must not choose otherwise than the next,
    or a run that was killed would go on with other weights. `make doctor` measures both. Raises ValueError if the
    variable holds another word.
    """
    chosen = os.environ.get(LIBRARY_SWITCH, "").lower() or "onednn"
    if chosen not in PRODUCTS:
        raise ValueError(f"{LIBRARY_SWITCH}: expected one of {list(PRODUCTS)}, got {os.environ[LIBRARY_SWITCH]!r}")
    return chosen if HAS_ONEDNN else "torch"


@torch.no_grad()
def library_rates(tokens: int = 256, width: int = 512) -> dict[str, float]:
    """GFLOP/s of each library here and now, with as many threads as PyTorch uses: the best of seven turns."""
    x, weight = torch.randn(tokens, width), torch.randn(width, width)
    names = list(PRODUCTS) if HAS_ONEDNN else ["torch"]
    best = dict.fromkeys(names, float("inf"))
    for _ in range(7):
        for name in names:
            began = time.perf_counter()
            PRODUCTS[name](x, weight)
            best[name] = min(best[name], time.perf_counter() - began)
    return {name: 2e-9 * tokens * width**2 / seconds for name, seconds in best.items()}


class Projection(nn.Linear):
    """nn.Linear whose float32 products on x86 processors are oneDNN's; everything else is nn.Linear's own.

    PyTorch gives these products to MKL. oneDNN, which comes with PyTorch, was never slower from 64 tokens on: between
    1.05 and 1.4 times as fast on an AMD EPYC with AVX-512, twice as fast on an older one. MKL keeps to one thread for a
    single token, too: a batch of blocks of rows takes all threads. torch.compile uses the same call as oneDNN.
    REFERENCE_PRODUCTS=torch in the environment, or `torch.backends.mkldnn.flags(enabled=False)`, turns this off.
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
            y = onednn_product(x, weight)
        return y if bias is None else y + bias


def _suits(x: Tensor, weight: Tensor) -> bool:
    if weight.numel() < WORTH_IT or x.dtype != torch.float32 or weight.dtype != torch.float32:
        return False
    if is_transformed() or has_tangent(x, weight):
        return False  # torch.func and forward mode know nn.Linear's own product only
    if type(x) is not Tensor or type(weight) not in (Tensor, nn.Parameter) or torch.compiler.is_compiling():
        return False  # a sharded or traced tensor
    here = x.is_cpu and x.numel() > 0 and weight.is_contiguous()
    switches = product_library() == "onednn" and torch.backends.mkldnn.enabled
    return here and switches and not torch.is_autocast_enabled("cpu")


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return onednn_product(x, weight)

    @staticmethod
    def backward(ctx, dy):
        x, weight = ctx.saved_tensors
        if torch.is_grad_enabled():  # a graph of the gradient is wanted: in products that have one
            return dy @ weight, dy.flatten(0, -2).t() @ x.flatten(0, -2)
        dx = onednn_product(dy, weight.t()) if ctx.needs_input_grad[0] else None
        dw = onednn_product(dy.flatten(0, -2).t(), x.flatten(0, -2).t()) if ctx.needs_input_grad[1] else None
        return dx, dw
