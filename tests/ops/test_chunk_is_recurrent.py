"""chunk_*: the same numbers as a float64 recurrence, whatever the shape, the chunk, the layout and the dtype."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.ops.helpers import (
    F32,
    F64,
    FLOAT32_ERROR,
    assert_close,
    each_form,
    each_gated,
    each_operator,
    error,
    inputs,
    random_state,
    recurrence,
    run,
    steady,
)

SIZES = st.fixed_dictionaries(
    {
        "B": st.integers(1, 3),
        "T": st.integers(1, 140),
        "H": st.integers(1, 3),
        "group": st.integers(1, 3),
        "Dk": st.integers(1, 9),
        "Dv": st.integers(1, 9),
        "seed": st.integers(0, 10**6),
        "strength": st.sampled_from([0.0, 0.1, 5.0, 40.0]),
        "beta_max": st.sampled_from([1.0, 2.0]),
    }
)
HALVES = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])


@each_operator
def test_float32_is_within_2e_5_of_float64_for_random_shapes_and_chunks(name):
    @steady
    @given(sizes=SIZES, chunk_size=st.integers(1, 130))
    def check(sizes, chunk_size):
        x = inputs(name, dtype=F32, **sizes)
        state = random_state(x)
        wanted = recurrence(x, initial_state=state)
        assert_close(run(name, "chunk", x, initial_state=state, chunk_size=chunk_size), wanted, FLOAT32_ERROR)

    check()


@each_operator
@each_form
@pytest.mark.parametrize("T", [1, 2, 63, 64, 65, 131, 257])
def test_any_length_is_right_in_float32(name, form, T):
    x = inputs(name, B=1, T=T, H=2, group=2, Dk=16, Dv=24, dtype=F32)
    state = random_state(x)
    assert_close(run(name, form, x, initial_state=state), recurrence(x, initial_state=state), FLOAT32_ERROR)


@each_operator
def test_the_sizes_of_real_models_are_right_in_float32(name):
    x = inputs(name, B=1, T=150, H=1, group=2, Dk=128, Dv=128, dtype=F32)
    assert_close(run(name, "chunk", x), recurrence(x), FLOAT32_ERROR)


@each_operator
@pytest.mark.parametrize("chunk_size", [1, 2, 3, 7, 16, 33, 64, 100, 101, 128, 1000])
def test_the_chunk_size_changes_nothing_but_rounding(name, chunk_size):
    x = inputs(name, T=101, group=2, beta_max=2.0)
    state = random_state(x)
    wanted = recurrence(x, scale=0.3, initial_state=state)
    assert_close(run(name, "chunk", x, scale=0.3, initial_state=state, chunk_size=chunk_size), wanted, 1e-10)


@each_operator
@pytest.mark.parametrize(
    ("B", "H", "group"),
    [(5, 2, 4), (2, 12, 3), (1, 40, 1), (3, 33, 1), (2, 1, 48), (35, 1, 1)],
    ids=lambda n: str(n),
)
def test_more_heads_than_are_worked_on_at_a_time_are_right(name, B, H, group):
    """Batch times heads are cut into blocks of about 32 on a CPU: several rows, part of a row, part of a group."""
    x = inputs(name, B=B, T=11, H=H, group=group, Dk=3, Dv=2)
    x, state = {key: value.requires_grad_() for key, value in x.items()}, random_state(x).requires_grad_()
    got, wanted = run(name, "chunk", x, initial_state=state, chunk_size=4), recurrence(x, initial_state=state)
    assert_close(got, wanted, 1e-10)
    loss = [(o.sin().sum() + s.square().sum()) for o, s in (got, wanted)]
    own, theirs = (torch.autograd.grad(y, (*x.values(), state)) for y in loss)
    assert_close(own, theirs, 1e-9)


def heads_outside(x):
    """The same numbers stored as [B, heads, T, ...]."""
    return x.transpose(1, 2).contiguous().transpose(1, 2)


def every_other(x):
    """The same numbers as every second entry of the last axis and of time."""
    wide = torch.full((x.shape[0], 2 * x.shape[1], *x.shape[2:-1], 2 * x.shape[-1]), float("nan"), dtype=x.dtype)
    wide[:, ::2, ..., ::2] = x
    return wide[:, ::2, ..., ::2]


@each_operator
@each_form
@pytest.mark.parametrize("layout", [heads_outside, every_other], ids=["heads before time", "every other entry"])
def test_strides_do_not_matter(name, form, layout):
    x = inputs(name, T=70, group=2)
    state = random_state(x)
    strided = {key: layout(value) for key, value in x.items()}
    assert not all(value.is_contiguous() for value in strided.values())
    got = run(name, form, strided, initial_state=state.mT.contiguous().mT)
    assert_close(got, recurrence(x, initial_state=state), 1e-10)
    assert got[0].is_contiguous()


@each_operator
@each_form
def test_expanded_tensors_are_read_like_any_other(name, form):
    x = inputs(name, B=1, T=20)
    rows = {key: value.expand(3, *value.shape[1:]) for key, value in x.items()}
    wanted = recurrence(x)
    for row in range(3):
        assert_close(
            [y[row : row + 1] for y in run(name, form, rows, chunk_size=8)]
            if form == "chunk"
            else [y[row : row + 1] for y in run(name, form, rows)],
            wanted,
            1e-10,
        )


@each_operator
@each_form
@HALVES
def test_half_types_are_computed_in_float32(name, form, dtype):
    """Only the output is rounded: the state, which carries on, is float32 and as good as float32 gets."""
    x = inputs(name, T=100, group=2, Dk=16, Dv=8, dtype=dtype)
    o, final = run(name, form, x)
    wanted_o, wanted_final = recurrence(x)  # on the rounded inputs
    assert o.dtype == dtype and final.dtype == F32
    assert error(final, wanted_final) <= FLOAT32_ERROR
    assert error(o, wanted_o) <= torch.finfo(dtype).eps
    exact = {key: value.to(F32) for key, value in x.items()}
    assert error(o, run(name, form, exact)[0]) <= torch.finfo(dtype).eps / 2 + FLOAT32_ERROR


@each_gated
@each_form
@HALVES
def test_a_float32_gate_beside_half_values_keeps_its_digits(name, form, dtype):
    x = inputs(name, T=100, Dk=8, dtype=F32)
    x["g"].fill_(-0.30016)  # lies between two float16 numbers: rounding it changes every step the same way
    half = {key: value if key == "g" else value.to(dtype) for key, value in x.items()}
    assert error(run(name, form, half)[1], recurrence(half)[1]) <= FLOAT32_ERROR
    rounded = recurrence({**half, "g": x["g"].to(dtype)})[1]
    assert error(run(name, form, half)[1], rounded) > 3 * FLOAT32_ERROR


@each_operator
@each_form
def test_float64_stays_float64(name, form):
    o, final = run(name, form, inputs(name, dtype=F64))
    assert o.dtype == final.dtype == F64


@pytest.mark.parametrize("name", ["gated_delta_rule", "kda"])
@each_form
def test_a_state_in_float32_is_taken_beside_half_inputs_and_any_float_beside_float32(name, form):
    x = inputs(name, dtype=F32)
    state = random_state(x)
    assert_close(run(name, form, x, initial_state=state.double()), run(name, form, x, initial_state=state), 0)
