"""fla's keywords around our operators: the gate, the sigmoid and the layout by hand, and what is refused."""

import pytest
import torch
from torch.nn import functional as F

from reference.integrations.fla import PASSED_OVER, REFUSED, fla_form
from reference.ops import (
    chunk_delta_rule,
    chunk_gated_delta_rule,
    chunk_kda,
    recurrent_gated_delta_rule,
    recurrent_kda,
)
from tests.ops.helpers import F32, error, inputs, random_state

FORMS = {
    "gated_delta_rule": (chunk_gated_delta_rule, recurrent_gated_delta_rule),
    "kda": (chunk_kda, recurrent_kda),
}
each = pytest.mark.parametrize(("name", "op"), [(name, op) for name, ops in FORMS.items() for op in ops])


def raw(name):
    """Arguments before the gate and the sigmoid, the gate's weights as fla shapes them, and the g and beta by hand."""
    x = inputs(name, T=20, group=2, dtype=F32)
    rng = torch.Generator().manual_seed(3)
    raw_g, raw_beta = (torch.randn(x[key].shape, generator=rng) for key in ("g", "beta"))
    A_log, dt_bias = torch.randn(4, generator=rng), torch.randn(raw_g.shape[2:], generator=rng)
    rate = A_log.exp()[:, None] if name == "kda" else A_log.exp()
    return x, raw_g, raw_beta, A_log, dt_bias, rate


@each
def test_the_gate_and_the_sigmoid_are_those_of_fla(name, op):
    x, raw_g, raw_beta, A_log, dt_bias, rate = raw(name)
    wanted, _ = op(x["q"], x["k"], x["v"], -rate * F.softplus(raw_g + dt_bias), raw_beta.sigmoid())
    weights = {"use_gate_in_kernel": True, "A_log": A_log, "dt_bias": dt_bias.flatten()}
    tensors = (x["q"], x["k"], x["v"], raw_g, raw_beta)
    o, state = fla_form(op)(*tensors, **weights, use_beta_sigmoid_in_kernel=True)
    assert state is None and error(o, wanted) < 1e-5
    doubled, _ = fla_form(op)(*tensors, **weights, use_beta_sigmoid_in_kernel=True, allow_neg_eigval=True)
    wanted, _ = op(x["q"], x["k"], x["v"], -rate * F.softplus(raw_g + dt_bias), 2 * raw_beta.sigmoid())
    assert error(doubled, wanted) < 1e-5 and error(doubled, o) > 0.05


@each
def test_a_bounded_gate_with_and_without_weights(name, op):
    x, raw_g, _, A_log, dt_bias, rate = raw(name)
    tensors = (x["q"], x["k"], x["v"], raw_g, x["beta"])
    bounded = {"use_gate_in_kernel": True, "lower_bound": -5.0, "safe_gate": True}
    o, _ = fla_form(op)(*tensors, **bounded, A_log=A_log, dt_bias=dt_bias.flatten())
    wanted, _ = op(*tensors[:3], -5 * (rate * (raw_g + dt_bias)).sigmoid(), x["beta"])
    assert error(o, wanted) < 1e-5
    o, _ = fla_form(op)(*tensors, **bounded)
    wanted, _ = op(*tensors[:3], -5 * raw_g.sigmoid(), x["beta"])
    assert error(o, wanted) < 1e-5


@each
def test_states_and_positions_and_keywords_that_change_no_number(name, op):
    x = inputs(name, T=20, group=2, dtype=F32)
    state = random_state(x)
    wanted, final = op(**x, scale=0.3, initial_state=state, output_final_state=True, use_qk_l2norm_in_kernel=True)
    o, turned = fla_form(op)(*x.values(), 0.3, state.mT, True, True, state_v_first=True)
    assert torch.equal(o, wanted) and torch.equal(turned.mT, final)
    o, same = fla_form(op)(*x.values(), 0.3, state, True, True, **dict.fromkeys(PASSED_OVER))
    assert torch.equal(o, wanted) and torch.equal(same, final)


@pytest.mark.parametrize("keyword", [*REFUSED, "window"])
def test_every_other_keyword_is_refused_by_name(keyword):
    with pytest.raises(TypeError, match=f"^{keyword}: "):
        fla_form(chunk_kda)(*inputs("kda").values(), **{keyword: None})


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"allow_neg_eigval": True}, "allow_neg_eigval: it doubles the sigmoid"),
        ({"A_log": torch.zeros(2)}, "A_log, dt_bias, lower_bound: they belong to use_gate_in_kernel"),
        ({"use_gate_in_kernel": True}, "A_log: use_gate_in_kernel needs it, got None"),
        ({"use_gate_in_kernel": True, "A_log": torch.zeros(2), "safe_gate": True}, "lower_bound: safe_gate needs it"),
        ({"use_gate_in_kernel": True, "lower_bound": 1.0}, "lower_bound: expected a number below 0, got 1.0"),
        (
            {"use_gate_in_kernel": True, "lower_bound": -6.0, "safe_gate": True},
            "lower_bound: expected a number from -5 to below 0, got -6.0",
        ),
    ],
)
def test_contradictions_are_named(keywords, message):
    with pytest.raises(ValueError, match=message):
        fla_form(chunk_kda)(*inputs("kda", dtype=F32).values(), **keywords)


def test_another_operator_is_refused():
    with pytest.raises(ValueError, match="op: expected a form of the gated delta rule or of KDA, got chunk_delta_rule"):
        fla_form(chunk_delta_rule)
