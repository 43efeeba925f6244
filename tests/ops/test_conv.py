"""The short convolution against PyTorch's own, at lengths around its blocks, with gradients; and under autocast."""

from itertools import product

import pytest
import torch
from torch.nn import functional as F

from reference.ops import causal_conv, chunk_kda, recurrent_kda
from reference.ops.conv import CONV_BLOCK
from tests.ops.helpers import random_inputs

LENGTHS = [1, 2, 3, 4, CONV_BLOCK - 1, CONV_BLOCK, CONV_BLOCK + 1, 2 * CONV_BLOCK + 3]


def plain(x, weight, bias, before, activation):
    seen = torch.cat([before, x.mT], -1)
    y = F.conv1d(seen, weight[:, None], bias, groups=len(weight)).mT
    return F.silu(y) if activation == "silu" else y


def arguments(T, W=4, D=5, dtype=torch.float64):
    rng = torch.Generator().manual_seed(T)
    shapes = [(2, T, D), (D, W), (D,), (2, D, W - 1)]
    return [torch.randn(shape, generator=rng, dtype=torch.float64).to(dtype) for shape in shapes]


@pytest.mark.parametrize("T,activation", list(product(LENGTHS, [None, "silu"])))
def test_values_and_gradients_are_those_of_conv1d(T, activation):
    leaves = [x.requires_grad_() for x in arguments(T)]
    x, weight, bias, before = leaves
    ours, _ = causal_conv(x, weight, bias, activation=activation, initial_state=before)
    theirs = plain(*leaves, activation)
    torch.testing.assert_close(ours, theirs)
    dy = torch.randn_like(ours)
    for a, b in zip(torch.autograd.grad(ours, leaves, dy), torch.autograd.grad(theirs, leaves, dy), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("W", [1, 2, 7])
@torch.no_grad()
def test_other_widths(W):
    x, weight, bias, before = arguments(CONV_BLOCK + 9, W)
    y, tail = causal_conv(x, weight, bias, initial_state=before, output_final_state=True)
    torch.testing.assert_close(y, plain(x, weight, bias, before, None))
    assert torch.equal(tail, torch.cat([before, x.mT], -1)[..., x.shape[1] :])


@torch.no_grad()
def test_half_types_are_mixed_in_float32():
    x, weight, bias, before = arguments(CONV_BLOCK + 1, dtype=torch.bfloat16)
    y, _ = causal_conv(x, weight, bias, initial_state=before)
    wide = plain(*(z.float() for z in (x, weight, bias, before)), None)
    assert y.dtype == torch.bfloat16 and torch.equal(y, wide.to(torch.bfloat16))


@pytest.mark.parametrize("op", [chunk_kda, recurrent_kda])
def test_autocast_changes_nothing_inside_an_operator(op):
    inputs = {key: x.requires_grad_() for key, x in random_inputs("kda", T=70, H=1, HV=2).items()}

    def results(enabled):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            o, _ = op(**inputs)
        return o, *torch.autograd.grad(o.square().sum(), list(inputs.values()))

    assert all(torch.equal(a, b) for a, b in zip(results(True), results(False), strict=True))
