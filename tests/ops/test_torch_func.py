"""torch.func through the operators: grad, vmap and both give the recurrence's numbers; what can't be done says so."""

import pytest
import torch
from torch.func import functional_call, grad, jacfwd, jacrev, jvp, vjp, vmap

from reference.layers.projection import Projection
from reference.ops import causal_conv, causal_conv_step, decode_step, softmax_attention
from tests.ops.helpers import NAMES, chunk, error, random_inputs, random_state, recurrent

# Torch's own, at its first forward-mode derivative.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
SIZES = [(7, 8), (70, 8), (9, 256)]  # tokens, key and value channels: no path may depend on the size
each_size = pytest.mark.parametrize(("T", "D"), SIZES)
each_name = pytest.mark.parametrize("name", NAMES)


def arguments(name, T, D, n=None, *, group=2):
    """q, k, v, g, beta and a state in float64, as a list, or n of each, stacked."""
    one = [random_inputs(name, B=1, T=T, H=1, HV=group, Dk=D, Dv=D, dtype=torch.float64, seed=i) for i in range(n or 1)]
    every = [[*x.values(), random_state(x, seed=i)] for i, x in enumerate(one)]
    return every[0] if n is None else [torch.stack(x) for x in zip(*every, strict=True)]


def loss(op, **keywords):
    """Of the outputs and of the last state."""

    def value(*tensors):
        *inputs, state = tensors
        o, last = op(*inputs, initial_state=state, output_final_state=True, **keywords)
        return o.square().sum() + last.cos().sum()

    return value


def same(found, wanted):
    found, wanted = (x if isinstance(x, tuple | list) else (x,) for x in (found, wanted))
    assert len(found) == len(wanted)
    assert all(error(a, b) < 1e-9 for a, b in zip(found, wanted, strict=True))


@each_name
@each_size
def test_gradients_of_one_and_of_each_sample(name, T, D):
    every, wrt = arguments(name, T, D, 3), tuple(range(len(arguments(name, 2, 2))))
    right = [torch.func.grad(loss(recurrent(name)), wrt)(*(x[i] for x in every)) for i in range(3)]
    same(grad(loss(chunk(name)), wrt)(*(x[0] for x in every)), right[0])
    stacked = [torch.stack(x) for x in zip(*right, strict=True)]
    same(vmap(grad(loss(chunk(name)), wrt))(*every), stacked)
    same(grad(lambda *x: vmap(loss(chunk(name)))(*x).sum(), wrt)(*every), stacked)
    one, pull = vjp(loss(chunk(name)), *(x[0] for x in every))
    same(pull(torch.ones_like(one)), right[0])


@each_name
def test_vmap_maps_any_axis_of_some_arguments_and_shares_the_rest(name):
    inputs = arguments(name, 9, 4)
    for i in range(len(inputs)):
        several = torch.stack([inputs[i], 0.5 * inputs[i], 0.1 * inputs[i]], -1)
        dims = tuple(-1 if j == i else None for j in range(len(inputs)))
        tensors = [*inputs[:i], several, *inputs[i + 1 :]]
        for form in (chunk(name), recurrent(name)):
            op = loss(form)
            right = torch.stack([op(*inputs[:i], several[..., n], *inputs[i + 1 :]) for n in range(3)])
            same(vmap(op, dims)(*tensors), right)
            right = torch.stack([grad(op)(*inputs[:i], several[..., n], *inputs[i + 1 :]) for n in range(3)])
            same(vmap(grad(op), dims)(*tensors), right)


@each_name
def test_a_map_of_a_map_and_packed_sequences(name):
    every = [x.unflatten(0, (2, 3)) for x in arguments(name, 9, 4, 6)]
    right = vmap(vmap(grad(loss(recurrent(name)))))(*every)
    same(vmap(vmap(grad(loss(chunk(name)))), in_dims=0)(*every), right)
    *inputs, state = arguments(name, 9, 4, 3)
    states = torch.stack([torch.cat([x, 2 * x]) for x in state])
    bounds = torch.tensor([0, 4, 9])
    right = vmap(grad(loss(recurrent(name), cu_seqlens=bounds)))(*inputs, states)
    same(vmap(grad(loss(chunk(name), cu_seqlens=bounds)))(*inputs, states), right)


@each_name
def test_a_jacobian_row_by_row(name):
    inputs = arguments(name, 70, 2, group=34)  # more heads than a piece holds

    def some(form, **keywords):
        def outputs(*tensors):
            o, state = form(*tensors[:-1], initial_state=tensors[-1], output_final_state=True, **keywords)
            return torch.cat([o[0, ::35, 33].flatten(), state[0, 0].flatten()])

        return outputs

    ours, right = some(chunk(name), chunk_size=32), some(recurrent(name))
    every = tuple(range(len(inputs)))
    same(jacrev(ours, every)(*inputs), jacrev(right, every)(*inputs))


@each_name
@each_size
def test_forward_mode_is_refused_by_name_and_the_recurrent_form_has_it(name, T, D):
    inputs = arguments(name, T, D)
    tangents = tuple(torch.ones_like(x) for x in inputs)
    _, pushed = jvp(loss(recurrent(name)), tuple(inputs), tangents)
    gradients = grad(loss(recurrent(name)), tuple(range(len(inputs))))(*inputs)
    same(pushed, sum(x.sum() for x in gradients))
    for transform in (lambda f: jvp(f, tuple(inputs), tangents), lambda f: jacfwd(f)(*inputs)):
        with pytest.raises(NotImplementedError, match=r"chunk_\*: forward-mode .* use the recurrent form"):
            transform(loss(chunk(name)))
    with torch.autograd.forward_ad.dual_level():
        dual = [torch.autograd.forward_ad.make_dual(x, y) for x, y in zip(inputs, tangents, strict=True)]
        with pytest.raises(NotImplementedError, match=r"chunk_\*: forward-mode"):
            loss(chunk(name))(*dual)
        same(torch.autograd.forward_ad.unpack_dual(loss(recurrent(name))(*dual)).tangent, pushed)


