"""Properties that hold whatever the numbers: causality, independent heads and rows, linearity."""

import pytest
import torch

from reference.ops import OPERATORS
from tests.ops.helpers import NAMES, chunk, error, random_inputs, random_state, recurrent


@pytest.mark.parametrize(
    "name, changed", [(name, key) for name in NAMES for key in ("q", "k", "v", *OPERATORS[name].extras)]
)
@pytest.mark.parametrize("t", [0, 30, 64, 99])
def test_a_token_changes_nothing_before_itself_and_something_from_itself_on(name, changed, t):
    inputs = random_inputs(name, T=100)
    other = dict(inputs)
    other[changed] = inputs[changed].clone()
    other[changed][:, t] = -inputs[changed][:, t] if changed != "g" else 2 * inputs["g"][:, t]
    assert not torch.equal(other[changed], inputs[changed])
    state = random_state(inputs)
    before, after = (chunk(name)(**x, initial_state=state)[0] for x in (inputs, other))
    assert torch.allclose(before[:, :t], after[:, :t], atol=1e-6)
    assert error(after[:, t:], before[:, t:]) > 1e-4


@pytest.mark.parametrize("name", NAMES)
def test_permuting_heads_permutes_outputs(name):
    inputs = random_inputs(name, T=40, H=3, HV=6, Dk=5, Dv=4)
    order, groups = torch.tensor([2, 0, 1]), torch.tensor([4, 5, 0, 1, 2, 3])
    moved = {key: x[:, :, order if key in "qkp" else groups] for key, x in inputs.items()}
    (o, S), (o_moved, S_moved) = (chunk(name)(**x, output_final_state=True) for x in (inputs, moved))
    assert torch.allclose(o[:, :, groups], o_moved, atol=1e-6)
    assert torch.allclose(S[:, groups], S_moved, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", [chunk, recurrent])
def test_neighbouring_value_heads_share_a_key_head(name, form):
    inputs = random_inputs(name, T=20, H=2, HV=6)
    spread = {key: x[:, :, [0, 0, 0, 1, 1, 1]] if key in "qkp" else x for key, x in inputs.items()}
    assert torch.allclose(form(name)(**inputs)[0], form(name)(**spread)[0], atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_rows_of_the_batch_are_independent(name):
    inputs = random_inputs(name, B=3, T=70)
    whole = chunk(name)(**inputs)[0]
    for b in range(3):
        alone = chunk(name)(**{key: x[b : b + 1] for key, x in inputs.items()})[0]
        assert torch.allclose(whole[b : b + 1], alone, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_outputs_are_linear_in_the_values(name):
    inputs = random_inputs(name, T=70, dtype=torch.float64)
    other = torch.randn_like(inputs["v"])
    mixed = chunk(name)(**inputs | {"v": 2 * inputs["v"] - 3 * other})[0]
    apart = 2 * chunk(name)(**inputs)[0] - 3 * chunk(name)(**inputs | {"v": other})[0]
    assert torch.allclose(mixed, apart, atol=1e-10)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", [chunk, recurrent])
def test_scale_multiplies_the_outputs_and_leaves_the_state(name, form):
    inputs = random_inputs(name, T=70, dtype=torch.float64)
    (one, S), (two, S2) = (form(name)(**inputs, scale=s, output_final_state=True) for s in (1.0, -2.5))
    assert torch.allclose(-2.5 * one, two, atol=1e-12) and torch.equal(S, S2)
