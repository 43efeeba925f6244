"""The operators by name, in the words of test_gradients.py; see helpers.py, which does the work."""

import torch

from reference.ops import OPERATORS
from tests.ops.helpers import NAMES, error, inputs, random_state, recurrence

__all__ = ["NAMES", "chunk", "error", "independent", "random_inputs", "random_state", "recurrent"]


def chunk(name):
    return OPERATORS[name].chunk


def recurrent(name):
    return OPERATORS[name].recurrent


def random_inputs(name, B=1, T=13, H=2, HV=None, Dk=8, Dv=6, *, dtype=torch.float32, low=-0.5, seed=0):
    """Random arguments of an operator, with g from [low, 0]; see helpers.inputs."""
    return inputs(name, B, T, H, (HV or H) // H, Dk, Dv, dtype=dtype, strength=-low, seed=seed)


def independent(x, *, initial_state=None):
    """The float64 recurrence; see helpers.recurrence."""
    return recurrence(x, initial_state=initial_state)
