"""Layers that treat each token by itself take a long text in parts, and nothing else changes."""

import pytest
import torch

from reference.layers import blocks
from reference.layers.blocks import by_tokens
from reference.layers.norm import RMSNorm
from reference.model.config import preset
from reference.model.hybrid import HybridLM


@torch.no_grad()
@pytest.mark.parametrize("rows", [1, 3])
def test_tokens_in_parts_give_what_all_give_at_once(monkeypatch, rows):
    layer, x, y = RMSNorm(8), torch.randn(rows, 37, 8), torch.randn(rows, 37, 2, 4)
    lengths = []

    def both(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        lengths.append(x.shape[1])
        return layer(x) + y.flatten(2)

    wanted = both(x, y)
    monkeypatch.setattr(blocks, "TOKENS_AT_ONCE", 12)
    torch.testing.assert_close(by_tokens(both, x, y), wanted)
    assert lengths[1:] == ([12, 12, 12, 1] if rows == 1 else [4] * 9 + [1])
    with torch.enable_grad():
        by_tokens(both, x, y)
    assert lengths[-1] == 37


@torch.no_grad()
def test_a_model_in_parts_gives_its_own_logits(monkeypatch):
    torch.manual_seed(0)
    model, ids = HybridLM(preset("tiny")), torch.randint(0, 64, (2, 50))
    wanted = model(ids)
    monkeypatch.setattr(blocks, "TOKENS_AT_ONCE", 16)
    torch.testing.assert_close(model(ids), wanted, rtol=1e-4, atol=1e-5)
