"""The decay that is bounded from below (Kimi K3, GLM-5.3-Flash, Ling 3.0), and what the bound is good for."""

import pytest
import torch

from reference.layers.gates import bounded_log_decay, log_decay
from reference.layers.kda import ForgetGate, KimiDeltaAttention

LOWER = -5.0


def gate_inputs(scale=1.0):
    return scale * torch.randn(2, 9, 3, 4), torch.randn(3, 1), torch.randn(3, 4)


def test_it_is_lower_times_a_sigmoid():
    f, A_log, dt_bias = gate_inputs()
    wanted = LOWER / (1 + (-A_log.exp() * (f + dt_bias)).exp())
    torch.testing.assert_close(bounded_log_decay(f, A_log, dt_bias, LOWER), wanted)


def test_no_input_leaves_the_bounds_and_the_old_gate_does():
    f, A_log, dt_bias = gate_inputs(scale=1e6)
    g = bounded_log_decay(f, A_log, dt_bias, LOWER)
    assert g.min() >= LOWER and g.max() <= 0 and g.isfinite().all()
    assert log_decay(f, A_log, dt_bias).min() < 1000 * LOWER


def test_it_is_at_least_float32():
    f, A_log, dt_bias = (x.bfloat16() for x in gate_inputs())
    assert bounded_log_decay(f, A_log, dt_bias, LOWER).dtype == torch.float32
    assert bounded_log_decay(f.double(), A_log, dt_bias, LOWER).dtype == torch.float64


@pytest.mark.parametrize("chunk, holds", [(16, True), (17, True), (18, False), (64, False)])
def test_the_quotient_of_decays_can_be_taken_apart_in_chunks_of_sixteen(chunk, holds):
    """e^{G_r} / e^{G_s} = e^{G_r} · e^{-G_s}: the second factor is at most e^{5 C}, and float32 ends at e^88.7."""
    G = torch.full((chunk,), LOWER).cumsum(0)
    pairs = G.exp()[:, None] * (-G).exp()[None, :]
    wanted = (G.double()[:, None] - G.double()[None, :]).exp()
    seen = torch.ones(chunk, chunk).tril().bool()
    good = torch.allclose(pairs[seen].double(), wanted[seen], rtol=1e-4, atol=1e-12)
    assert good is holds


@torch.no_grad()
def test_the_layer_has_both_gates():
    x = 100 * torch.randn(1, 30, 24)
    bounded = KimiDeltaAttention(24, 2, 8, decay_bound=LOWER, full_rank_gates=True)
    assert bounded.project(x).g.min() >= LOWER
    assert KimiDeltaAttention(24, 2, 8).project(x).g.min() < LOWER
    assert bounded(x)[0].isfinite().all()


@pytest.mark.parametrize("lower", [0.0, 1.0])
def test_a_bound_that_is_none_is_refused(lower):
    with pytest.raises(ValueError, match=f"lower: expected a bound below 0, got {lower}"):
        ForgetGate(24, 2, 8, lower=lower)
