"""The Triton kernels' own source, run by the book's emulation, gives the numbers of a float64 recurrence."""

import subprocess
import sys

import pytest
import torch

from reference.kernels import choice, host, language
from reference.kernels.emulation import emulate, tl
from reference.kernels.tiles import chunk_inverse_by_blocks
from reference.ops import OPERATORS, decode_step
from reference.ops.chunk import inverse_by_products
from tests.kernels.cases import ADDITIVE, LENGTHS, NAMES, WITHIN, case, run_kernels, wanted
from tests.ops.helpers import assert_close, error, gradients, leaves, random_state, recurrence

each_name = pytest.mark.parametrize("name", NAMES)
each_cut = pytest.mark.parametrize("cut", [False, True], ids=["one kernel", "three kernels"])


@each_name
@each_cut
@pytest.mark.parametrize("T", LENGTHS)
def test_any_length_is_right_in_float32(name, cut, T):
    x, state = case(name, T)
    assert_close(run_kernels(x, state, cut=cut), wanted(x, state), WITHIN)


@pytest.mark.parametrize("name", ADDITIVE)
@pytest.mark.parametrize("T", LENGTHS)
def test_an_additive_rule_has_no_triangle_and_the_same_promise(name, T):
    x, state = case(name, T, B=2, H=2, group=2)
    assert_close(run_kernels(x, state), wanted(x, state), WITHIN)


@pytest.mark.parametrize("name", ADDITIVE)
def test_an_additive_rule_keeps_packed_sequences_and_strong_gates_apart(name):
    x, _ = case(name, 90, strong_gates=True)
    bounds = [0, 17, 17, 64, 90]
    state = random_state(x, 4)
    assert_close(run_kernels(x, state, bounds=bounds), wanted(x, state, bounds=bounds), WITHIN)


@each_name
@each_cut
@pytest.mark.parametrize("T", [37, 130])
def test_strong_gates_and_resets_cost_no_digit(name, cut, T):
    x, state = case(name, T, strong_gates=True)
    assert_close(run_kernels(x, state, cut=cut), wanted(x, state), WITHIN)


@each_name
@each_cut
def test_keys_that_are_alike_cost_no_digit(name, cut):
    """Powers of A would reach 10^17 here before they vanish."""
    x, state = case(name, 64)
    x["k"] = x["k"][:, :1].expand_as(x["k"])
    assert_close(run_kernels(x, state, cut=cut), wanted(x, state), WITHIN)


@each_name
@each_cut
@pytest.mark.parametrize("chunk_size", [1, 16, 33, 1000])
def test_every_chunk_size_gives_the_same_numbers(name, cut, chunk_size):
    x, state = case(name, 70)
    assert_close(run_kernels(x, state, cut=cut, chunk_size=chunk_size), wanted(x, state), WITHIN)


@each_name
@each_cut
def test_rows_heads_groups_and_sizes_find_their_own_numbers(name, cut):
    x, state = case(name, 21, B=2, H=2, group=3, Dk=32, Dv=64)
    assert_close(run_kernels(x, state, cut=cut), wanted(x, state), WITHIN)


@each_name
@each_cut
def test_packed_sequences_don_t_see_each_other_and_may_be_empty(name, cut):
    x, _ = case(name, 90)
    bounds = [0, 17, 17, 64, 90]
    state = random_state(x, 4)
    assert_close(run_kernels(x, state, cut=cut, bounds=bounds), wanted(x, state, bounds=bounds), WITHIN)


@each_name
def test_no_first_state_is_an_empty_one(name):
    x, state = case(name, 20)
    assert_close(run_kernels(x, None), wanted(x, 0 * state), WITHIN)


@each_name
@each_cut
def test_bfloat16_goes_in_and_out_and_the_state_stays_float32(name, cut):
    x, state = case(name, 70)
    half = {key: value if key in ("g", "beta") else value.bfloat16() for key, value in x.items()}
    o, last = run_kernels(half, state, cut=cut)
    wanted_o, wanted_last = wanted(half, state)
    assert o.dtype == torch.bfloat16 and last.dtype == torch.float32
    assert error(last, wanted_last) <= 2e-3  # products of 11 bits, tf32
    assert error(o, wanted_o) <= torch.finfo(torch.bfloat16).eps


@each_name
@pytest.mark.parametrize("strong_gates", [False, True], ids=["mild gates", "strong gates"])
@pytest.mark.parametrize("T", [1, 37, 130])
def test_gradients_are_those_of_the_recurrence(name, T, strong_gates):
    x, state = case(name, T, strong_gates=strong_gates)
    (ours, own), (theirs, other) = leaves(x, state), leaves({k: v.double() for k, v in x.items()}, state.double())
    got = gradients(run_kernels(ours, own), [*ours.values(), own])
    right = gradients(recurrence(theirs, scale=0.3, initial_state=other), [*theirs.values(), other])
    assert_close(got, right, 4e-6)


