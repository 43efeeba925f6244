"""What the tests of reference/ops share: random inputs, a second implementation in float64, a measure of error.

The recurrence here is written from the equations of chapters 02 and 03 as a product of transition matrices,
S_t = (I - β k p^T) Diag(e^g) S_{t-1} + β k v^T, p = k but for rules with two keys. It imports nothing from
reference/: what it and an operator get wrong together, the equations have wrong.
"""

from itertools import pairwise

import pytest
import torch
from hypothesis import settings

from reference.ops import OPERATORS

F32, F64 = torch.float32, torch.float64
NAMES = sorted(OPERATORS)
GATED = [name for name in NAMES if "g" in OPERATORS[name].extras]
ERASING = [name for name in NAMES if "beta" in OPERATORS[name].extras]
REPLAYED = [name for name in NAMES if set(OPERATORS[name].extras) <= {"g", "beta"}]  # one key, one strength per head
FORMS = ["recurrent", "chunk"]
FLOAT32_ERROR = 2e-5  # the promise: max |difference| / max |reference| in float32

# The same examples in every run: a failure that a stranger sees can be seen again.
steady = settings(deadline=None, derandomize=True, database=None, max_examples=25)

each_operator = pytest.mark.parametrize("name", NAMES)
each_gated = pytest.mark.parametrize("name", GATED)
each_erasing = pytest.mark.parametrize("name", ERASING)
each_replayed = pytest.mark.parametrize("name", REPLAYED)
each_form = pytest.mark.parametrize("form", FORMS)


def inputs(name, B=2, T=13, H=2, group=1, Dk=4, Dv=3, *, dtype=F64, seed=0, strength=0.3, beta_max=1.0):
    """Random arguments of an operator as a dict in its own order: q, k, v, then g, beta and others where it has them.

    Keys have unit length; g is drawn from [-strength, 0], beta from [0, beta_max], b and w from [0, 1]; p is near k.
    """
    rng = torch.Generator().manual_seed(seed)
    HV, operator = H * group, OPERATORS[name]
    q, k = (torch.randn(B, T, H, Dk, generator=rng, dtype=F64) for _ in range(2))
    x = {"q": q, "k": k / k.norm(dim=-1, keepdim=True), "v": torch.randn(B, T, HV, Dv, generator=rng, dtype=F64)}
    if "g" in operator.extras:
        axes = (B, T, HV, Dk) if operator.channel_decay else (B, T, HV)
        x["g"] = -strength * torch.rand(axes, generator=rng, dtype=F64)
    if "beta" in operator.extras:
        x["beta"] = beta_max * torch.rand(B, T, HV, generator=rng, dtype=F64)
    if "p" in operator.extras:
        x["p"] = 0.9 * x["k"] + 0.1 * torch.rand(B, T, H, Dk, generator=rng, dtype=F64)
    for key, axis in (("b", Dk), ("w", Dv)):
        if key in operator.extras:
            x[key] = torch.rand(B, T, HV, axis, generator=rng, dtype=F64)
    return {key: x[key].to(dtype) for key in ("q", "k", "v", *operator.extras)}


def random_state(x, n=None, *, seed=1):
    """A state that fits the arguments x, for n sequences (None: one per batch row)."""
    (B, _, HV, Dv), Dk = x["v"].shape, x["q"].shape[-1]
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(n or B, HV, Dk, Dv, generator=rng, dtype=F64).to(inner(x["v"].dtype))


def inner(dtype):
    return F64 if dtype == F64 else F32


def run(name, form, x, **keywords):
    """Call one form of an operator with the arguments x; the final state is always asked for."""
    return getattr(OPERATORS[name], form)(*x.values(), output_final_state=True, **keywords)


