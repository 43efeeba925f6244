"""In which floating dtype the book computes what an input's own dtype is too short for."""

import torch
from torch import Tensor


def inner_dtype(x: Tensor) -> torch.dtype:
    """float64 for float64, float32 for everything shorter."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def full_precision(x: Tensor) -> torch.autocast:
    """A context in which autocast doesn't change the operators' own choice of dtypes."""
    device = "cpu" if x.is_meta else x.device.type  # tensors without values have no autocast of their own
    return torch.autocast(device, enabled=False)
