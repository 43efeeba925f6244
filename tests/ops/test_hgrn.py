"""The recurrence of single numbers: the equation, the operator with keys that it is a case of, chunks, gradients."""

import numpy as np
import pytest
import torch
from torch.func import grad, jacrev, jvp, vmap

from reference.equations import decayed_hebbian_step
from reference.ops import chunk_hgrn, chunk_lightning_attention, recurrent_hgrn
from tests.ops.helpers import F32, F64, FLOAT32_ERROR, error

# Torch's own, at its first forward-mode derivative.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
FORMS = {"recurrent": recurrent_hgrn, "chunk": chunk_hgrn}
each_form = pytest.mark.parametrize("form", FORMS)


def some(B=2, T=13, D=5, *, dtype=F64, seed=0, strength=0.6):
    rng = torch.Generator().manual_seed(seed)
    x, h = torch.randn(B, T, D, generator=rng, dtype=F64), torch.randn(B, D, generator=rng, dtype=F64)
    return x.to(dtype), (-strength * torch.rand(B, T, D, generator=rng, dtype=F64)).to(dtype), h.to(dtype)


def by_the_equation(x, g, h):
    """(3.2) with x as the key, 1 as the value and a decay per channel: the memory is a column."""
    outputs = []
    for row in range(len(x)):
        S, rows = h[row, :, None].double().numpy(), []
        for t in range(x.shape[1]):
            S = decayed_hebbian_step(S, x[row, t].double().numpy(), np.ones(1), g[row, t].double().numpy())
            rows.append(S[:, 0])
        outputs.append(np.stack(rows))
    return torch.from_numpy(np.stack(outputs))


@each_form
@pytest.mark.parametrize("T", [1, 2, 63, 64, 65, 130])
@pytest.mark.parametrize(("strength", "dtype"), [(0.6, F64), (30.0, F64), (0.05, F32), (0.6, F32)])
def test_it_is_the_equation(form, T, strength, dtype):
    x, g, h = some(T=T, strength=strength, dtype=dtype)
    o, last = FORMS[form](x, g, initial_state=h, output_final_state=True)
    wanted = by_the_equation(x, g, h)
    assert error(o, wanted) < (1e-12 if dtype == F64 else FLOAT32_ERROR)
    assert o.dtype == dtype and torch.equal(last, o[:, -1])


@pytest.mark.parametrize("chunk_size", [1, 2, 7, 64, 500])
def test_every_chunk_size_gives_the_same(chunk_size):
    x, g, h = some(T=100)
    wanted = recurrent_hgrn(x, g, initial_state=h)[0]
    assert error(chunk_hgrn(x, g, initial_state=h, chunk_size=chunk_size)[0], wanted) < 1e-13


def test_it_is_lightning_attention_with_a_head_for_each_channel():
    x, g, h = some(T=70)
    ones = torch.ones(2, 70, 1, 1, dtype=F64)
    keywords = {"scale": 1.0, "initial_state": h[..., None, None], "output_final_state": True}
    wanted, S = chunk_lightning_attention(ones, ones, x[..., None], g, **keywords)
    o, last = chunk_hgrn(x, g, initial_state=h, output_final_state=True)
    assert error(o, wanted[..., 0]) < 1e-13 and error(last, S[..., 0, 0]) < 1e-13


@each_form
def test_a_full_reset_forgets_all_and_loses_nothing(form):
    x, g, h = some(T=70)
    g[:, 40] = -torch.inf
    o = FORMS[form](x, g, initial_state=h)[0]
    assert error(o[:, 40:], FORMS[form](x[:, 40:], g[:, 40:])[0]) < 1e-14
    assert error(o[:, :40], FORMS[form](x[:, :40], g[:, :40], initial_state=h)[0]) < 1e-14


@each_form
def test_pieces_packed_sequences_and_rows_are_each_for_themselves(form):
    op, (x, g, h) = FORMS[form], some(T=150)
    whole, last = op(x, g, initial_state=h, output_final_state=True)
    first, state = op(x[:, :67], g[:, :67], initial_state=h, output_final_state=True)
    second, end = op(x[:, 67:], g[:, 67:], initial_state=state, output_final_state=True)
    assert error(torch.cat([first, second], 1), whole) < 1e-13 and error(end, last) < 1e-13
    x, g, _ = some(B=1, T=150)
    states, bounds = some(B=3)[2], [0, 67, 67, 150]
    packed = {"cu_seqlens": torch.tensor(bounds), "initial_state": states, "output_final_state": True}
    o, finals = op(x, g, **packed)
    assert torch.equal(finals[1], states[1])  # an empty one
    for n, (start, stop) in enumerate([(0, 67), (67, 67), (67, 150)]):
        if start < stop:
            alone, end = op(
                x[:, start:stop], g[:, start:stop], initial_state=states[n : n + 1], output_final_state=True
            )
            assert error(o[:, start:stop], alone) < 1e-14 and error(finals[n : n + 1], end) < 1e-14


@each_form
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_are_computed_in_float32(form, dtype):
    x, g, h = some(T=90, dtype=dtype)
    o, last = FORMS[form](x, g, initial_state=h, output_final_state=True)
    wanted, end = FORMS[form](x.float(), g.float(), initial_state=h.float(), output_final_state=True)
    assert o.dtype == dtype and last.dtype == F32
    assert torch.equal(o, wanted.to(dtype)) and torch.equal(last, end)


