"""Mamba-2's scan is lightning attention (duality), and the layer around it is transformers'."""

import pytest
import torch
from torch.nn import functional as F
from transformers import Mamba2Config
from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer as Theirs
from transformers.models.mamba2.modeling_mamba2 import mamba2_chunk_scan

from reference.layers.batch import BatchLayout
from reference.layers.gated_norm import GateThenRMSNorm
from reference.layers.mamba2 import Mamba2
from reference.ops import chunk_lightning_attention, recurrent_lightning_attention


def scan_inputs(T=37, groups=2):
    x, dt = torch.randn(2, T, 4, 6), torch.rand(2, T, 4)
    B, C = torch.randn(2, T, groups, 5), torch.randn(2, T, groups, 5)
    return x, dt, -torch.rand(4) * 8, B, C


def state_space(x, dt, A, B, C):
    """The model as its paper writes it: h_t = e^{dt A} h_{t-1} + dt x_t B_t^T, y_t = h_t C_t, with h [P, N]."""
    B, C = (y.repeat_interleave(x.shape[2] // y.shape[2], 2) for y in (B, C))
    h, outputs = torch.zeros(*x.shape[:1], *x.shape[2:], B.shape[-1], dtype=x.dtype), []
    for t in range(x.shape[1]):
        step = dt[:, t, :, None, None]
        h = (step * A[:, None, None]).exp() * h + step * x[:, t, :, :, None] * B[:, t, :, None, :]
        outputs.append((h * C[:, t, :, None, :]).sum(-1))
    return torch.stack(outputs, 1), h


@pytest.mark.parametrize("op", [recurrent_lightning_attention, chunk_lightning_attention])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_the_state_space_model_is_lightning_attention(op, groups):
    """C as queries, B as keys, dt x as values; one decay e^{dt A} per head, no erase, no scale."""
    x, dt, A, B, C = (y.double() for y in scan_inputs(groups=groups))
    wanted, h = state_space(x, dt, A, B, C)
    o, S = op(C, B, dt[..., None] * x, dt * A, scale=1.0, output_final_state=True)
    torch.testing.assert_close(o, wanted, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(S.mT, h, rtol=1e-12, atol=1e-12)  # their state is [P, N]


def test_the_scan_of_transformers_is_lightning_attention():
    x, dt, A, B, C = scan_inputs(T=100)
    wanted, h = mamba2_chunk_scan(x, dt, A, B, C, chunk_size=16, return_final_states=True)
    o, S = chunk_lightning_attention(C, B, dt[..., None] * x, dt * A, scale=1.0, output_final_state=True)
    torch.testing.assert_close(o, wanted, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(S.mT, h, rtol=1e-4, atol=1e-5)


def test_a_decay_that_erases_would_be_another_model():
    """With an erase, B and C are no keys and queries of a state-space model: nothing above is true by accident."""
    x, dt, A, B, C = (y.double() for y in scan_inputs(groups=4))
    wanted, _ = state_space(x, dt, A, B, C)
    wrong, _ = chunk_lightning_attention(B, C, dt[..., None] * x, dt * A, scale=1.0)
    assert (wrong - wanted).abs().max() > 0.1


def pair(**more):
    fields = {"hidden_size": 24, "num_heads": 6, "head_dim": 8, "state_size": 5, "n_groups": 2, "num_hidden_layers": 1}
    torch.manual_seed(0)
    theirs = Theirs(Mamba2Config(**fields | more), 0).eval()
    ours = Mamba2(24, 6, 8, 5, n_groups=2, norm_groups=2, bias=more.get("use_bias", False))
    with torch.no_grad():
        for p in theirs.parameters():
            p.add_(0.2 * torch.randn_like(p))
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


@torch.no_grad()
@pytest.mark.parametrize("bias", [False, True])
def test_the_layer_is_that_of_transformers(bias):
    ours, theirs = pair(use_bias=bias)
    x = torch.randn(2, 33, 24)
    torch.testing.assert_close(ours(x)[0], theirs(x), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_padding_writes_nothing_although_the_convolution_has_a_bias():
    ours, _ = pair(use_bias=True)
    x = torch.randn(1, 12, 24)
    padded, layout = F.pad(x, (0, 0, 5, 0), value=3.0), BatchLayout.padded(torch.tensor([5]), 0, 17)
    y, state = ours(padded, None, layout)
    alone, wanted = ours(x)
    torch.testing.assert_close(y[:, 5:], alone, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(state.S, wanted.S, rtol=1e-5, atol=1e-6)


def test_gradients_reach_every_parameter():
    ours, _ = pair(use_bias=True)
    ours(torch.randn(1, 20, 24))[0].square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in ours.parameters())


def test_gate_and_norm_have_an_order():
    x, z, norm = torch.randn(3, 8), torch.randn(3, 8), GateThenRMSNorm(8, groups=2, eps=0.0)
    y = x * F.silu(z)
    halves = [half / half.square().mean(-1, keepdim=True).sqrt() for half in y.chunk(2, -1)]
    torch.testing.assert_close(norm(x, z), torch.cat(halves, -1))
    first = GateThenRMSNorm(8, groups=1, eps=0.0, norm_first=True)
    wanted = x / x.square().mean(-1, keepdim=True).sqrt() * F.silu(z)
    torch.testing.assert_close(first(x, z), wanted)
    torch.testing.assert_close(GateThenRMSNorm(8, groups=0)(x, z), y)


@pytest.mark.parametrize("sizes, named", [({"n_groups": 4}, "n_heads"), ({"norm_groups": 5}, "norm_groups")])
def test_sizes_that_do_not_fit_are_named(sizes, named):
    with pytest.raises(ValueError, match=f"{named}: expected a"):
        Mamba2(24, 6, 8, 5, **sizes)
