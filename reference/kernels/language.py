"""The language of the kernels in this folder: Triton where it can be imported, else the book's emulation of it.

The kernels' source is the same for both. They are launched on a GPU by Triton, on a CPU by Triton's interpreter where
TRITON_INTERPRET=1 was set before Triton was imported, and by reference.kernels.emulation everywhere else.
"""

import os
from collections.abc import Callable

from torch import Tensor

from reference.kernels import emulation

try:
    import triton
    import triton.language
except ImportError:
    triton, tl = None, emulation.tl
else:
    tl = triton.language


def jit(kernel: Callable) -> Callable:
    """triton.jit, or the kernel itself, marked, where there is no Triton."""
    if triton is not None:
        return triton.jit(kernel)
    kernel.is_kernel = True
    return kernel


def runner(x: Tensor) -> str:
    """Who runs a kernel on this tensor: "triton", "interpreter" or "emulation"."""
    if x.is_cuda:
        return "triton"
    interpreted = triton is not None and os.environ.get("TRITON_INTERPRET") == "1"
    return "interpreter" if interpreted else "emulation"


def run_programs(
    kernel: Callable, grid: tuple[int, ...], *arguments: object, num_warps: int = 4, **constants: object
) -> None:
    """Run a kernel on the programs of a grid, where its first argument lives. An empty grid runs nothing."""
    if 0 in grid:
        return
    if runner(arguments[0]) == "emulation":
        emulation.emulate(kernel, grid, *arguments, **constants)
    else:
        # one stage: loads that run ahead would take two to three times the shared memory
        kernel[grid](*arguments, num_warps=num_warps, num_stages=1, **constants)
