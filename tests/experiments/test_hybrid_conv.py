"""The comparison of chapter 09 with equal pieces: equal sizes, a causal convolution, documents apart, its record."""

import json

import pytest
import torch

from reference.__main__ import main
from reference.experiments.models.hybrid_conv import (
    CONV_RATES,
    CONV_STACKS,
    ConvolvedAttention,
    build_convolved,
    equal_width,
    rate_summary,
    runs_to_do,
    size_of,
    split_manual,
)
from reference.experiments.records import Runs, load_record
from reference.layers.batch import BatchLayout


def test_stacks_have_equal_sizes_and_a_convolution_in_every_mixer():
    sizes = {stack: size_of(stack, equal_width(stack)) for stack in CONV_STACKS}
    assert max(sizes.values()) / min(sizes.values()) < 1.01
    for stack in CONV_STACKS:
        assert all(hasattr(block.mixer, "conv1d") for block in build_convolved(stack, 96).layers)
        mixers = [block.mixer for block in build_convolved(stack, 96).layers]
        softmax = [mixer for mixer in mixers if isinstance(mixer, ConvolvedAttention)]
        assert all((mixer.n_heads, mixer.n_kv_heads) == (4, 4) for mixer in softmax)
        assert all((mixer.o_norm is not None) == (stack == "normed") for mixer in softmax)
    with pytest.raises(ValueError, match=r"stack: expected one of .* got 'sparse'"):
        build_convolved("sparse")


def test_the_convolution_sees_the_tokens_before_and_no_other_document():
    torch.manual_seed(0)
    layer = ConvolvedAttention(16, 2, 1, 8, rope_dim=4, qk_norm="head", gate="elementwise").eval()
    x = torch.randn(1, 9, 16)
    y, _ = layer(x)
    changed = x.clone()
    changed[:, 5:] += 1
    assert torch.allclose(layer(changed)[0][:, :5], y[:, :5], atol=1e-6)  # causal
    layer.conv1d.weight.data[..., :-1] = 0
    assert not torch.allclose(layer(x)[0], y)  # what stood before had a part in it
    packed, _ = layer(x, None, BatchLayout(cu_seqlens=torch.tensor([0, 4, 9])))
    assert torch.allclose(packed[:, 4:], layer(x[:, 4:])[0], atol=1e-6)
    with pytest.raises(ValueError, match="state: expected None"):
        layer(x, layer(x)[1])


def test_the_norm_stands_between_what_was_read_and_the_gate():
    torch.manual_seed(0)
    layer = ConvolvedAttention(16, 2, 2, 8, qk_norm="head", gate="elementwise", normed=True).eval()
    o, gate = 100 * torch.randn(1, 5, 2, 8), torch.randn(1, 5, 2, 8)
    unit = o / o.square().mean(-1, keepdim=True).sqrt()
    assert torch.allclose(layer.output(o, gate), layer.o_proj((unit * gate.sigmoid()).flatten(2)), atol=1e-5)


def test_nothing_that_is_held_out_stands_in_another_lot():
    lots = split_manual()
    assert all(sum(map(len, lot)) > 10_000 for lot in lots)
    for n, lot in enumerate(lots[1:], 1):
        others = "".join(document for m, other in enumerate(lots) if m != n for document in other)
        for document in lot:
            assert not any(document[at : at + 80] in others for at in range(0, max(len(document) - 80, 1), 40))


def test_a_short_run_goes_from_the_rates_to_the_seeds(tmp_path, capsys):
    file = tmp_path / "runs.json"
    arguments = ["--seeds", "2", "--steps", "1", "--threads", "1", "--out", str(file), "--json"]
    assert main(["experiment", "hybrid_conv", *arguments]) == 0
    record = json.loads(file.read_text())
    assert len(record["runs"]) == len(CONV_STACKS) * (len(CONV_RATES) + 1)
    for stack, found in record["summary"].items():
        assert str(found["lr"]) == min(found["validation"], key=found["validation"].get)
        assert len(found["held_out"]) == 2, stack
    assert capsys.readouterr().out.count("±") == 4


def test_the_stored_record_is_whole_and_its_summary_is_that_of_its_runs():
    record = load_record("hybrid_conv")
    assert rate_summary(record["runs"]) == record["summary"]
    runs = Runs("hybrid_conv", record["config"], ("stack", "lr", "seed"), rate_summary)
    runs.runs = record["runs"]
    assert not runs_to_do(runs, 3)
