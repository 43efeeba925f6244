"""The specification of reference/equations.py: every test name is a sentence of it.

Each rule is compared with its formula written a second time, independently: element by element,
as a T x T matrix product, or as a product of transition matrices. Everything runs in float64.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reference import equations as eq

SCANS = {
    "hebbian": (eq.hebbian_scan, ""),
    "delta": (eq.delta_scan, "beta"),
    "decayed_hebbian": (eq.decayed_hebbian_scan, "g"),
    "gated_delta": (eq.gated_delta_scan, "g beta"),
    "kda": (eq.kda_scan, "G beta"),
}
each_scan = pytest.mark.parametrize("name", SCANS)
few = settings(max_examples=25, deadline=None)
sizes = st.tuples(st.integers(1, 12), st.integers(1, 6), st.integers(1, 6), st.integers(0, 2**32 - 1))


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def inputs(T=7, Dk=4, Dv=3, seed=0):
    """Random arguments: unit keys, beta in (0, 1), log decays in [-1, 0], scalar (g) and per channel (G)."""
    rng = np.random.default_rng(seed)
    return {
        "q": rng.standard_normal((T, Dk)),
        "k": unit(rng.standard_normal((T, Dk))),
        "v": rng.standard_normal((T, Dv)),
        "g": -rng.random(T),
        "G": -rng.random((T, Dk)),
        "beta": rng.random(T),
        "S": rng.standard_normal((Dk, Dv)),
    }


def run(name, x, part=slice(None), **keywords):
    scan, extras = SCANS[name]
    return scan(*(x[letter][part] for letter in ["q", "k", "v", *extras.split()]), **keywords)


def close(a, b):
    np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)


# ---------------------------------------------------------------- chapter 01: one unit


@pytest.mark.parametrize(("x", "y"), [([3.0, 1.0], 1), ([1.0, 3.0], 0)])
def test_the_perceptron_leaves_correct_answers_alone(x, y):
    close(eq.perceptron_step(np.array([1.0, -2.0]), np.array(x), y), [1.0, -2.0])


def test_the_perceptron_adds_a_missed_input_and_subtracts_a_false_alarm():
    w = np.array([1.0, -2.0])
    close(eq.perceptron_step(w, np.array([1.0, 3.0]), 1, lr=0.5), [1.5, -0.5])
    close(eq.perceptron_step(w, np.array([3.0, 1.0]), 0, lr=0.5), [-0.5, -2.5])


def test_the_perceptron_stops_changing_on_separable_data():
    rng = np.random.default_rng(1)
    x = np.c_[rng.standard_normal((60, 2)), np.ones(60)]
    margin = x @ [2.0, -1.0, 0.3]
    x, y = x[abs(margin) > 0.3], (margin[abs(margin) > 0.3] > 0).astype(float)
    w = np.zeros(3)
    for _ in range(200):
        before = w
        for row, label in zip(x, y, strict=True):
            w = eq.perceptron_step(w, row, label)
    close(w, before)
    assert np.array_equal(x @ w > 0, y > 0)


def test_hebb_adds_the_product_of_input_and_activity_and_never_looks_at_the_error():
    w, x = np.array([1.0, 2.0]), np.array([0.5, -1.0])
    close(eq.hebb_step(w, x, 3.0, lr=0.1), [1.15, 1.7])
    perfect = eq.hebb_step(w, x, w @ x) - w
    assert np.abs(perfect).max() > 0, "Hebb's rule changes weights even when the answer is right"


def test_widrow_hoff_is_one_gradient_step_on_half_the_squared_error():
    rng = np.random.default_rng(2)
    w, x, y, lr, h = rng.standard_normal(5), rng.standard_normal(5), 0.7, 0.1, 1e-6
    loss = [[(y - (w + sign * h * e) @ x) ** 2 / 2 for sign in (1, -1)] for e in np.eye(5)]
    gradient = np.array([(up - down) / (2 * h) for up, down in loss])
    np.testing.assert_allclose(eq.widrow_hoff_step(w, x, y, lr), w - lr * gradient, atol=1e-8)


def test_widrow_hoff_on_a_unit_input_with_rate_one_answers_the_target():
    x = unit(np.array([1.0, 2.0, -1.0]))
    close(eq.widrow_hoff_step(np.ones(3), x, 0.25, lr=1.0) @ x, 0.25)


# ---------------------------------------------------------------- chapters 02 and 03: one step


def test_reading_gives_the_key_weighted_sum_of_the_rows():
    x = inputs()
    close(eq.read(x["S"], x["q"][0]), sum(x["q"][0][i] * x["S"][i] for i in range(4)))


def test_each_step_equals_its_formula_written_independently():
    x = inputs()
    S, k, v, g, G, beta = x["S"], x["k"][0], x["v"][0], x["g"][0], x["G"][0], x["beta"][0]
    write = beta * np.einsum("i,j->ij", k, v)
    erase = np.eye(4) - beta * np.einsum("i,j->ij", k, k)
    close(eq.hebbian_step(S, k, v, beta), S + write)
    close(eq.delta_step(S, k, v, beta), erase @ S + write)
    close(eq.decay(S, g), np.exp(g) * S)
    close(eq.decay(S, G), np.diag(np.exp(G)) @ S)
    close(eq.decayed_hebbian_step(S, k, v, g, beta), np.exp(g) * S + write)
    close(eq.decayed_hebbian_step(S, k, v, G, beta), np.diag(np.exp(G)) @ S + write)
    close(eq.gated_delta_step(S, k, v, g, beta), np.exp(g) * erase @ S + write)
    close(eq.kda_step(S, k, v, G, beta), erase @ np.diag(np.exp(G)) @ S + write)


@few
@given(sizes)
def test_after_a_delta_step_of_strength_one_the_unit_key_answers_the_value_exactly(size):
    x = inputs(*size)
    close(eq.read(eq.delta_step(x["S"], x["k"][0], x["v"][0], 1.0), x["k"][0]), x["v"][0])


def test_a_delta_step_touches_nothing_that_an_orthogonal_key_reads():
    S, e = inputs()["S"], np.eye(4)
    close(eq.read(eq.delta_step(S, e[0], np.ones(3), 0.8), e[1]), eq.read(S, e[1]))


def test_a_delta_step_of_strength_two_reflects_the_stored_value():
    S, k = inputs()["S"], inputs()["k"][0]
    close(eq.read(eq.delta_step(S, k, np.zeros(3), 2.0), k), -eq.read(S, k))


def test_kda_fades_before_it_erases_and_the_order_matters():
    x = inputs()
    S, k, v, G = x["S"], x["k"][0], x["v"][0], x["G"][0]
    swapped = np.diag(np.exp(G)) @ (np.eye(4) - np.outer(k, k)) @ S + np.outer(k, v)
    assert np.abs(eq.kda_step(S, k, v, G, 1.0) - swapped).max() > 1e-3
    close(eq.read(eq.kda_step(S, k, v, G, 1.0), k), v)


def test_with_write_strength_zero_nothing_but_decay_happens():
    x = inputs()
    S, k, v = x["S"], x["k"][0], x["v"][0]
    close(eq.delta_step(S, k, v, 0.0), S)
    close(eq.gated_delta_step(S, k, v, -0.5, 0.0), np.exp(-0.5) * S)
    close(eq.kda_step(S, k, v, x["G"][0], 0.0), np.diag(np.exp(x["G"][0])) @ S)


# ---------------------------------------------------------------- scans against parallel and matrix forms


def test_orthonormal_keys_are_recalled_exactly_up_to_dk_pairs_by_either_rule():
    x = inputs(T=4)
    k = np.linalg.qr(x["q"])[0].T
    for o, S in (eq.hebbian_scan(k, k, x["v"]), eq.delta_scan(k, k, x["v"], np.ones(4))):
        close(k @ S, x["v"])
        close(o, x["v"])


@few
@given(sizes)
def test_the_hebbian_scan_equals_the_masked_matrix_product(size):
    x = inputs(*size)
    o, S = eq.hebbian_scan(x["q"], x["k"], x["v"], scale=0.5)
    close(o, 0.5 * np.tril(x["q"] @ x["k"].T) @ x["v"])
    close(S, x["k"].T @ x["v"])


@few
@given(sizes)
def test_the_decayed_scan_equals_the_matrix_product_weighted_by_differences_of_summed_decays(size):
    x = inputs(*size)
    for letter in "gG":
        total = np.cumsum(x[letter], axis=0).reshape(size[0], -1)
        fade = np.exp(total[:, None] - total[None, :])
        weights = np.tril(np.einsum("id,jd,ijd->ij", x["q"], x["k"], np.broadcast_to(fade, (*fade.shape[:2], size[1]))))
        close(eq.decayed_hebbian_scan(x["q"], x["k"], x["v"], x[letter])[0], weights @ x["v"])


@few
@given(sizes)
def test_the_delta_scans_equal_a_product_of_transition_matrices(size):
    x, eye = inputs(*size), np.eye(size[1])
    rates = {"delta": np.zeros_like(x["G"]), "gated_delta": x["g"][:, None] + 0 * x["G"], "kda": x["G"]}
    for name, g in rates.items():
        S, o = x["S"], []
        for t in range(size[0]):
            k, beta = x["k"][t][:, None], x["beta"][t]
            S = (eye - beta * k @ k.T) @ (np.exp(g[t])[:, None] * S) + beta * k @ x["v"][t][None]
            o.append(x["q"][t] @ S)
        close(run(name, x, initial_state=x["S"])[0], o)
        close(run(name, x, initial_state=x["S"])[1], S)


def test_the_delta_scan_equals_one_triangular_solve():
    x = inputs()
    lower = np.eye(7) + np.diag(x["beta"]) @ np.tril(x["k"] @ x["k"].T, -1)
    u = np.linalg.solve(lower, x["beta"][:, None] * x["v"])
    close(run("delta", x)[0], np.tril(x["q"] @ x["k"].T) @ u)


def test_no_decay_turns_gated_delta_into_delta_and_decayed_into_plain_hebbian():
    x = {**inputs(), "g": np.zeros(7)}
    close(run("gated_delta", x)[0], run("delta", x)[0])
    close(run("decayed_hebbian", x)[0], run("hebbian", x)[0])


def test_equal_channels_turn_kda_into_gated_delta():
    x = inputs()
    x["G"] = np.repeat(x["g"][:, None], 4, axis=1)
    close(run("kda", x)[0], run("gated_delta", x)[0])


@each_scan
def test_the_scale_multiplies_the_output_and_not_the_state(name):
    (o, S), (scaled, same) = run(name, inputs()), run(name, inputs(), scale=0.25)
    close(scaled, 0.25 * o)
    close(same, S)


@each_scan
@pytest.mark.parametrize("cut", [0, 1, 3, 6, 7])
def test_a_sequence_may_be_cut_anywhere_and_the_state_handed_over(name, cut):
    x = inputs()
    o, S = run(name, x, initial_state=x["S"])
    head, middle = run(name, x, slice(None, cut), initial_state=x["S"])
    tail, end = run(name, x, slice(cut, None), initial_state=middle)
    close(np.concatenate([head, tail]), o)
    close(end, S)


@each_scan
def test_a_later_token_never_changes_an_earlier_output(name):
    x = inputs()
    o = run(name, x)[0]
    changed = {letter: array.copy() for letter, array in x.items()}
    for letter in ("q", "k", "v", "g", "G", "beta"):
        changed[letter][4:] *= 0.5
    later = run(name, changed)[0]
    close(later[:4], o[:4])
    assert np.abs(later[4:] - o[4:]).max() > 1e-3


def test_least_squares_is_the_best_fit_of_all_pairs_so_far_and_exact_with_few():
    x, penalty = inputs(T=9), 0.3
    o = eq.least_squares_scan(x["q"], x["k"], x["v"], x["beta"], penalty=penalty)
    for t in range(9):
        weight = np.sqrt(x["beta"][: t + 1, None])
        A = np.concatenate([weight * x["k"][: t + 1], np.sqrt(penalty) * np.eye(4)])
        b = np.concatenate([weight * x["v"][: t + 1], np.zeros((4, 3))])
        close(o[t], np.linalg.lstsq(A, b, rcond=None)[0].T @ x["q"][t])
    few = eq.least_squares_scan(x["k"][:4], x["k"][:4], x["v"][:4], np.ones(4), penalty=1e-12)
    np.testing.assert_allclose(few[3], x["v"][3], atol=1e-6)
    with pytest.raises(ValueError, match="penalty: expected a number > 0, got 0"):
        eq.least_squares_scan(x["q"], x["k"], x["v"], x["beta"], penalty=0)
