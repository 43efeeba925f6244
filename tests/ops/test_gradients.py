"""The backward written by hand is the derivative of the recurrence."""

from itertools import pairwise

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

from reference.ops import causal_conv
from tests.ops.helpers import NAMES, chunk, error, independent, random_inputs, random_state, recurrent


def leaves(inputs, state=None):
    tensors = inputs | ({} if state is None else {"initial_state": state})
    return {key: x.detach().clone().requires_grad_() for key, x in tensors.items()}


def gradients(run, tensors, seed=5):
    """Gradients of a random combination of outputs and final state."""
    o, final = run(tensors)
    r = torch.Generator().manual_seed(seed)
    loss = sum((x.double() * torch.randn(x.shape, generator=r, dtype=torch.float64)).sum() for x in (o, final))
    return dict(zip(tensors, torch.autograd.grad(loss, list(tensors.values())), strict=True))


def of_definition(tensors):
    rest = {key: x for key, x in tensors.items() if key != "initial_state"}
    return independent(rest, initial_state=tensors.get("initial_state"))


@pytest.mark.parametrize("T, chunk_size", [(1, 64), (7, 3), (64, 64), (65, 64), (130, 32)])
@pytest.mark.parametrize("name", NAMES)
def test_gradients_agree_with_autograd_through_the_recurrence(name, T, chunk_size):
    inputs = random_inputs(name, B=2, T=T, H=2, HV=4, Dk=6, Dv=5, dtype=torch.float64)
    tensors = leaves(inputs, random_state(inputs))
    got = gradients(lambda x: chunk(name)(**x, output_final_state=True, chunk_size=chunk_size), tensors)
    wanted = gradients(of_definition, tensors)
    for key in tensors:
        assert error(got[key], wanted[key]) < 1e-9, key


@pytest.mark.parametrize("name", NAMES)
def test_gradcheck(name):
    inputs = random_inputs(name, T=7, H=1, HV=2, Dk=3, Dv=2, dtype=torch.float64, low=-0.9)
    tensors = leaves({key: x if key != "g" else x - 0.05 for key, x in inputs.items()}, random_state(inputs))
    keys = list(tensors)

    def run(*values):
        return chunk(name)(**dict(zip(keys, values, strict=True)), output_final_state=True, chunk_size=3)

    assert torch.autograd.gradcheck(run, tuple(tensors.values()), atol=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_in_float32_are_close_to_those_in_float64(name):
    inputs = random_inputs(name, T=150, H=1, HV=2, Dk=16, Dv=16)
    tensors = leaves(inputs, random_state(inputs))
    got = gradients(lambda x: chunk(name)(**x, output_final_state=True), tensors)
    wanted = gradients(of_definition, leaves({key: x.double() for key, x in tensors.items()}))
    for key in tensors:
        assert error(got[key], wanted[key]) < 1e-4, key


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("linear_attention", "delta_rule")])
def test_gradients_stay_finite_and_right_under_strong_decay(name):
    inputs = random_inputs(name, T=96, dtype=torch.float64, low=-0.05)
    inputs["g"][:, [5, 6, 40, 95]] = (
        torch.tensor([-30.0, -1e4, -1e6, -700.0]).double().view(-1, *[1] * (inputs["g"].dim() - 2))
    )
    tensors = leaves(inputs, random_state(inputs))
    got = gradients(lambda x: chunk(name)(**x, output_final_state=True, chunk_size=32), tensors)
    wanted = gradients(of_definition, tensors)
    for key in tensors:
        assert error(got[key], wanted[key]) < 1e-9, key


@pytest.mark.parametrize("strength", [3.0, 10.0, 30.0])
@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("linear_attention", "delta_rule")])
def test_the_gradient_of_a_strong_gate_keeps_its_digits_in_float32(name, strength):
    """What passes a strong gate is small beside what passes none: nothing of the latter may be subtracted again."""
    inputs = random_inputs(name, T=96, H=2, Dk=16, Dv=16)
    inputs["g"] = -strength * (1 + torch.rand(inputs["g"].shape, generator=torch.Generator().manual_seed(3)))
    tensors = leaves(inputs)
    got = gradients(lambda x: chunk(name)(**x, output_final_state=True), tensors)["g"].double()
    wanted = gradients(of_definition, leaves({key: x.double() for key, x in tensors.items()}))["g"]
    assert (got - wanted).norm() < 3e-6 * wanted.norm()


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("linear_attention", "delta_rule")])
def test_the_gradient_of_a_full_reset_is_zero_and_the_others_are_right(name):
    inputs = random_inputs(name, T=70, dtype=torch.float64, low=-0.2)
    inputs["g"][:, 33] = -torch.inf
    got = gradients(lambda x: chunk(name)(**x, output_final_state=True), leaves(inputs, random_state(inputs)))
    inputs["g"][:, 33] = -800.0  # e^-800 is 0 as well, and autograd can differentiate it
    wanted = gradients(of_definition, leaves(inputs, random_state(inputs)))
    assert torch.all(got["g"][:, 33] == 0)
    for key in got:
        assert error(got[key], wanted[key]) < 1e-9, key


