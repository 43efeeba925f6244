"""Edges of reference/equations.py: extreme decay, precision, inputs left untouched, wrong arguments."""

import numpy as np
import pytest

from reference import equations as eq
from tests.test_equations import close, each_scan, inputs, run

with_decay = pytest.mark.parametrize("name", ["decayed_hebbian", "gated_delta", "kda"])


@with_decay
def test_a_log_decay_of_minus_infinity_forgets_everything_before_it_and_gives_no_nan(name):
    x = inputs()
    x["g"][3], x["G"][3] = -np.inf, -np.inf
    o, S = run(name, x, initial_state=x["S"])
    assert np.isfinite(o).all() and np.isfinite(S).all()
    fresh, end = run(name, x, slice(3, None))
    close(o[3:], fresh)
    close(S, end)


@with_decay
def test_very_strong_decay_underflows_to_zero_without_a_warning(name):
    x = inputs(T=64)
    x["g"], x["G"] = np.full(64, -900.0), np.full((64, 4), -900.0)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        assert np.isfinite(run(name, x)[0]).all()


@each_scan
def test_float32_inputs_agree_with_float64_to_single_precision(name):
    x = inputs()
    single = {letter: array.astype(np.float32) for letter, array in x.items()}
    np.testing.assert_allclose(run(name, single)[0], run(name, x)[0], atol=1e-5)


@each_scan
def test_inputs_and_initial_state_stay_as_they_were(name):
    x, untouched = inputs(), inputs()
    run(name, x, initial_state=x["S"])
    assert all(np.array_equal(x[letter], untouched[letter]) for letter in x)


def test_steps_change_nothing_in_place():
    x, untouched = inputs(), inputs()
    eq.hebbian_step(x["S"], x["k"][0], x["v"][0])
    eq.kda_step(x["S"], x["k"][0], x["v"][0], x["G"][0], 0.5)
    assert all(np.array_equal(x[letter], untouched[letter]) for letter in x)


@pytest.mark.parametrize(
    ("name", "letter", "wrong", "named"),
    [
        ("hebbian", "k", (6, 4), "k: expected axes"),
        ("hebbian", "k", (7, 5), "k: expected axes"),
        ("hebbian", "v", (7,), "v: expected axes"),
        ("delta", "beta", (7, 1), "beta: expected axes"),
        ("decayed_hebbian", "g", (7, 3), "g: expected axes"),
        ("gated_delta", "g", (7, 4), "g: expected axes"),
        ("kda", "G", (7,), "g: expected axes"),
        ("kda", "beta", (7, 4), "beta: expected axes"),
    ],
)
def test_a_wrong_shape_is_a_value_error_that_names_the_argument(name, letter, wrong, named):
    with pytest.raises(ValueError, match=named):
        run(name, {**inputs(), letter: -np.ones(wrong)})


@each_scan
def test_a_transposed_initial_state_is_a_value_error_that_names_it(name):
    with pytest.raises(ValueError, match="initial_state"):
        run(name, inputs(), initial_state=np.zeros((3, 4)))


@with_decay
def test_a_positive_log_decay_is_a_value_error_that_suggests_the_likely_slip(name):
    x = inputs()
    with pytest.raises(ValueError, match=r"g: .*did you pass exp\(g\)"):
        run(name, {**x, "g": np.exp(x["g"]), "G": np.exp(x["G"])})
