"""flash-linear-attention's own naive functions, where it can be imported (it needs Triton)."""

import warnings

import pytest
import torch

from tests.ops.helpers import chunk, error, random_inputs, random_state, recurrent

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # without a GPU fla says so when it is imported; its naive functions still work
    gated = pytest.importorskip("fla.ops.gated_delta_rule.naive", reason="fla needs Triton", exc_type=ImportError)
    kda = pytest.importorskip("fla.ops.kda.naive", reason="fla needs Triton", exc_type=ImportError)


@pytest.mark.parametrize("T", [1, 64, 130])
@pytest.mark.parametrize("form", [chunk, recurrent])
def test_the_gated_delta_rule_agrees(form, T):
    inputs = random_inputs("gated_delta_rule", B=2, T=T, Dk=16, Dv=16)
    state = random_state(inputs)
    keywords = {"initial_state": state, "output_final_state": True}
    o, S = form("gated_delta_rule")(**inputs, **keywords)
    wanted_o, wanted_S = gated.naive_recurrent_gated_delta_rule(
        inputs["q"], inputs["k"], inputs["v"], beta=inputs["beta"], g=inputs["g"], **keywords
    )
    assert error(o, wanted_o) < 2e-5 and error(S, wanted_S) < 2e-5


@pytest.mark.parametrize("T", [1, 64, 130])
@pytest.mark.parametrize("form", [chunk, recurrent])
def test_kda_agrees(form, T):
    inputs = random_inputs("kda", B=2, T=T, Dk=16, Dv=16)
    state = random_state(inputs)
    keywords = {"initial_state": state, "output_final_state": True}
    o, S = form("kda")(**inputs, **keywords)
    wanted_o, wanted_S = kda.naive_recurrent_kda(**inputs, **keywords)
    assert error(o, wanted_o) < 2e-5 and error(S, wanted_S) < 2e-5
    assert torch.isfinite(o).all()
