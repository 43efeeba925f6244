"""In which floating dtype the book computes what an input's own dtype is too short for."""

from functools import reduce

import torch
from torch import Tensor


def inner_dtype(x: Tensor) -> torch.dtype:
    """float64 for float64, float32 for everything shorter."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def one_dtype(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors in the shortest dtype that holds all of theirs: float32 keys beside bfloat16 values give float32."""
    dtype = reduce(torch.promote_types, (x.dtype for x in tensors))
    return tuple(x.to(dtype) for x in tensors)


def full_precision(x: Tensor) -> torch.autocast:
    """A context in which autocast doesn't change the operators' own choice of dtypes."""
    device = "cpu" if x.is_meta else x.device.type  # tensors without values have no autocast of their own
    return torch.autocast(device, enabled=False)
