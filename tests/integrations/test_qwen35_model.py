"""The model bench compares equals: the same weights give the same logits, cached or not, and it prints what it says."""

import json

import pytest
import torch

from reference.__main__ import main
from reference.bench import model as bench
from reference.model.cache import new_cache


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(bench, "MODEL_SIZES", {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48})
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16}
    monkeypatch.setattr(bench, "HEADS", heads)
    linear = {"linear_num_key_heads": 2, "linear_num_value_heads": 4}
    monkeypatch.setattr(bench, "LINEAR", linear | {"linear_key_head_dim": 8, "linear_value_head_dim": 8})


@torch.no_grad()
def test_the_same_weights_give_the_logits_of_transformers(small):
    ours, theirs = bench.our_model(), bench.their_model()
    for p in theirs.parameters():
        p.uniform_(-0.3, 0.3)
    bench.give_weights(theirs, ours)
    ids = torch.randint(0, 64, (2, 131), generator=torch.Generator().manual_seed(0))
    wanted = theirs(ids).logits
    assert ((ours(ids) - wanted).abs().max() / wanted.abs().max()).item() < 2e-5
    cache, parts = new_cache(ours, 2), []
    for piece in ids.split([70, 1, 1, 59], 1):
        parts.append(ours(piece, cache=cache))
    assert ((torch.cat(parts, 1) - wanted).abs().max() / wanted.abs().max()).item() < 2e-5


def test_the_bench_prints_both_tables_and_writes_json(small, tmp_path, capsys):
    assert main(["bench", "model", "--quick", "--threads", "1", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "| prefill |" in printed and "| 1024 |" in printed
    record = json.loads((tmp_path / "bench_model.json").read_text())
    assert record["table"]["logits"]["relative_difference"] < 1e-4
    sizes = record["decode_by_length"]
    assert len(sizes["linear"]["milliseconds"]) == len(sizes["lengths"]) == 2
    assert sizes["linear"]["cache_MiB"][0] == sizes["linear"]["cache_MiB"][1]
    assert 0 < sizes["softmax"]["cache_MiB"][0] < sizes["softmax"]["cache_MiB"][1]