@pytest.mark.parametrize("name", NAMES)
def test_gradients_of_packed_sequences_do_not_mix(name):
    inputs = random_inputs(name, T=50, dtype=torch.float64)
    state, bounds = random_state(inputs, n=3), [0, 1, 30, 50]
    tensors = leaves(inputs, state)
    keywords = {"output_final_state": True, "chunk_size": 16, "cu_seqlens": torch.tensor(bounds)}
    got = gradients(lambda x: chunk(name)(**x, **keywords), tensors)

    def separately(x):
        parts = []
        for n, (a, b) in enumerate(pairwise(bounds)):
            own = {key: y[:, a:b] for key, y in x.items() if key != "initial_state"}
            parts.append(of_definition(own | {"initial_state": x["initial_state"][n : n + 1]}))
        return torch.cat([o for o, _ in parts], 1), torch.cat([S for _, S in parts])

    wanted = gradients(separately, tensors)
    for key in tensors:
        assert error(got[key], wanted[key]) < 1e-9, key


def test_half_precision_inputs_get_gradients_of_their_own_dtype():
    tensors = leaves(random_inputs("kda", T=70, dtype=torch.bfloat16))
    chunk("kda")(**tensors)[0].float().sum().backward()
    assert all(x.grad.dtype == torch.bfloat16 and x.grad.isfinite().all() for x in tensors.values())


@pytest.mark.parametrize("wanted", ["q", "k", "v", "g", "beta"])
def test_each_input_alone_may_require_a_gradient(wanted):
    inputs = random_inputs("gated_delta_rule", T=40, dtype=torch.float64)
    everything = leaves(inputs)
    reference = gradients(lambda x: chunk("gated_delta_rule")(**x, output_final_state=True), everything)
    alone = inputs | {wanted: inputs[wanted].clone().requires_grad_()}
    o, final = chunk("gated_delta_rule")(**alone, output_final_state=True)
    r = torch.Generator().manual_seed(5)
    loss = sum((x * torch.randn(x.shape, generator=r, dtype=torch.float64)).sum() for x in (o, final))
    assert error(torch.autograd.grad(loss, alone[wanted])[0], reference[wanted]) < 1e-12


def test_the_gradient_at_a_zero_key_with_l2norm_is_finite():
    inputs = random_inputs("gated_delta_rule", T=20)
    inputs["k"][:, 3:9] = 0
    tensors = leaves(inputs)
    chunk("gated_delta_rule")(**tensors, use_qk_l2norm_in_kernel=True)[0].sum().backward()
    assert all(x.grad.isfinite().all() for x in tensors.values())


def test_a_second_derivative_through_the_chunked_form_is_refused():
    tensors = leaves(random_inputs("delta_rule", T=5, dtype=torch.float64))
    (dq,) = torch.autograd.grad(chunk("delta_rule")(**tensors)[0].square().sum(), tensors["q"], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        dq.sum().backward()


def saved_bytes(op, tensors):
    count = [0]

    def pack(x):
        count[0] += x.nbytes
        return x

    with saved_tensors_hooks(pack, lambda x: x):
        op(**tensors)
    return count[0]


def test_a_training_step_keeps_the_inputs_and_one_state_per_chunk():
    def kept(op, T):
        return saved_bytes(op, leaves(random_inputs("gated_delta_rule", T=T, Dk=16, Dv=16)))

    tokens = 256
    inputs = 2 * tokens * 4 * (3 * 16 + 2)  # two heads of q, k, v, g, beta
    states = 2 * 16 * 16 * 4 * (tokens // 64)  # those that enter a chunk
    assert kept(chunk("gated_delta_rule"), tokens) == inputs + states
    assert kept(chunk("gated_delta_rule"), 2 * tokens) < 2.01 * kept(chunk("gated_delta_rule"), tokens)
    assert kept(recurrent("gated_delta_rule"), tokens) > 10 * (inputs + states)


def second(form, inputs, wrt, loss):
    """The gradient, with respect to q, of a loss that holds the gradient with respect to `wrt`."""
    tensors = {key: x.clone().requires_grad_() for key, x in inputs.items()}
    value = loss(form(**tensors)[0])
    (first,) = torch.autograd.grad(value, tensors[wrt], create_graph=True)
    return torch.autograd.grad(value + first.square().sum(), tensors["q"])[0]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("loss", [torch.sum, lambda o: o.square().sum()], ids=["linear", "square"])
def test_second_derivatives_are_right_or_refused_never_zero(name, loss):
    inputs = random_inputs(name, T=9, dtype=torch.float64)
    assert second(recurrent(name), inputs, "v", loss).abs().max() > 0
    with pytest.raises(RuntimeError, match="second derivatives are not implemented here"):
        second(chunk(name), inputs, "v", loss)


def test_second_derivatives_of_the_convolution_are_refused():
    x, weight = torch.randn(1, 9, 4, requires_grad=True), torch.randn(4, 3, requires_grad=True)
    (first,) = torch.autograd.grad(causal_conv(x, weight)[0].sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="second derivatives are not implemented here"):
        torch.autograd.grad(first.square().sum(), weight)