def recurrence(x, *, scale=None, initial_state=None, bounds=None):
    """The operator that x's keys name, in float64 with one transition matrix per token: (o, final state)."""
    q, k, v = (x[key].to(F64) for key in "qkv")
    (B, T, HV, Dv), Dk = v.shape, q.shape[-1]
    scale = Dk**-0.5 if scale is None else scale
    serves = torch.arange(HV) // (HV // q.shape[2])  # the query/key head of each value head
    q, k = q[:, :, serves], k[:, :, serves]
    p = x["p"].to(F64)[:, :, serves] if "p" in x else x["b"].to(F64) * k if "b" in x else k
    v = v * x["w"].to(F64) if "w" in x else v
    g = x["g"].to(F64) if "g" in x else torch.zeros(B, T, HV, dtype=F64)
    alpha = (g if g.dim() == 4 else g[..., None].expand(B, T, HV, Dk)).exp()
    write = x["beta"].to(F64) if "beta" in x else torch.ones(B, T, HV, dtype=F64)
    erase = write if "beta" in x or "b" in x else torch.zeros(B, T, HV, dtype=F64)
    eye, o, finals = torch.eye(Dk, dtype=F64), [], []
    for n, (start, stop) in enumerate(pairwise(bounds or [0, T])):
        S = torch.zeros(B, HV, Dk, Dv, dtype=F64)
        if initial_state is not None:
            S = initial_state.to(F64)[n : n + 1] if bounds else initial_state.to(F64)
        for t in range(start, stop):
            kept = eye - torch.einsum("bh,bhi,bhj->bhij", erase[:, t], k[:, t], p[:, t])
            S = torch.einsum("bhij,bhj,bhjd->bhid", kept, alpha[:, t], S)
            S = S + torch.einsum("bh,bhi,bhd->bhid", write[:, t], k[:, t], v[:, t])
            o.append(scale * torch.einsum("bhi,bhid->bhd", q[:, t], S))
        finals.append(S)
    return torch.stack(o, 1), torch.cat(finals)


def error(got, wanted):
    """max |got - wanted| / max |wanted|; NaN counts as infinitely wrong."""
    assert got.shape == wanted.shape, f"shape {list(got.shape)}, wanted {list(wanted.shape)}"
    if got.isnan().any():
        return float("inf")
    size = wanted.detach().abs().max().clamp(min=1e-30)
    return ((got.detach().to(F64) - wanted.detach().to(F64)).abs().max() / size).item()


def assert_close(got, wanted, tolerance):
    """Outputs and final states (any two tuples of tensors) agree to a relative error."""
    for i, (a, b) in enumerate(zip(got, wanted, strict=True)):
        assert error(a, b) <= tolerance, f"part {i}: relative error {error(a, b):.2e} > {tolerance:.0e}"


def leaves(x, *more):
    """Copies of x (and of further tensors) that collect gradients."""
    copies = {key: value.detach().clone().requires_grad_() for key, value in x.items()}
    return (copies, *(t.detach().clone().requires_grad_() for t in more)) if more else copies


def gradients(outputs, wanted, *, seed=5):
    """Gradients of a random linear function of all the outputs, so that each of them gets its own gradient."""
    rng = torch.Generator().manual_seed(seed)
    arriving = [torch.randn(y.shape, generator=rng, dtype=F64).to(y.dtype) for y in outputs]
    return torch.autograd.grad(outputs, wanted, arriving)


def chunk(name):
    return OPERATORS[name].chunk


def recurrent(name):
    return OPERATORS[name].recurrent


def random_inputs(name, B=1, T=13, H=2, HV=None, Dk=8, Dv=6, *, dtype=F32, low=-0.5, seed=0):
    """`inputs` with the number of value heads and g's lower end spelled out."""
    return inputs(name, B, T, H, (HV or H) // H, Dk, Dv, dtype=dtype, strength=-low, seed=seed, beta_max=2.0)


def independent(x, *, initial_state=None):
    """The float64 recurrence of x: (o, final state)."""
    return recurrence(x, initial_state=initial_state)
