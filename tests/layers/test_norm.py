"""The norm without gradients, in place, gives the numbers of the one with gradients, and leaves its input alone."""

import pytest
import torch
from torch.func import vmap
from torch.nn import functional as F

from reference.layers.norm import divide_by_rms


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("shape", [(1, 1, 64), (2, 33, 4, 64), (1, 300, 8), (0, 64)])
def test_in_place_and_with_a_graph(shape, weighted, dtype):
    torch.manual_seed(0)
    x, weight = torch.randn(shape, dtype=dtype), torch.rand(shape[-1], dtype=dtype) if weighted else None
    before = x.clone()
    found = divide_by_rms(x, weight, 1e-6)
    assert torch.equal(x, before)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    wanted = F.rms_norm(x.to(wide), shape[-1:], None if weight is None else weight.to(wide), 1e-6)
    assert found.dtype == wide
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)
    assert torch.equal(divide_by_rms(x.requires_grad_(), weight, 1e-6).detach(), wanted)


@torch.no_grad()
def test_under_vmap_with_a_weight_for_each_sample():
    x, weights = torch.randn(5, 16), torch.rand(3, 16)
    found = vmap(lambda weight: divide_by_rms(x, weight, 1e-6))(weights)
    torch.testing.assert_close(found, torch.stack([divide_by_rms(x, weight, 1e-6) for weight in weights]))
