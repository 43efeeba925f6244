"""A sequence cut anywhere, with the state handed over, gives what the whole sequence gives."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reference.ops import causal_conv, causal_conv_step, decode_step
from tests.ops.helpers import (
    F32,
    F64,
    FLOAT32_ERROR,
    assert_close,
    each_form,
    each_operator,
    each_replayed,
    error,
    gradients,
    inputs,
    leaves,
    random_state,
    recurrence,
    run,
    steady,
)

T = 90
CUTS = st.lists(st.integers(1, T - 1), unique=True, max_size=12).map(sorted)


def in_pieces(name, form, x, cuts, state, **keywords):
    """Run x piece by piece, each from the state that the piece before it left."""
    parts = []
    for start, stop in zip([0, *cuts], [*cuts, x["q"].shape[1]], strict=True):
        piece = {key: value[:, start:stop] for key, value in x.items()}
        o, state = run(name, form, piece, initial_state=state, **keywords)
        parts.append(o)
    return torch.cat(parts, 1), state


@each_operator
@each_form
def test_a_sequence_may_be_cut_anywhere(name, form):
    x = inputs(name, T=T, group=2)
    state = random_state(x)
    whole = recurrence(x, initial_state=state)

    @steady
    @given(cuts=CUTS)
    def check(cuts):
        assert_close(in_pieces(name, form, x, cuts, state), whole, 1e-10)

    check()


@each_operator
def test_both_forms_can_take_turns(name):
    x = inputs(name, T=T)
    first, last = ({key: value[:, part] for key, value in x.items()} for part in (slice(0, 50), slice(50, T)))
    for one, other in (("chunk", "recurrent"), ("recurrent", "chunk")):
        o_first, state = run(name, one, first)
        o_last, final = run(name, other, last, initial_state=state)
        assert_close((torch.cat([o_first, o_last], 1), final), recurrence(x), 1e-10)


@each_operator
def test_more_than_one_token_after_a_state_is_not_a_fresh_start(name):
    x = inputs(name, T=5)
    state = random_state(x)
    with_state, without = (run(name, "chunk", x, initial_state=s)[0] for s in (state, None))
    assert ((with_state - without).abs().amax((0, 2, 3)) > 1e-3).all()


@each_operator
def test_gradients_flow_through_the_state_that_is_handed_over(name):
    own, state = leaves(x := inputs(name, T=T), random_state(x))
    pieces = in_pieces(name, "chunk", own, [1, 20, 64, 65], state)
    got = gradients(pieces, (*own.values(), state))
    wanted = gradients(recurrence(own, initial_state=state), (*own.values(), state))
    assert_close(got, wanted, 1e-9)


@each_replayed
@pytest.mark.parametrize("l2norm", [False, True], ids=["as they are", "l2norm"])
@pytest.mark.parametrize("group", [1, 3], ids=["plain heads", "grouped heads"])
def test_decoding_token_by_token_writes_the_state_in_place(name, l2norm, group):
    x = inputs(name, T=40, group=group)
    x["k"] = x["k"] * 1.3
    state = random_state(x)
    wanted = run(name, "recurrent", x, initial_state=state, scale=0.4, use_qk_l2norm_in_kernel=l2norm)
    kept, address = state.clone(), None
    outputs = []
    for t in range(40):
        token = {key: value[:, t] for key, value in x.items()}
        args = [token.get(key) for key in ("q", "k", "v", "g", "beta")]
        address = address or kept.data_ptr()
        outputs.append(decode_step(*args, kept, scale=0.4, use_qk_l2norm_in_kernel=l2norm))
    assert kept.data_ptr() == address
    assert_close((torch.stack(outputs, 1), kept), wanted, 1e-12)


@each_replayed
def test_decoding_into_another_tensor_leaves_the_state_alone(name):
    x = inputs(name, T=1)
    state = random_state(x)
    before, out = state.clone(), torch.empty_like(state)
    token = [x[key][:, 0] if key in x else None for key in ("q", "k", "v", "g", "beta")]
    o = decode_step(*token, state, out=out)
    assert torch.equal(state, before)
    assert torch.equal(o, decode_step(*token, before)) and torch.equal(out, before)
    with pytest.raises((TypeError, ValueError), match="out: expected"):
        decode_step(*token, state, out=out[..., :1])


@each_replayed
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
def test_decoding_in_half_precision_keeps_a_float32_state(name, dtype):
    x = inputs(name, T=60, dtype=dtype)
    state = torch.zeros(2, 2, 4, 3)
    outputs = []
    for t in range(60):
        token = {key: value[:, t] for key, value in x.items()}
        outputs.append(decode_step(*(token.get(key) for key in ("q", "k", "v", "g", "beta")), state))
    o, final = recurrence(x)
    assert outputs[0].dtype == dtype and state.dtype == F32
    assert error(state, final) <= FLOAT32_ERROR
    assert error(torch.stack(outputs, 1), o) <= torch.finfo(dtype).eps


@pytest.mark.parametrize("gate", [-30.0, -1e6, float("-inf")])
def test_decoding_survives_a_reset(gate):
    x = inputs("kda", T=3)
    x["g"][:, 1] = gate
    state = torch.zeros(2, 2, 4, 3, dtype=F64)
    outputs = [decode_step(*(value[:, t] for value in x.values()), state) for t in range(3)]
    assert_close((torch.stack(outputs, 1), state), recurrence(x), 1e-12)


def conv_arguments(T, W, D=5):
    rng = torch.Generator().manual_seed(3)
    return (torch.randn(s, generator=rng, dtype=F64) for s in ((2, T, D), (D, W), (D,), (2, D, W - 1)))


@pytest.mark.parametrize("W", [1, 2, 4])
@pytest.mark.parametrize("activation", [None, "silu"])
def test_a_convolution_may_be_cut_anywhere(W, activation):
    """Also into pieces shorter than the kernel, whose tail must keep tokens from before the piece."""
    x, weight, bias, state = conv_arguments(30, W)
    whole = causal_conv(x, weight, bias, activation=activation, initial_state=state, output_final_state=True)

    @steady
    @given(cuts=st.lists(st.integers(1, 29), unique=True, max_size=29).map(sorted))
    def check(cuts):
        tail, parts = state, []
        for start, stop in zip([0, *cuts], [*cuts, 30], strict=True):
            keywords = {"activation": activation, "initial_state": tail, "output_final_state": True}
            y, tail = causal_conv(x[:, start:stop], weight, bias, **keywords)
            parts.append(y)
        assert_close((torch.cat(parts, 1), *([tail] if W > 1 else [])), whole[: 1 + (W > 1)], 1e-14)

    check()


@pytest.mark.parametrize("W", [1, 2, 4])
@pytest.mark.parametrize("activation", [None, "silu"])
def test_a_convolution_token_by_token_moves_its_state_in_place(W, activation):
    x, weight, bias, state = conv_arguments(9, W)
    wanted_y, wanted_state = causal_conv(
        x, weight, bias, activation=activation, initial_state=state, output_final_state=True
    )
    kept = state.clone()
    address = kept.data_ptr()
    y = [causal_conv_step(x[:, t], weight, bias, kept, activation=activation) for t in range(9)]
    assert error(torch.stack(y, 1), wanted_y) < 1e-14
    assert torch.equal(kept, wanted_state) and kept.data_ptr() == address


def test_a_convolution_tail_shorter_than_the_kernel_starts_with_zeros():
    x, weight, _, _ = conv_arguments(2, 6)
    _, tail = causal_conv(x, weight, output_final_state=True)
    assert tail.shape == (2, 5, 5)
    assert tail[..., :3].eq(0).all() and torch.equal(tail[..., 3:], x.mT)
