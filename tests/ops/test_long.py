"""A million tokens streamed in pieces: no drift beyond a stated bound, and nothing that is not a number."""

import pytest
import torch

from tests.ops.helpers import NAMES, chunk, error, random_inputs

PIECE, PIECES = 10_000, 100
DRIFT = 1e-4  # relative, float32 against float64, after a million tokens


@pytest.mark.parametrize("name", NAMES)
def test_a_million_tokens_do_not_drift(name):
    """Every operator in float32 beside float64. Linear attention forgets nothing: its state is a sum of a million
    products, and float32 rounds it a million times."""
    states = {torch.float32: None, torch.float64: None}
    for n in range(PIECES):
        inputs = random_inputs(name, T=PIECE, H=1, HV=1, Dk=4, Dv=4, low=-0.02, seed=n)
        for dtype in states:
            piece = {key: x.to(dtype) for key, x in inputs.items()}
            keywords = {"initial_state": states[dtype], "output_final_state": True, "chunk_size": 128}
            o, states[dtype] = chunk(name)(**piece, **keywords)
            assert o.isfinite().all()
    assert error(states[torch.float32], states[torch.float64]) < DRIFT


@pytest.mark.parametrize("name", ["lightning_attention", "gated_delta_rule", "kda"])
def test_strong_decay_in_a_long_text_is_never_a_nan(name):
    state = None
    for n in range(10):
        inputs = random_inputs(name, T=PIECE, H=1, HV=1, Dk=4, Dv=4, low=-60.0, seed=n)
        inputs["g"][:, ::997] = -torch.inf
        o, state = chunk(name)(**inputs, initial_state=state, output_final_state=True)
        assert o.isfinite().all() and state.isfinite().all()
