"""The family's limits: every operator is a special case of the next."""

import pytest
import torch

from tests.ops.helpers import chunk, error, random_inputs, recurrent


def both(form, name, inputs):
    return form(name)(**inputs, output_final_state=True)


@pytest.mark.parametrize("form", [chunk, recurrent])
def test_without_decay_the_gated_delta_rule_is_the_delta_rule(form):
    inputs = random_inputs("gated_delta_rule", T=130, dtype=torch.float64)
    gated = both(form, "gated_delta_rule", inputs | {"g": torch.zeros_like(inputs["g"])})
    plain = both(form, "delta_rule", {key: x for key, x in inputs.items() if key != "g"})
    assert all(error(a, b) < 1e-12 for a, b in zip(gated, plain, strict=True))


@pytest.mark.parametrize("form", [chunk, recurrent])
def test_with_equal_channels_kda_is_the_gated_delta_rule(form):
    inputs = random_inputs("gated_delta_rule", T=130, dtype=torch.float64, low=-3.0)
    channels = inputs | {"g": inputs["g"][..., None].expand(-1, -1, -1, 8)}
    pairs = zip(both(form, "kda", channels), both(form, "gated_delta_rule", inputs), strict=True)
    assert all(error(a, b) < 1e-12 for a, b in pairs)


@pytest.mark.parametrize("form", [chunk, recurrent])
def test_without_decay_lightning_attention_is_linear_attention(form):
    inputs = random_inputs("lightning_attention", T=130, dtype=torch.float64)
    none = both(form, "lightning_attention", inputs | {"g": torch.zeros(2, dtype=torch.float64)})
    plain = both(form, "linear_attention", {key: inputs[key] for key in "qkv"})
    assert all(error(a, b) < 1e-12 for a, b in zip(none, plain, strict=True))


@pytest.mark.parametrize("form", [chunk, recurrent])
def test_keys_at_right_angles_have_nothing_to_erase(form):
    """With orthonormal keys and beta = 1, correcting is adding: the delta rule is linear attention."""
    inputs = random_inputs("delta_rule", T=8, H=1, HV=1, Dk=8, dtype=torch.float64)
    inputs["k"] = torch.eye(8, dtype=torch.float64)[None, :, None]
    inputs["beta"] = torch.ones_like(inputs["beta"])
    delta = both(form, "delta_rule", inputs)
    linear = both(form, "linear_attention", {key: inputs[key] for key in "qkv"})
    assert all(error(a, b) < 1e-12 for a, b in zip(delta, linear, strict=True))


@pytest.mark.parametrize("name", ["linear_attention", "lightning_attention", "delta_rule", "gated_delta_rule", "kda"])
def test_one_token_per_chunk_is_the_recurrence(name):
    inputs = random_inputs(name, T=20, dtype=torch.float64)
    one = chunk(name)(**inputs, chunk_size=1, output_final_state=True)
    assert all(error(a, b) < 1e-13 for a, b in zip(one, both(recurrent, name, inputs), strict=True))


def test_the_delta_rule_with_beta_one_stores_the_last_value_of_a_key():
    inputs = random_inputs("delta_rule", T=50, H=1, HV=1, dtype=torch.float64)
    inputs["beta"] = torch.ones_like(inputs["beta"])
    _, S = both(chunk, "delta_rule", inputs)
    assert error(inputs["k"][0, -1, 0] @ S[0, 0], inputs["v"][0, -1, 0]) < 1e-12
