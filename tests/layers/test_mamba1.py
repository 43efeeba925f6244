"""Mamba-1's layer is the recurrence of its paper, in pieces and behind a stretch of text as well."""

import pytest
import torch
from torch.nn import functional as F

from reference.bench.mixers import random_mixer
from reference.layers.batch import PLAIN, BatchLayout
from reference.layers.mamba1 import TOKENS_OF_A_PIECE, Mamba1
from reference.layers.mixers import mixer


def by_the_paper(layer, x):
    """y of x [B, T, d_model], one token at a time, h [B, d_inner, state_dim]."""
    x, z = layer.in_proj(x).chunk(2, -1)
    weight, bias = layer.conv1d.weight, layer.conv1d.bias
    x = F.silu(F.conv1d(F.pad(x.mT, (weight.shape[-1] - 1, 0)), weight, bias, groups=x.shape[-1])).mT
    rank, N = layer.dt_proj.weight.shape[1], layer.A_log.shape[1]
    dt, B, C = layer.x_proj(x).split([rank, N, N], -1)
    dt = F.softplus(dt @ layer.dt_proj.weight.T + layer.dt_bias)
    h, outputs = torch.zeros(len(x), x.shape[-1], N, dtype=x.dtype), []
    for t in range(x.shape[1]):
        fade = (-layer.A_log.exp() * dt[:, t, :, None]).exp()
        h = fade * h + dt[:, t, :, None] * x[:, t, :, None] * B[:, t, None]
        outputs.append((h * C[:, t, None]).sum(-1) + layer.D * x[:, t])
    return layer.out_proj(torch.stack(outputs, 1) * F.silu(z))


def some_layer(**options):
    torch.manual_seed(0)
    layer = Mamba1(16, 24, 5, 3, **options).double()
    with torch.no_grad():
        for p in layer.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return layer


@pytest.mark.parametrize("T", [1, 3, TOKENS_OF_A_PIECE, 2 * TOKENS_OF_A_PIECE + 5])
@pytest.mark.parametrize("grad", [True, False])
def test_it_is_the_paper(T, grad):
    layer, x = some_layer(bias=True), torch.randn(2, T, 16, dtype=torch.float64)
    with torch.set_grad_enabled(grad):
        torch.testing.assert_close(layer(x)[0], by_the_paper(layer, x), rtol=1e-10, atol=1e-10)


@torch.no_grad()
def test_two_halves_are_the_whole_and_packed_texts_are_each_alone():
    layer, x = some_layer(conv_bias=False, inner_norms="weighted"), torch.randn(1, 150, 16, dtype=torch.float64)
    whole, _ = layer(x)
    first, state = layer(x[:, :70])
    second, _ = layer(x[:, 70:], state)
    torch.testing.assert_close(torch.cat([first, second], 1), whole)
    packed, _ = layer(x, None, BatchLayout(cu_seqlens=torch.tensor([0, 70, 150])))
    torch.testing.assert_close(packed, torch.cat([first, layer(x[:, 70:])[0]], 1))


def test_inner_norms_change_what_they_should():
    x = torch.randn(1, 9, 16, dtype=torch.float64)
    plain, weighted, none = (some_layer(inner_norms=kind) for kind in ("plain", "weighted", None))
    with torch.no_grad():
        for norm in (weighted.dt_layernorm, weighted.b_layernorm, weighted.c_layernorm):
            norm.weight.fill_(1.0)
        weighted.load_state_dict(plain.state_dict(), strict=False)
        torch.testing.assert_close(plain(x)[0], weighted(x)[0])
        none.load_state_dict(plain.state_dict())
        assert (none(x)[0] - plain(x)[0]).abs().max() > 1e-3
    with pytest.raises(ValueError, match="inner_norms: expected one of"):
        Mamba1(16, 24, 5, 3, inner_norms="layer")


@torch.no_grad()
@pytest.mark.parametrize("begin", [1, 25])
def test_the_numbers_before_a_stretch(begin):
    _, layer = random_mixer("Mamba-1", 64)
    h = torch.randn(2, 40, 64)
    x, _ = layer.in_proj(h).chunk(2, -1)
    u, _ = layer.convolved(x, None)
    step, B, _ = layer.steps(u)
    whole = layer.scanned(u, step, B)

    class Before:
        def count(self, x):
            return begin

        def tail(self, y, n):
            return F.pad(x[:, :begin], (0, 0, n, 0))[:, begin:].mT

        def memory(self, op, k, v, g, beta):
            torch.testing.assert_close(v[..., 0], whole[0][:, begin:])
            torch.testing.assert_close(g, whole[1][:, begin:])
            added, fades = (y[:, :begin] for y in whole)
            return op(k, k, added[..., None], fades, output_final_state=True)[1]

    got = mixer("mamba1").state_before(layer, h[:, begin:], Before())
    y, _ = layer(h, None, PLAIN)
    torch.testing.assert_close(layer(h[:, begin:], got)[0], y[:, begin:], rtol=1e-5, atol=1e-6)