@each_name
def test_gradients_of_groups_rows_and_packed_sequences(name):
    for x, state, bounds in (
        (*case(name, 21, B=2, H=2, group=3), None),
        (case(name, 50)[0], random_state(case(name, 50)[0], 3), [0, 20, 20, 50]),
    ):
        ours, own = leaves(x, state)
        theirs, other = leaves({k: v.double() for k, v in x.items()}, state.double())
        got = gradients(run_kernels(ours, own, bounds=bounds), [*ours.values(), own])
        right = recurrence(theirs, scale=0.3, initial_state=other, bounds=bounds)
        assert_close(got, gradients(right, [*theirs.values(), other]), 4e-6)


@each_name
def test_no_two_programs_touch_one_number(name, monkeypatch):
    """On a GPU they run in no order: forward, backward and decoding, each launch of them."""
    launches = []

    def watched(kernel, grid, *arguments, num_warps=4, **constants):
        launches.append((kernel, language.emulation.emulate(kernel, grid, *arguments, **constants)))

    monkeypatch.setattr(host, "run_programs", watched)
    x, state = case(name, 40, B=2, Dv=64)
    ours, own = leaves(x, state)
    run_kernels(x, state, cut=False)
    gradients(run_kernels(ours, own), [*ours.values(), own])
    token = [value[:, 0].contiguous() for value in x.values()]
    host.kernel_decode(*token, state, state, 1.0)
    assert len(launches) == 1 + 3 + 4 + 1
    assert [ran.races for _, ran in launches if ran.races] == []


@each_name
def test_second_derivatives_are_refused(name):
    x, _ = case(name, 5)
    x = leaves(x)
    o, _ = run_kernels(x, None)
    (dq,) = torch.autograd.grad(o.sum(), x["q"], create_graph=True)
    with pytest.raises(RuntimeError, match="second derivatives"):
        dq.sum().backward()


@each_name
@pytest.mark.parametrize("in_place", [True, False])
def test_decoding_is_the_recurrence(name, in_place):
    x, state = case(name, 6, B=2, H=2)
    right_o, right_state = wanted(x, state)
    out = state if in_place else torch.empty_like(state)
    for t in range(6):
        o = host.kernel_decode(*(value[:, t] for value in x.values()), state, out, 0.3)
        assert error(o, right_o[:, t]) <= WITHIN
        state = out if in_place else out.clone()
    assert error(out, right_state) <= WITHIN


def invert(A, X, C: tl.constexpr, ROUNDS: tl.constexpr):
    r = tl.arange(0, C)
    at = r[:, None] * C + r[None, :]
    tl.store(X + at, chunk_inverse_by_blocks(tl.load(A + at), C, ROUNDS, "ieee"))


def test_the_chunk_s_inverse_is_that_of_the_operator():
    A = torch.randn(1, 32, 32).tril(-1)
    X = torch.empty_like(A)
    emulate(invert, (1,), A, X, C=32, ROUNDS=5)
    assert error(X, inverse_by_products(A)) <= 1e-6


def test_the_operators_on_a_cpu_import_no_triton_and_no_kernel():
    code = (
        "import sys, torch; from reference.ops import chunk_gated_delta_rule as f;"
        "q, g = torch.ones(1, 3, 1, 16), -torch.ones(1, 3, 1); f(q, q, q, g, -g);"
        "print([m for m in sys.modules if m == 'triton' or m.startswith('reference.kernels.')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['reference.kernels.choice']"


@each_name
def test_where_the_operators_take_them_the_kernels_are_called_with_the_operators_own_arguments(name, monkeypatch):
    """What a GPU does, tried without one: the choice is made for a CPU's tensors."""

    class OnGpu(torch.Tensor):
        is_cuda = True

    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    monkeypatch.setattr(choice, "takes_kernel", lambda *_: True)
    x, state = case(name, 20)
    seen = {key: value.as_subclass(OnGpu) for key, value in x.items()}
    called = []
    monkeypatch.setattr(choice, "host", lambda: called.append(1) or CpuHost)
    got = OPERATORS[name].chunk(*seen.values(), scale=0.3, initial_state=state, output_final_state=True)
    assert_close(got, wanted(x, state), WITHIN)
    first, other = ([value[:, 0] for value in y.values()] for y in (seen, x))
    one, two = state.clone(), state.clone()
    assert_close([decode_step(*first, one), one], [decode_step(*other, two), two], WITHIN)
    assert len(called) == 2


class CpuHost:
    """The kernels, called with plain tensors."""

    @staticmethod
    def kernel_form(*arguments):
        return host.kernel_form(*map(plain, arguments))

    @staticmethod
    def kernel_decode(*arguments):
        return host.kernel_decode(*map(plain, arguments))


def plain(x):
    return x.as_subclass(torch.Tensor) if isinstance(x, torch.Tensor) else x
