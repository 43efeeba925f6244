"""flash-linear-attention's own naive functions, where it can be imported (it needs Triton)."""

import importlib
import warnings

import numpy as np
import pytest
import torch

from reference.equations import least_squares_scan, log_linear_scan
from reference.ops import chunk_gated_delta_product
from tests.ops.helpers import chunk, error, random_inputs, random_state, recurrent

FORMS = pytest.mark.parametrize("form", [chunk, recurrent])
# Our operator, and fla's function of the same rule.
SAME = {
    "lightning_attention": "simple_gla.naive_recurrent_simple_gla",
    "gated_delta_rule": "gated_delta_rule.naive_recurrent_gated_delta_rule",
    "kda": "kda.naive_recurrent_kda",
    "two_key_rule": "comba.naive_recurrent_comba",
    "gdn2": "gdn2.naive_recurrent_gdn2",
}


def naive(name):
    """fla's function; the test is skipped where fla or this function of it can't be imported."""
    module, function = name.split(".")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # without a GPU fla says so when it is imported; its naive functions still work
        try:
            return getattr(importlib.import_module(f"fla.ops.{module}.naive"), function)
        except (ImportError, AttributeError) as missing:
            pytest.skip(f"fla.ops.{name}: needs flash-linear-attention and Triton ({missing})")


@pytest.mark.parametrize("T", [1, 64, 130])
@FORMS
@pytest.mark.parametrize("name", SAME)
def test_the_rule_is_flas(name, form, T):
    theirs, inputs = naive(SAME[name]), random_inputs(name, B=2, T=T, Dk=16, Dv=16)
    keywords = {"initial_state": random_state(inputs), "output_final_state": True}
    o, S = form(name)(**inputs, **keywords)
    wanted_o, wanted_S = theirs(**inputs, **keywords)
    assert error(o, wanted_o) < 2e-5 and error(S, wanted_S) < 2e-5
    assert torch.isfinite(o).all()


@pytest.mark.parametrize("T", [1, 64, 130])
@FORMS
def test_the_delta_rule_is_flas(form, T):
    theirs, inputs = naive("delta_rule.delta_rule_recurrence"), random_inputs("delta_rule", B=2, T=T, Dk=16, Dv=16)
    state = random_state(inputs)
    o, S = form("delta_rule")(**inputs, initial_state=state, output_final_state=True)
    heads_first = {name: x.transpose(1, 2) for name, x in inputs.items()}
    wanted_o, wanted_S = theirs(**heads_first, initial_state=state)
    assert error(o, wanted_o.transpose(1, 2)) < 2e-5 and error(S, wanted_S) < 2e-5


@pytest.mark.parametrize("n", [1, 2, 3])
def test_several_steps_a_token_are_flas(n):
    theirs = naive("gated_delta_product.naive_recurrent_gated_delta_product")
    steps, tokens = random_inputs("gated_delta_rule", B=2, T=30 * n, Dk=16, Dv=16), slice(0, 30)
    parts = {
        **{name: steps[name] for name in ("k", "v", "beta")},
        "q": steps["q"][:, tokens],
        "g": steps["g"][:, tokens],
    }
    keywords = {"initial_state": random_state(steps), "output_final_state": True, "num_householder": n, "scale": 0.25}
    o, S = chunk_gated_delta_product(**parts, **keywords)
    wanted_o, wanted_S = theirs(**parts, **keywords)
    assert error(o, wanted_o) < 2e-5 and error(S, wanted_S) < 2e-5


def test_the_exact_solve_is_mesa_nets():
    theirs, x = naive("mesa_net.naive_mesa_net_exact"), random_inputs("delta_rule", T=20, H=1, Dk=8, Dv=8)
    zeros, penalty = torch.zeros(1, 20, 1), torch.full((1, 8), 0.5)
    wanted, _, _ = theirs(x["q"], x["k"], x["v"], zeros, penalty, x["beta"])
    q, k, v, beta = (x[name][0, :, 0].double().numpy() for name in ("q", "k", "v", "beta"))
    assert np.abs(least_squares_scan(q, k, v, beta, penalty=0.5) - wanted[0, :, 0].numpy()).max() < 1e-3


def test_the_growing_state_is_flas():
    theirs, x = naive("log_linear_attn.naive_log_linear_attn"), random_inputs("lightning_attention", T=21, H=1)
    weights = torch.rand(1, 21, 1, 6, generator=torch.Generator().manual_seed(0))
    wanted = theirs(x["q"], x["k"], x["v"], x["g"], weights)
    q, k, v, g, w = (y[0, :, 0].double().numpy() for y in (x["q"], x["k"], x["v"], x["g"], weights))
    assert np.abs(log_linear_scan(q, k, v, g, w) - wanted[0, :, 0].numpy()).max() < 1e-5
