"""The torch half of tools.last_bits: every operator passes a dispatch mode that reorders or jitters."""

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

# operator -> the positions of its two factors; a sum runs over the last axis of the first
PRODUCTS = {
    "mm": (0, 1), "bmm": (0, 1), "addmm": (1, 2), "baddbmm": (1, 2), "mv": (0, 1), "addmv": (1, 2), "dot": (0, 1),
    "_linear_pointwise": (0, 1),
}  # fmt: skip
SUMS = {"sum", "mean"}
JITTERED = {
    "exp", "log", "log1p", "expm1", "exp2", "log2", "tanh", "sigmoid", "silu", "gelu", "softplus",
    "log_sigmoid_forward", "sin", "cos", "rsqrt", "erf", "pow", "_softmax", "_log_softmax", "logsumexp", "cumsum",
    "linalg_vector_norm", "norm", "var", "std", "var_mean", "native_layer_norm", "_fused_rms_norm", "convolution",
    "linalg_solve_triangular", "triangular_solve", "_linalg_svd", "_linalg_eigh", "linalg_qr", "linalg_inv_ex",
    "_linalg_solve_ex", "linalg_lstsq", "addcmul", "addcdiv", "lerp", "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_flash_attention_for_cpu_backward", "_softmax_backward_data", "_log_softmax_backward_data",
    "silu_backward", "gelu_backward", "softplus_backward", "tanh_backward", "sigmoid_backward",
    "native_layer_norm_backward", "convolution_backward", "logaddexp", "logcumsumexp",
}  # fmt: skip

_modes: list[TorchDispatchMode] = []


def enter(seed: int) -> None:
    """Every torch operator from here on, in the thread of the kernel, forward and backward."""
    _modes.append(LastBits(seed))
    _modes[-1].__enter__()


class LastBits(TorchDispatchMode):
    """A context in which torch adds in other orders and its functions are off by a unit in the last place."""

    def __init__(self, seed: int):
        super().__init__()
        self.random = torch.Generator().manual_seed(seed)
        self.rows: dict[torch.dtype, Tensor] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        name, kwargs = func.overloadpacket.__name__, kwargs or {}
        if name in PRODUCTS and _plain(*(args[i] for i in PRODUCTS[name])):
            args = self.reordered(name, list(args))
        elif name in SUMS and _plain(args[0]) and args[0].dim():
            args = (self.shuffled(args[0], args[1] if len(args) > 1 else None), *args[1:])
        out = func(*args, **kwargs)
        plain_name = name.removesuffix("_")
        if plain_name in JITTERED:
            return self.jitter(out, in_place=name != plain_name or "out" in kwargs)
        return out

    def reordered(self, name: str, args: list) -> list:
        """The same factors with the terms of each sum in another order."""
        first, second = PRODUCTS[name]
        a, b = args[first], args[second]
        axis = b.dim() - 1 if name == "_linear_pointwise" else max(b.dim() - 2, 0)
        if a.shape[-1] == b.shape[axis]:
            order = self.order(a.shape[-1])
            args[first], args[second] = a.index_select(a.dim() - 1, order), b.index_select(axis, order)
        return args

    def shuffled(self, x: Tensor, axes: Any) -> Tensor:
        for axis in [axes] if isinstance(axes, int) else axes or range(x.dim()):
            x = x.index_select(axis, self.order(x.shape[axis]))
        return x

    def order(self, n: int) -> Tensor:
        return torch.randperm(n, generator=self.random)

    def jitter(self, out: Any, in_place: bool) -> Any:
        """Each float moved by -1, 0 or 1 units in the last place; values of few bits (0, 1, 0.25, ...) stay."""
        if isinstance(out, tuple | list):
            return type(out)(self.jitter(x, in_place) for x in out)
        if not _plain(out) or out.numel() == 0:
            return out
        scaled = out * 64
        moved = torch.where(scaled == scaled.round(), out, out * self.factors(out))
        return out.copy_(moved) if in_place else moved

    def factors(self, like: Tensor) -> Tensor:
        """A stretch, from a random place on, of a stored row of 1 - eps, 1 and 1 + eps: drawing afresh takes longer."""
        n, row = like.numel(), self.rows.get(like.dtype)
        if row is None or len(row) < 2 * n:
            signs = torch.randint(-1, 2, (max(2 * n, 1 << 16),), generator=self.random).to(like.dtype)
            row = self.rows[like.dtype] = 1 + signs * torch.finfo(like.dtype).eps
        begin = int(torch.randint(0, len(row) - n + 1, (), generator=self.random))
        return row[begin : begin + n].view(like.shape)


def _plain(*tensors: Any) -> bool:
    """Floats on the CPU; neither sharded nor fake ones, nor bfloat16, whose unit is far above an error of the sums."""
    kinds, dtypes = (Tensor, torch.nn.Parameter), (torch.float32, torch.float64)
    return all(type(t) in kinds and t.dtype in dtypes and t.device.type == "cpu" for t in tensors)
