"""Numbers that survive: gates from nothing to a full reset, repeated and empty keys, and the NaN that others met."""

import pytest
import torch

from tests.ops.helpers import (
    F32,
    F64,
    FLOAT32_ERROR,
    assert_close,
    each_erasing,
    each_form,
    each_gated,
    each_operator,
    error,
    gradients,
    inputs,
    leaves,
    random_state,
    recurrence,
    run,
)

GATES = [0.0, -1e-30, -30.0, -100.0, -1e4, -1e6, -3e38, float("-inf")]
PLACES = {
    "the first token": [0],
    "one token": [37],
    "several of one chunk": [3, 17, 18, 40, 41, 42, 60],
    "all tokens": slice(None),
}
each_gate = pytest.mark.parametrize("gate", GATES, ids=lambda g: f"gate {g:g}")
each_place = pytest.mark.parametrize("place", PLACES.values(), ids=PLACES.keys())


def with_gate(name, gate, place, *, dtype=F32, T=100, **sizes):
    """Mild gates, between -0.05 and 0, and `gate` at some tokens."""
    x = inputs(name, B=1, T=T, Dk=8, Dv=6, dtype=dtype, strength=0.05, **sizes)
    x["g"][:, place] = gate
    return x


@each_gated
@each_form
@each_gate
@each_place
def test_any_decay_gives_the_right_values_in_float32(name, form, gate, place):
    """Also for the mild gates that follow a strong one in its chunk: differences of running sums lose them."""
    x = with_gate(name, gate, place)
    state = random_state(x)
    assert_close(run(name, form, x, initial_state=state), recurrence(x, initial_state=state), FLOAT32_ERROR)


@each_gated
@each_gate
@each_place
def test_any_decay_gives_finite_and_right_gradients(name, gate, place):
    x = with_gate(name, gate, place, dtype=F64)
    own, s = leaves(x, random_state(x))
    got = gradients(run(name, "chunk", own, initial_state=s), (*own.values(), s))
    wanted = gradients(recurrence(own, initial_state=s), (*own.values(), s))
    for key, a, b in zip((*x, "initial_state"), got, wanted, strict=True):
        assert a.isfinite().all(), key
        assert (a - b).abs().max() <= 1e-9 * max(b.abs().max(), 1), key


@each_gated
def test_float32_gradients_stay_finite_and_close_under_resets(name):
    x = with_gate(name, float("-inf"), PLACES["several of one chunk"])
    own, wide = leaves(x), leaves({key: value.double() for key, value in x.items()})
    got = gradients(run(name, "chunk", own), tuple(own.values()))
    wanted = gradients(recurrence(wide), tuple(wide.values()))
    assert_close(got, wanted, 1e-4)


@each_gated
@each_form
def test_the_gradient_of_a_full_reset_is_exactly_zero_and_of_the_others_is_not(name, form):
    x = with_gate(name, float("-inf"), [37], dtype=F64)
    own = leaves(x)
    (dg,) = gradients(run(name, form, own), [own["g"]])
    assert dg[:, 37].eq(0).all()
    assert dg[:, 1:37].ne(0).all() and dg[:, 38:].ne(0).all()


@each_gated
@each_form
def test_a_document_boundary_is_a_gate_that_forgets_everything(name, form):
    x = inputs(name, B=1, T=150, dtype=F32)
    starts = [0, 1, 40, 64, 129]
    x["g"][:, starts] = float("-inf")
    o, final = run(name, form, x, initial_state=random_state(x))
    wanted = []
    for start, stop in zip(starts, [*starts[1:], 150], strict=True):
        document = {key: value[:, start:stop].clone() for key, value in x.items()}
        document["g"][:, 0] = 0  # it starts from zeros: nothing there that could fade
        wanted.append(recurrence(document))
    assert_close((o, final), (torch.cat([y for y, _ in wanted], 1), wanted[-1][1]), FLOAT32_ERROR)


