"""What the records of Mamba-2, of the short convolution and of the RG-LRU answer beside building a layer."""

from dataclasses import replace

import pytest
import torch

from reference.bench.mixers import mixer_config, random_mixer
from reference.layers.batch import PLAIN, BatchLayout
from reference.layers.mixer import tensors_of
from reference.layers.mixers import mixer
from reference.layers.rg_lru import first_tokens
from reference.model.block import build_mixer


class OneText:
    """The text before the stretch, all in this process: what reference.distributed hands on between several."""

    def __init__(self, whole, begin):
        self.whole, self.begin = whole, begin

    def tail(self, x, n):
        return self.whole(x)[:, : self.begin][:, -n:].mT

    def memory(self, op, k, v, g, beta):
        k, v, g = (self.whole(y)[:, : self.begin] for y in (k, v, g))
        return op(k, k, v, g, *([] if beta is None else [beta]), output_final_state=True)[1]


@torch.no_grad()
@pytest.mark.parametrize("name", ["Mamba-2", "short convolution"])
def test_the_state_before_a_stretch_is_what_the_text_before_leaves(name):
    config = replace(mixer_config(name, 64), linear_key_head_dim=6)  # no two inputs of one shape
    layer = build_mixer(config, 0)
    h, begin = torch.randn(2, 40, 64), 25
    if name == "Mamba-2":
        _, xbc, dt = layer.split(h)
        operands, _ = layer.operands(xbc, dt)
        inputs = {xbc.shape: xbc, operands.k.shape: operands.k, operands.v.shape: operands.v}
        inputs |= {operands.g.shape: operands.g}
    else:
        inputs = {h.shape: layer.project(h)[0]}
    late = {(*shape[:1], shape[1] - begin, *shape[2:]): x for shape, x in inputs.items()}
    before = OneText(lambda x: late[tuple(x.shape)], begin)
    got = mixer(config.layer_types[0]).state_before(layer, h[:, begin:], before)
    _, wanted = layer(h[:, :begin], None, PLAIN)
    for a, b in zip(tensors_of(got), tensors_of(wanted), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("begin", [0, 1, 25])
def test_the_numbers_before_a_stretch(begin):
    """Of the RG-LRU, as above; where the text begins, the stretch's first token is the text's."""
    _, layer = random_mixer("RG-LRU", 64)
    h = torch.randn(2, 40, 64)
    x = layer.linear_x(h)
    whole = layer.gated(layer.convolved(x, None)[0], torch.arange(40) == 0)

    class Before:
        def count(self, x):
            return begin

        def tail(self, y, n):
            return torch.nn.functional.pad(x[:, :begin], (0, 0, n, 0))[:, begin:].mT

        def memory(self, op, k, v, g, beta):
            added, fades = (y[:, :begin] for y in whole)
            torch.testing.assert_close(v[..., 0], whole[0][:, begin:])
            torch.testing.assert_close(g, whole[1][:, begin:])
            if begin == 0:
                return v.new_zeros(2, 64, 1, 1)
            return op(k, k, added[..., None], fades, output_final_state=True, use_qk_l2norm_in_kernel=False)[1]

    got = mixer("rg_lru").state_before(layer, h[:, begin:], Before())
    y, _ = layer(h)
    torch.testing.assert_close(layer(h[:, begin:], got)[0], y[:, begin:], rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_the_first_token_of_a_text_is_not_scaled():
    """h_1 = i_1 u_1 and no sqrt(1 - a²): also where texts lie end to end, and behind padding."""
    _, layer = random_mixer("RG-LRU", 64)
    u = torch.randn(1, 3, 64)
    added, g = layer.gated(u, torch.tensor([True, False, True]))
    unscaled, _ = layer.gated(u, torch.tensor([True, True, True]))
    torch.testing.assert_close(added[:, 1], unscaled[:, 1] * (1 - (2 * g[:, 1]).exp()).sqrt())
    assert g[:, [0, 2]].isneginf().all() and torch.equal(added[:, [0, 2]], unscaled[:, [0, 2]])
    assert first_tokens(u, 0, PLAIN).tolist() == [True, False, False] and not first_tokens(u, 5, PLAIN).any()
    packed = BatchLayout(cu_seqlens=torch.tensor([0, 2, 2, 3]))
    assert first_tokens(u, 0, packed).tolist() == [True, False, True]
    padded = BatchLayout.padded(torch.tensor([0, 2]), 0, 3)
    assert first_tokens(u, 0, padded).tolist() == [[True, False, False], [True, True, True]]


def test_what_the_scan_adds_has_a_derivative_where_nothing_fades():
    _, layer = random_mixer("RG-LRU", 64)
    with torch.no_grad():
        layer.recurrent_gate_bias.fill_(-100.0)  # r = 0, so a = 1
    u = torch.randn(1, 4, 64, requires_grad=True)
    layer.gated(u, torch.zeros(4, dtype=torch.bool))[0].sum().backward()
    assert u.grad.isfinite().all() and layer.recurrent_param.grad.isfinite().all()


@torch.no_grad()
def test_what_mamba_reads_is_a_share_of_each_token_so_far():
    config, layer = random_mixer("Mamba-2", 64)
    weights, values = mixer("mamba2").look(layer, torch.randn(1, 12, 64))
    assert weights.shape == (1, 8, 12, 12) and values.shape[:3] == (1, 12, 8)
    torch.testing.assert_close(weights.sum(-1), torch.ones(1, 8, 12))
    assert not weights.triu(1).any()
    with pytest.raises(ValueError, match="linear_value_head_dim: expected a whole number >= 1, got 0"):
        replace(config, linear_value_head_dim=0)
