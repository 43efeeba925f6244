"""Sequences packed along time are strangers: values, states and gradients equal separate runs."""

from itertools import pairwise

import pytest
import torch

from reference.ops import causal_conv
from tests.ops.helpers import NAMES, chunk, error, random_inputs, random_state, recurrent

BOUNDS = [0, 1, 64, 66, 131, 150]
PACKED = torch.tensor(BOUNDS)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", [chunk, recurrent])
@pytest.mark.parametrize("with_state", [True, False])
def test_packing_equals_separate_runs(name, form, with_state):
    inputs = random_inputs(name, T=150, H=2, HV=4)
    states = random_state(inputs, n=5) if with_state else None
    o, finals = form(name)(**inputs, initial_state=states, output_final_state=True, cu_seqlens=PACKED)
    assert finals.shape[0] == 5
    for n, (a, b) in enumerate(pairwise(BOUNDS)):
        own = {key: x[:, a:b] for key, x in inputs.items()}
        state = None if states is None else states[n : n + 1]
        wanted, final = form(name)(**own, initial_state=state, output_final_state=True)
        assert error(o[:, a:b], wanted) < 1e-6 and error(finals[n : n + 1], final) < 1e-6


def test_many_heads_are_packed_block_by_block():
    inputs = random_inputs("gated_delta_rule", T=150, H=20, HV=40, Dk=4, Dv=4)
    o, finals = chunk("gated_delta_rule")(**inputs, cu_seqlens=PACKED, output_final_state=True)
    wanted, S = recurrent("gated_delta_rule")(**inputs, cu_seqlens=PACKED, output_final_state=True)
    assert error(o, wanted) < 1e-5 and error(finals, S) < 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_what_stands_in_one_sequence_does_not_touch_the_others(name):
    inputs = random_inputs(name, T=150)
    before = chunk(name)(**inputs, cu_seqlens=PACKED)[0]
    other = {key: x.clone() for key, x in inputs.items()}
    for key in "qkv":
        other[key][:, 64:66] = 1e4
    after = chunk(name)(**other, cu_seqlens=PACKED)[0]
    assert torch.equal(before[:, :64], after[:, :64]) and torch.equal(before[:, 66:], after[:, 66:])
    assert not torch.allclose(before[:, 64:66], after[:, 64:66])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("T", [5, 70])
def test_nothing_behind_the_end_is_ever_read(name, T):
    long = random_inputs(name, T=T + 3)
    short = {key: x[:, :T].clone() for key, x in long.items()}
    for key in "qkv":
        long[key][:, T:] = torch.nan
    views = {key: x[:, :T] for key, x in long.items()}  # the memory behind the views holds NaN
    assert torch.equal(chunk(name)(**views)[0], chunk(name)(**short)[0])


def test_the_convolution_never_looks_into_the_sequence_before():
    r = torch.Generator().manual_seed(0)
    x, weight = torch.randn(1, 12, 3, generator=r), torch.randn(3, 4, generator=r)
    bounds = [0, 2, 3, 9, 12]
    state = torch.randn(4, 3, 3, generator=r)
    y, tails = causal_conv(x, weight, initial_state=state, output_final_state=True, cu_seqlens=torch.tensor(bounds))
    for n, (a, b) in enumerate(pairwise(bounds)):
        own, tail = causal_conv(x[:, a:b], weight, initial_state=state[n : n + 1], output_final_state=True)
        assert torch.allclose(y[:, a:b], own, atol=1e-6) and torch.equal(tails[n : n + 1], tail)


WITH_EMPTY = [0, 0, 4, 70, 70, 70, 71, 90, 90]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", [chunk, recurrent])
def test_an_empty_sequence_keeps_its_state_and_touches_nothing(name, form):
    inputs = random_inputs(name, T=90, H=2, HV=4)
    states = random_state(inputs, n=len(WITH_EMPTY) - 1)
    bounds = torch.tensor(WITH_EMPTY)
    o, finals = form(name)(**inputs, initial_state=states, output_final_state=True, cu_seqlens=bounds)
    full = [n for n, (a, b) in enumerate(pairwise(WITH_EMPTY)) if a < b]
    wanted, wanted_finals = form(name)(
        **inputs, initial_state=states[full], output_final_state=True, cu_seqlens=torch.tensor([0, 4, 70, 71, 90])
    )
    assert torch.equal(o, wanted) and torch.equal(finals[full], wanted_finals)
    empty = [n for n in range(len(states)) if n not in full]
    assert torch.equal(finals[empty], states[empty])
    finals = form(name)(**inputs, output_final_state=True, cu_seqlens=bounds)[1]
    assert (finals[empty] == 0).all()


def test_the_gradient_of_an_empty_sequence_is_that_of_its_state():
    inputs = random_inputs("gated_delta_rule", T=90)
    states = random_state(inputs, n=len(WITH_EMPTY) - 1).requires_grad_()
    tensors = {key: x.clone().requires_grad_() for key, x in inputs.items()}
    options = {"output_final_state": True, "cu_seqlens": torch.tensor(WITH_EMPTY)}
    o, finals = chunk("gated_delta_rule")(**tensors, initial_state=states, **options)
    (o.sum() + finals.sum()).backward()
    assert (states.grad[0] == 1).all() and states.grad.isfinite().all()
    assert all(x.grad.isfinite().all() for x in tensors.values())


def test_the_convolution_keeps_the_state_of_an_empty_sequence():
    x, weight = torch.randn(1, 90, 4), torch.randn(4, 3)
    state = torch.randn(len(WITH_EMPTY) - 1, 4, 2)
    y, tails = causal_conv(x, weight, initial_state=state, output_final_state=True, cu_seqlens=torch.tensor(WITH_EMPTY))
    full = [1, 2, 5, 6]
    wanted, wanted_tails = causal_conv(
        x, weight, initial_state=state[full], output_final_state=True, cu_seqlens=torch.tensor([0, 4, 70, 71, 90])
    )
    assert torch.equal(y, wanted) and torch.equal(tails[full], wanted_tails) and torch.equal(tails[0], state[0])