def test_kda_may_reset_some_channels_and_keep_others():
    x = inputs("kda", B=1, T=80, Dk=6, dtype=F32)
    x["g"][:, 20, :, ::2] = float("-inf")
    x["g"][:, 50, :, 1] = -1e6
    state = random_state(x)
    assert_close(run("kda", "chunk", x, initial_state=state), recurrence(x, initial_state=state), FLOAT32_ERROR)


@each_erasing
@pytest.mark.parametrize("T", [64, 128, 129])
@pytest.mark.parametrize("beta", [1.0, 2.0, 1e-3])
def test_one_key_repeated_through_long_chunks(name, T, beta):
    """Every entry of the system below its diagonal is beta: the worst conditioned chunk that unit keys can make.

    With beta = 1 only the last value stays; with beta = 2 the memory flips its sign at every token.
    """
    x = inputs(name, B=1, T=T, Dk=5, dtype=F32, strength=0.0)
    x["k"] = x["k"][:, :1].expand_as(x["k"]).clone()
    x |= {"p": x["k"]} if "p" in x else {}
    x["beta"] = torch.full_like(x["beta"], beta)
    for chunk_size in (64, 128):
        assert_close(run(name, "chunk", x, chunk_size=chunk_size), recurrence(x), FLOAT32_ERROR)
    if beta == 1.0:
        got = torch.einsum("bhk,bhkd->bhd", x["k"][:, 0], run(name, "chunk", x)[1])
        assert error(got, x["v"][:, -1]) <= FLOAT32_ERROR


@each_erasing
@each_form
def test_beta_up_to_two_is_allowed(name, form):
    x = inputs(name, B=1, T=130, H=2, dtype=F32, strength=0.01)
    x["beta"] = 2 - 0.1 * x["beta"]
    assert_close(run(name, form, x), recurrence(x), FLOAT32_ERROR)


@each_erasing
@each_form
def test_beta_zero_writes_nothing(name, form):
    x = inputs(name, T=70)
    x["beta"] = torch.zeros_like(x["beta"])
    state = random_state(x)
    final = run(name, form, x, initial_state=state)[1]
    g = x.get("g", torch.zeros(2, 70, 2, dtype=F64))
    decay = (g if g.dim() == 4 else g[..., None]).sum(1).exp()[..., None]
    assert error(final, decay * state) < 1e-12


@each_operator
@each_form
def test_a_zero_key_writes_nothing_and_a_zero_query_reads_nothing(name, form):
    x = inputs(name, T=70)
    x["k"][:, 10:40] = 0
    x["q"][:, 20:50] = 0
    got = run(name, form, x)
    assert_close(got, recurrence(x), 1e-12)
    assert got[0][:, 20:50].eq(0).all()
    other = {**x, "v": x["v"].clone()}
    other["v"][:, 10:40] += 1
    assert_close(run(name, form, other), got, 0)


@each_operator
def test_zero_keys_under_l2norm_have_finite_gradients(name):
    """Padding often is zeros, and x / |x| has no derivative there; eps inside the root gives it one."""
    x = inputs(name, T=70)
    x["k"][:, 10:20] = x["q"][:, 10:20] = 0
    own = leaves(x)
    got = gradients(run(name, "chunk", own, use_qk_l2norm_in_kernel=True), tuple(own.values()))
    assert all(d.isfinite().all() for d in got)


@each_operator
@each_form
def test_one_token_is_enough(name, form):
    x = inputs(name, T=1, group=2)
    state = random_state(x)
    assert_close(run(name, form, x, initial_state=state), recurrence(x, initial_state=state), 1e-13)
    own = leaves(x)
    assert all(d.isfinite().all() for d in gradients(run(name, form, own), tuple(own.values())))


@each_operator
@pytest.mark.parametrize("size", [1e-20, 1e-3, 1e3, 1e15], ids=lambda s: f"values of size {s:g}")
def test_the_size_of_the_values_does_not_matter(name, size):
    x = inputs(name, T=100, dtype=F32)
    x["v"] = x["v"] * size
    assert_close(run(name, "chunk", x), recurrence(x), FLOAT32_ERROR)