@each_name
@each_size
def test_a_second_derivative_is_refused_and_the_recurrent_form_has_it(name, T, D):
    inputs = arguments(name, T, D)

    def second(form):
        return grad(lambda *x: grad(loss(form), 2)(*x).sum())(*inputs)

    assert second(recurrent(name)).abs().max() > 0
    with pytest.raises(RuntimeError, match="second derivatives are not implemented here"):
        second(chunk(name))


def test_values_are_looked_at_inside_vmap_too():
    q, k, v, g, beta, _ = arguments("gated_delta_rule", 5, 2, 3)
    v[1, 0, 2] = float("inf")
    for form in (chunk, recurrent):
        with pytest.raises(ValueError, match=r"v: expected numbers, got infinity \(first at index \[1, 0, 2"):
            vmap(form("gated_delta_rule"))(q, k, v, g, beta)
        with pytest.raises(ValueError, match="g: a log decay must be <= 0"):
            vmap(grad(lambda *x, form=form: form("gated_delta_rule")(*x)[0].sum()))(q, k, v.clamp(max=1), -g, beta)


@pytest.mark.parametrize("D", [8, 256])
@pytest.mark.parametrize("activation", [None, "silu"])
@pytest.mark.parametrize("has_bias", [False, True])
def test_the_convolution(D, activation, has_bias):
    rng = torch.Generator().manual_seed(0)
    x, before, weight, bias = (
        torch.randn(3, *shape, generator=rng, dtype=torch.float64) for shape in ((2, 140, D), (2, D, 3), (D, 4), (D,))
    )

    def plain(x, before, weight, bias):
        seen = torch.cat([before, x.mT], -1)
        y = torch.nn.functional.conv1d(seen, weight[:, None], bias if has_bias else None, groups=D).mT
        return (torch.nn.functional.silu(y) if activation else y).square().sum()

    def ours(x, before, weight, bias):
        bias = bias if has_bias else None
        return causal_conv(x, weight, bias, activation=activation, initial_state=before)[0].square().sum()

    wrt, every = (0, 1, 2, 3) if has_bias else (0, 1, 2), (x, before, weight, bias)
    right = [torch.stack(x) for x in zip(*(grad(plain, wrt)(*(y[i] for y in every)) for i in range(3)), strict=True)]
    same(grad(ours, wrt)(*(y[0] for y in every)), [y[0] for y in right])
    same(vmap(grad(ours, wrt))(*every), right)
    same(grad(lambda *y: vmap(ours)(*y).sum(), wrt)(*every), right)
    # one weight for all samples, as in per-sample gradients
    right = torch.stack([grad(plain, 2)(x[i], before[i], weight[0], bias[0]) for i in range(3)])
    same(vmap(grad(ours, 2), (0, 0, None, None))(x, before, weight[0], bias[0]), right)
    with pytest.raises(NotImplementedError, match="causal_conv: forward-mode"):
        jvp(ours, tuple(y[0] for y in every), tuple(y[0] for y in every))
    with pytest.raises(RuntimeError, match="second derivatives are not implemented here"):
        grad(lambda *y: grad(ours)(*y).sum(), 2)(*(y[0] for y in every))


def test_softmax_attention_is_pytorchs_own():
    q, k, v = (torch.randn(3, 1, 5, 2, 4, dtype=torch.float64) for _ in range(3))
    found = vmap(grad(lambda *x: softmax_attention(*x, sinks=torch.zeros(2, dtype=torch.float64)).sum()))(q, k, v)
    one = grad(lambda *x: softmax_attention(*x, sinks=torch.zeros(2, dtype=torch.float64)).sum())(q[1], k[1], v[1])
    same(found[1], one)


@pytest.mark.parametrize("D", [8, 256])
def test_a_projection_at_every_size(D):
    torch.manual_seed(0)
    ours, x = Projection(D, D), torch.randn(3, 5, D)
    plain = torch.nn.Linear(D, D)
    plain.load_state_dict(ours.state_dict())

    def value(model, parameters, x):
        return functional_call(model, parameters, (x,)).square().sum()

    found, right = (
        vmap(grad(lambda p, x, m=m: value(m, p, x)), (None, 0))(dict(m.named_parameters()), x) for m in (ours, plain)
    )
    assert all(error(found[name], right[name]) < 1e-5 for name in right)
    assert error(vmap(ours)(x), plain(x)) < 1e-5
    _, pushed = jvp(ours, (x,), (x,))
    assert error(pushed, x @ plain.weight.T) < 1e-5
    with torch.autograd.forward_ad.dual_level():
        y = ours(torch.autograd.forward_ad.make_dual(x, x))
        assert error(torch.autograd.forward_ad.unpack_dual(y).tangent, x @ plain.weight.T) < 1e-5


def test_the_steps_of_decoding_have_no_derivative():
    x, weight, state = torch.randn(1, 4), torch.randn(4, 3), torch.zeros(1, 4, 2)
    with pytest.raises(RuntimeError, match=r"causal_conv_step: torch\.func can't transform it; use causal_conv"):
        grad(lambda x: causal_conv_step(x, weight, None, state).sum())(x)
    q = torch.randn(1, 2, 4)
    with pytest.raises(RuntimeError, match=r"decode_step: torch\.func can't transform it; use an operator"):
        grad(lambda q: decode_step(q, q, q, None, None, torch.zeros(1, 2, 4, 4)).sum())(q)
