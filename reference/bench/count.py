"""Counting instead of timing: the flops of the products that really run, and the bytes that each operation touches."""

from collections.abc import Callable
from math import prod

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

aten = torch.ops.aten


def _batched(a: tuple, x: tuple, y: tuple, **_) -> int:
    return 2 * prod(x) * y[-1]


def _attention(q: tuple, k: tuple, v: tuple, dropout: float = 0.0, is_causal: bool = False, **_) -> int:
    B, H, T, D = q
    pairs = T * (T + 1) // 2 if is_causal else T * k[2]  # the kernel skips what is_causal hides, not what a mask hides
    return 2 * B * H * pairs * (D + v[3])


# What torch's counter passes over: fused attention on a CPU, products in place, a triangular system, an outer product,
# oneDNN's products.
UNCOUNTED = {
    aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    aten.baddbmm_: _batched,
    aten.addcmul_: lambda a, x, y, **_: 2 * prod(a),
    aten.linalg_solve_triangular: lambda A, B, **_: prod(B) * A[-1],
    torch.ops.mkldnn._linear_pointwise: lambda x, weight, *_, **__: 2 * prod(x) * weight[0],
}


def count_flops(work: Callable[[], object]) -> int:
    """Flops of all products that `work` runs: two per multiply-add. What is done number by number is left out."""
    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=UNCOUNTED) as counter:
        work()
    return counter.get_total_flops()


class Traffic(TorchDispatchMode):
    """Inside this context, `read` and `written` add up the bytes of each operation's operands and results.

    Views move nothing; a tensor counts with what its storage holds at most, however often it is repeated. That is what
    separate operations touch; a fused kernel touches less, and a processor's caches keep part of it from memory.
    """

    def __init__(self):
        super().__init__()
        self.read = self.written = 0

    @property
    def total(self) -> int:
        return self.read + self.written

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        name = function.overloadpacket.__name__
        if function.is_view or name.startswith(("empty", "_unsafe_view", "_reshape_alias", "detach", "alias")):
            return result
        inputs = {key: x for key, x in (kwargs or {}).items() if key != "out"}
        self.read += sum(_bytes_touched(x) for x in tree_leaves((args, inputs)))
        self.written += sum(_bytes_touched(x) for x in tree_leaves(result))
        return result


def _bytes_touched(x: object) -> int:
    if not isinstance(x, torch.Tensor):
        return 0
    return min(x.numel() * x.element_size(), x.untyped_storage().nbytes())
