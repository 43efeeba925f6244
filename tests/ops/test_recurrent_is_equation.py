"""recurrent_*: the equations of chapters 02 and 03, for every head, written twice more elsewhere."""

import numpy as np
import pytest
import torch

from reference import equations
from reference.ops import OPERATORS
from tests.ops.helpers import F64, assert_close, each_operator, error, inputs, random_state, recurrence, run

SCANS = {
    "linear_attention": equations.hebbian_scan,
    "lightning_attention": equations.decayed_hebbian_scan,
    "delta_rule": equations.delta_scan,
    "gated_delta_rule": equations.gated_delta_scan,
    "kda": equations.kda_scan,
    "gdn2": equations.gdn2_scan,
    "two_key_rule": equations.two_key_scan,
}


def scan_of_one_head(name, x, b, h, group, scale, state):
    """Batch row b and value head h by the NumPy equations."""
    own = [value[b, :, h // group if key in "qkp" else h].numpy() for key, value in x.items()]
    return SCANS[name](*own, scale=scale, initial_state=state[b, h].numpy())


@each_operator
@pytest.mark.parametrize("group", [1, 3], ids=["one value head per key head", "three value heads per key head"])
def test_every_head_follows_the_numpy_equations(name, group):
    x = inputs(name, B=2, T=9, H=2, group=group, Dk=4, Dv=3, beta_max=2.0)
    state = random_state(x)
    o, final = run(name, "recurrent", x, scale=0.7, initial_state=state)
    for b in range(2):
        for h in range(2 * group):
            wanted_o, wanted_final = scan_of_one_head(name, x, b, h, group, 0.7, state)
            np.testing.assert_allclose(o[b, :, h].numpy(), wanted_o, rtol=0, atol=1e-13)
            np.testing.assert_allclose(final[b, h].numpy(), wanted_final, rtol=0, atol=1e-13)


@each_operator
@pytest.mark.parametrize("scale", [None, 1, 0.25, -2.0], ids=lambda s: f"scale {s}")
@pytest.mark.parametrize("group", [1, 2], ids=["plain heads", "grouped heads"])
@pytest.mark.parametrize("graph", [False, True], ids=["state in place", "with autograd's graph"])
def test_it_is_the_product_of_transition_matrices(name, scale, group, graph):
    x = inputs(name, T=21, H=3, group=group, Dk=5, Dv=4, beta_max=2.0)
    state = random_state(x).requires_grad_(graph)
    wanted = recurrence(x, scale=scale, initial_state=state)
    assert_close(run(name, "recurrent", x, scale=scale, initial_state=state), wanted, 1e-13)


@each_operator
def test_no_initial_state_means_zeros(name):
    x = inputs(name)
    zeros = torch.zeros_like(random_state(x))
    assert_close(run(name, "recurrent", x), run(name, "recurrent", x, initial_state=zeros), 0)
    assert_close(run(name, "recurrent", x), recurrence(x), 1e-13)


@each_operator
def test_scale_none_is_one_over_the_root_of_dk(name):
    x = inputs(name, Dk=16)
    assert error(run(name, "recurrent", x)[0], run(name, "recurrent", x, scale=0.25)[0]) == 0


@each_operator
@pytest.mark.parametrize("form", ["recurrent", "chunk"])
def test_l2norm_divides_q_and_k_by_their_length_with_eps_inside_the_root(name, form):
    x = inputs(name, T=11)
    x["q"], x["k"] = 3 * x["q"], 0.01 * x["k"]  # short keys: eps = 1e-6 inside or outside of the root shows
    by_hand = dict(x)
    for key in "qk":
        by_hand[key] = x[key] / (x[key].square().sum(-1, keepdim=True) + 1e-6).sqrt()
    got = run(name, form, x, use_qk_l2norm_in_kernel=True)
    assert_close(got, recurrence(by_hand), 1e-12)
    assert error(got[0], recurrence(x)[0]) > 0.1


@each_operator
@pytest.mark.parametrize("form", ["recurrent", "chunk"])
def test_the_final_state_comes_only_when_asked_for(name, form):
    x = inputs(name)
    call = getattr(OPERATORS[name], form)
    o, none = call(*x.values())
    assert none is None
    with_state, state = call(*x.values(), output_final_state=True)
    assert torch.equal(o, with_state)
    assert state.shape == (2, 2, 4, 3) and state.dtype == F64


@each_operator
@pytest.mark.parametrize("form", ["recurrent", "chunk"])
def test_no_argument_is_written_into(name, form):
    x = inputs(name, T=70)
    state = random_state(x)
    before = [t.clone() for t in (*x.values(), state)]
    run(name, form, x, initial_state=state, use_qk_l2norm_in_kernel=True)
    for old, new in zip(before, (*x.values(), state), strict=True):
        assert torch.equal(old, new)


@pytest.mark.parametrize("form", ["recurrent", "chunk"])
def test_the_decays_of_kda_belong_to_the_key_channels(form):
    """With Dk = Dv a decay on the value channels has the right shape: a channel that is kept, one that is reset."""
    x = inputs("kda", B=1, T=5, H=1, Dk=2, Dv=2)
    x["g"] = torch.tensor([0.0, -torch.inf], dtype=torch.float64).expand(1, 5, 1, 2)
    x["k"] = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)[torch.arange(5) % 2][None, :, None]
    x["beta"] = torch.ones(1, 5, 1, dtype=torch.float64)
    _, S = run("kda", form, x)
    torch.testing.assert_close(S[0, 0, 0], x["v"][0, 4, 0])  # the last token's, in the channel that is kept
    assert not S[0, 0, 1].any()  # what tokens 1 and 3 wrote there is gone
