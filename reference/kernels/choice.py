"""Kernel or PyTorch? What decides on a GPU, in one place, so that `doctor` and a warning can say why.

REFERENCE_KERNELS=off in the environment turns the kernels off. This module imports neither Triton nor a kernel.
"""

import importlib
import os
import warnings
from types import ModuleType

import torch
from torch import Tensor

SWITCH = "REFERENCE_KERNELS"
# Powers of two, as Triton's tiles are, from 16, as tensor cores' are; a program holds all of Dk, and a part of Dv.
SIZES = {"Dk": (16, 32, 64, 128), "Dv": (16, 32, 64, 128, 256)}
# Bytes of shared memory for a program: `bench kernels --compile` finds up to 112 KiB; float32 inputs may take more.
LEAST_SHARED = 160 * 2**10
LEAST_CAPABILITY = (8, 0)  # what Triton supports, and the first GPUs with bfloat16
_said: set[str] = set()


def machine_lacks() -> str:
    """Why no kernel can run on this machine's first GPU, in words for the end of a sentence; "" if one can."""
    if os.environ.get(SWITCH, "").lower() in ("off", "0", "no"):
        return f"{SWITCH}={os.environ[SWITCH]} turns them off"
    try:
        importlib.import_module("triton")
    except ImportError as error:
        return f"Triton can't be imported ({error})"
    capability = torch.cuda.get_device_capability()
    if capability < LEAST_CAPABILITY:
        return f"the GPU has compute capability {capability[0]}.{capability[1]}, and the kernels need 8.0"
    shared = torch.cuda.get_device_properties().shared_memory_per_block_optin
    if shared < LEAST_SHARED:
        return f"the GPU has {shared // 2**10} KiB of shared memory for a program, and the kernels need 160"
    return ""


def call_lacks(q: Tensor, v: Tensor, beta: Tensor | None, forward_alone: bool = False) -> str:
    """Why no kernel suits these arguments, heads and channels on the last two axes; "" if one does. forward_alone: the
    call is no decoding step, and nobody wants its gradient."""
    if beta is None and not forward_alone:
        return "additive rules have kernels for the forward pass of a text alone"
    if v.dtype == torch.float64:
        return "the kernels compute in float32, and the inputs are float64"
    for name, D in (("Dk", q.shape[-1]), ("Dv", v.shape[-1])):
        if D not in SIZES[name]:
            return f"{name} is {D}, and the kernels take {', '.join(map(str, SIZES[name]))}"
    if torch.compiler.is_compiling():
        return "torch.compile traces the PyTorch form"
    return ""


def takes_kernel(q: Tensor, v: Tensor, beta: Tensor | None, forward_alone: bool = False) -> bool:
    """Whether a call on a GPU goes to a kernel. If it doesn't, one warning per process and reason says so."""
    why = call_lacks(q, v, beta, forward_alone) or machine_lacks()
    if why and why not in _said and SWITCH not in why and not torch.compiler.is_compiling():
        _said.add(why)
        warnings.warn(f"reference.ops runs its slower PyTorch form on this GPU: {why}", stacklevel=2)
    return not why


def host() -> ModuleType:
    """reference.kernels.host, imported at the first call: only a machine with a GPU has use for it."""
    return importlib.import_module("reference.kernels.host")
