"""No test may pass on one run and fail on the next: nothing that a test draws is new each time."""

import pytest
import torch

from reference.model import sampling

seeded = sampling.random_source


@pytest.fixture(autouse=True)
def every_draw_has_a_seed(monkeypatch):
    """torch's own draws begin alike, whichever tests ran before; sampling asks for a seed."""
    torch.manual_seed(0)

    def random_source(seed: int | None, device: torch.device) -> torch.Generator:
        assert seed is not None, "this test samples without a seed: it may pass on one run and fail on the next"
        return seeded(seed, device)

    monkeypatch.setattr(sampling, "random_source", random_source)
