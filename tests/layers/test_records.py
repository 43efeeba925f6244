"""What the records of Mamba-2 and of the short convolution answer beside building a layer."""

from dataclasses import replace

import pytest
import torch

from reference.bench.mixers import mixer_config, random_mixer
from reference.layers.batch import PLAIN
from reference.layers.mixer import tensors_of
from reference.layers.mixers import mixer
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
def test_what_mamba_reads_is_a_share_of_each_token_so_far():
    config, layer = random_mixer("Mamba-2", 64)
    weights, values = mixer("mamba2").look(layer, torch.randn(1, 12, 64))
    assert weights.shape == (1, 8, 12, 12) and values.shape[:3] == (1, 12, 8)
    torch.testing.assert_close(weights.sum(-1), torch.ones(1, 8, 12))
    assert not weights.triu(1).any()
    with pytest.raises(ValueError, match="linear_value_head_dim: expected a whole number >= 1, got 0"):
        replace(config, linear_value_head_dim=0)