@each_form
def test_fla_issue_99_gates_of_minus_hundreds_per_token_give_no_nan(form):
    """https://github.com/fla-org/flash-linear-attention/issues/99: NaN in the corrected values of Gated DeltaNet.

    Cause: the decay between two tokens as e^{G_r - G_s} for all pairs, masked afterwards. Above the diagonal
    G_r - G_s is positive, its exp overflows to inf once it passes 88, and inf times 0 is NaN.
    """
    x = inputs("gated_delta_rule", B=1, T=128, H=2, Dk=16, Dv=16, dtype=F32, strength=200.0)
    chunk = x["g"][:, :64].sum(1)
    assert (-chunk).exp().isinf().all()  # the input has what it takes
    assert_close(run("gated_delta_rule", form, x), recurrence(x), FLOAT32_ERROR)


@each_form
def test_fla_issue_111_long_training_with_strong_gates_gives_finite_gradients(form):
    """https://github.com/fla-org/flash-linear-attention/issues/111: NaN in training with a decay.

    Cause: the same overflow on the way back. The forward may hide it behind a mask; the gradient of the
    masked entries is 0 times inf. Here only pairs s <= r are ever exponentiated.
    """
    x = inputs("gated_delta_rule", B=1, T=128, H=2, Dk=16, Dv=16, dtype=F32, strength=50.0)
    assert (-x["g"].sum(1)).exp().isinf().all()
    own = leaves(x)
    got = gradients(run("gated_delta_rule", form, own), tuple(own.values()))
    wide = leaves({key: value.double() for key, value in x.items()})
    assert_close(got, gradients(recurrence(wide), tuple(wide.values())), 1e-4)


@each_form
def test_fla_issue_122_a_channel_decay_does_not_overflow(form):
    """https://github.com/fla-org/flash-linear-attention/issues/122: NaN from channel gates.

    Cause: scores as (q e^G) · (k e^{-G}), whose second factor overflows float32 once a channel's sum in a
    chunk passes -88. Here each pair decays through a cut between its tokens: two factors, both at most 1.
    """
    x = inputs("kda", B=1, T=128, H=2, Dk=16, Dv=16, dtype=F32, strength=8.0)
    assert (-x["g"][:, :64].sum(1)).exp().isinf().any()
    assert_close(run("kda", form, x), recurrence(x), FLOAT32_ERROR)


@each_form
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["float16", "bfloat16"])
def test_fla_issue_736_unnormalized_keys_in_half_precision(form, dtype):
    """https://github.com/fla-org/flash-linear-attention/issues/736: NaN after the WY step of the delta rule in float16.

    Cause: keys straight from randn have |k|^2 = 64, so I - beta k k^T multiplies its direction by up to -63:
    the recurrence itself explodes (about 1e38 and more after 64 tokens), and float16 ends at 65504. No
    arithmetic repairs that. use_qk_l2norm_in_kernel does, and then nothing is lost in half inputs.
    """
    rng = torch.Generator().manual_seed(42)
    q, k, v = (torch.randn(1, 64, 1, 64, generator=rng).to(dtype) for _ in range(3))
    beta = torch.randn(1, 64, 1, generator=rng).sigmoid().to(dtype)
    x = {"q": q, "k": k, "v": v, "beta": beta}
    assert recurrence(x)[1].abs().max() > 65504
    unit = {**x, **{key: torch.nn.functional.normalize(x[key].double(), dim=-1) for key in "qk"}}
    o, final = run("delta_rule", form, x, use_qk_l2norm_in_kernel=True)
    assert o.dtype == dtype and error(o, recurrence(unit)[0]) <= torch.finfo(dtype).eps
    assert error(final, recurrence(unit)[1]) <= FLOAT32_ERROR


@each_erasing
def test_unnormalized_keys_of_bounded_size_are_right(name):
    """Keys of length up to 1.4 with beta <= 1 keep |1 - beta |k|^2| <= 1: the memory stays bounded."""
    x = inputs(name, B=1, T=130, Dk=8, dtype=F32)
    x["k"] = x["k"] * torch.linspace(0.1, 1.4, 130)[:, None, None]
    assert_close(run(name, "chunk", x), recurrence(x), FLOAT32_ERROR)