def loss(op, **keywords):
    def value(x, g, h):
        o, last = op(x, g, initial_state=h, output_final_state=True, **keywords)
        return o.square().sum() + last.cos().sum()

    return value


@pytest.mark.parametrize("T", [1, 5, 64, 70])
def test_gradients_are_those_of_the_recurrence(T):
    x = some(T=T)
    found, right = (grad(loss(op), (0, 1, 2))(*x) for op in (chunk_hgrn, recurrent_hgrn))
    assert all(error(a, b) < 1e-12 for a, b in zip(found, right, strict=True))
    small = [y.requires_grad_() for y in some(B=1, T=min(T, 7), D=2)]
    assert torch.autograd.gradcheck(lambda *y: chunk_hgrn(*y[:2], initial_state=y[2], chunk_size=3)[0], small)


def test_gradients_behind_a_full_reset_and_in_packed_sequences():
    x, g, _ = some(B=1, T=90)
    g[:, 30] = -torch.inf
    states, bounds = some(B=2)[2], torch.tensor([0, 50, 90])
    found, right = (grad(loss(op, cu_seqlens=bounds), (0, 1, 2))(x, g, states) for op in (chunk_hgrn, recurrent_hgrn))
    for a, b in zip(found, right, strict=True):
        assert a.isfinite().all() and error(a, b) < 1e-12
    assert not found[1][:, 30].any()  # nothing is left of what it would fade


def test_torch_func():
    every = [torch.stack(y) for y in zip(*(some(B=1, T=70, seed=n) for n in range(3)), strict=True)]
    found, right = (vmap(grad(loss(op), (0, 1, 2)))(*every) for op in (chunk_hgrn, recurrent_hgrn))
    assert all(error(a, b) < 1e-12 for a, b in zip(found, right, strict=True))
    x, g, h = (y[0] for y in every)
    shared = vmap(loss(chunk_hgrn), (None, 0, None))(x, every[1], h)
    assert error(shared, torch.stack([loss(recurrent_hgrn)(x, own, h) for own in every[1]])) < 1e-12
    small = [y[:, :4] for y in (x, g)]
    jacobians = (jacrev(lambda y, op=op: op(y, small[1])[0])(small[0]) for op in (chunk_hgrn, recurrent_hgrn))
    assert error(*jacobians) < 1e-12
    with pytest.raises(NotImplementedError, match=r"chunk_hgrn: forward-mode .* use recurrent_hgrn"):
        jvp(lambda y: chunk_hgrn(y, g)[0], (x,), (x,))
    y = x.clone().requires_grad_()
    (first,) = torch.autograd.grad(chunk_hgrn(y, g)[0].square().sum(), y, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        torch.autograd.grad(first.sum(), y)


X, G, H = some(dtype=F32)


@each_form
@pytest.mark.parametrize(
    ("change", "error_type", "message"),
    [
        ({"x": X[0]}, ValueError, r"x: expected axes \[B, T, D\], got shape \[13, 5\]"),
        ({"x": None}, TypeError, "x: expected a tensor, got NoneType"),
        ({"g": None}, TypeError, "g: expected a tensor, got NoneType"),
        ({"g": G[..., :4]}, ValueError, r"g: expected axes \[B, T, D\], got shape \[2, 13, 4\]"),
        ({"g": -G}, ValueError, r"g: a log decay must be <= 0, got"),
        ({"g": G.masked_fill(G < -0.59, torch.nan)}, ValueError, "g: expected numbers, got NaN"),
        ({"x": X.masked_fill(X > 2, torch.inf)}, ValueError, "x: expected numbers, got infinity"),
        ({"x": X[:, :0], "g": G[:, :0]}, ValueError, "x: every axis needs at least one entry"),
        ({"initial_state": H[:1]}, ValueError, r"initial_state: expected \[B, D\] = \[2, 5\], got \[1, 5\]"),
        ({"initial_state": H[0]}, ValueError, r"initial_state: expected axes \[B, D\]"),
        ({"output_final_state": 1}, TypeError, "output_final_state: expected True or False, got 1"),
        (
            {"cu_seqlens": torch.tensor([0, 13])},
            ValueError,
            "cu_seqlens: packed sequences need batch size B = 1, got 2",
        ),
    ],
)
def test_what_does_not_fit_is_named(form, change, error_type, message):
    with pytest.raises(error_type, match=message):
        FORMS[form](**{"x": X, "g": G} | change)


def test_a_chunk_has_tokens():
    with pytest.raises(ValueError, match="chunk_size: expected a whole number >= 1, got 0"):
        chunk_hgrn(X, G, chunk_size=0)


@pytest.mark.filterwarnings("ignore")  # torch's own warnings while it traces
def test_it_compiles_in_one_graph():
    x, g, h = (y.requires_grad_() for y in some(T=70, dtype=F32))

    def gradients(op):
        o, last = op(x, g, initial_state=h, output_final_state=True)
        return o, last, *torch.autograd.grad(o.square().sum() + last.square().sum(), (x, g, h))

    torch.compiler.reset()
    compiled = torch.compile(chunk_hgrn, fullgraph=True, backend="aot_eager")
    assert all(error(a, b) < 1e-5 for a, b in zip(gradients(compiled), gradients(recurrent_hgrn), strict=True))
