"""Which calls the kernels are tried on, by the emulation in every run and by Triton's interpreter where it is there."""

import torch

from reference.kernels.host import kernel_form
from tests.ops.helpers import inputs, random_state, recurrence

NAMES = ("gated_delta_rule", "kda")
ADDITIVE = ("linear_attention", "lightning_attention")  # no triangle, and no gradient
WITHIN = 2e-6  # the promise: max |difference| / max |reference| in float32
LENGTHS = (1, 5, 16, 37, 63, 64, 65, 130, 257)


def strong(x, seed=3):
    """The same arguments, with one gate in twelve between -10,000 and 0, and one in twelve a full reset."""
    rng = torch.Generator().manual_seed(seed)
    which = torch.rand(x["g"].shape, generator=rng)
    g = torch.where(which < 1 / 12, 1e4 * torch.rand(x["g"].shape, generator=rng) * x["g"], x["g"])
    return {**x, "g": g.masked_fill(which > 11 / 12, -float("inf"))}


def case(name, T, *, B=1, H=1, group=2, Dk=16, Dv=32, strong_gates=False, seed=0):
    """Float32 arguments and a first state."""
    x = inputs(name, B=B, T=T, H=H, group=group, Dk=Dk, Dv=Dv, dtype=torch.float32, seed=seed, beta_max=2.0)
    x = strong(x) if strong_gates and "g" in x else x
    return x, random_state(x)


def run_kernels(x, state, *, scale=0.3, bounds=None, chunk_size=64, cut=None):
    """(o, final state) from the kernels, whoever runs them here."""
    bounds = bounds or [0, x["v"].shape[1]]
    g = x["g"] if "g" in x else x["v"].new_zeros(1).expand(x["v"].shape[:3])
    return kernel_form(x["q"], x["k"], x["v"], g, x.get("beta"), state, scale, bounds, chunk_size, cut)


def wanted(x, state, *, scale=0.3, bounds=None):
    """(o, final state) in float64, one token at a time."""
    return recurrence(x, scale=scale, initial_state=state, bounds=bounds)
