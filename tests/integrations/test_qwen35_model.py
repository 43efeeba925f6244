"""The model bench compares equals: the same weights give the same logits, cached or not, and it prints what it says."""

from __future__ import annotations

import json
from typing import NamedTuple

import pytest
import torch

from reference.__main__ import main
from reference.bench import model as bench
from reference.bench.parts import MODEL_PARTS, shares_of_events
from reference.model.cache import new_cache


@pytest.fixture
def small(monkeypatch):
    sizes = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48}
    sizes |= {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16}
    sizes |= {"linear_num_key_heads": 2, "linear_num_value_heads": 4}
    sizes |= {"linear_key_head_dim": 8, "linear_value_head_dim": 8}
    monkeypatch.setattr(bench, "MODEL_SHAPES", {"wide heads": sizes})
    return sizes


@torch.no_grad()
def test_the_same_weights_give_the_logits_of_transformers(small):
    ours, theirs = bench.our_model(small), bench.their_model(small)
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
    table = record["shapes"]["wide heads"]
    assert table["logits"]["relative_difference"] < 1e-4
    for name in ("prefill", "decode", "training step"):
        row = table[name]
        assert row["ratio_low"] <= row["ratio"] <= row["ratio_high"]
        assert row["over_bound"]["ours"]["median"] > 0 and row["bound_by"] in row
        for who in ("ours", "theirs"):
            assert list(row["shares"][who]) == list(MODEL_PARTS)
            assert sum(row["shares"][who].values()) == pytest.approx(1)
            assert row["shares"][who]["operator"] > 0 and row["shares"][who]["projections"] > 0
    sizes = record["decode_by_length"]
    assert len(sizes["linear"]["milliseconds"]) == len(sizes["lengths"]) == 2
    assert sizes["linear"]["cache_MiB"][0] == sizes["linear"]["cache_MiB"][1]
    assert 0 < sizes["softmax"]["cache_MiB"][0] < sizes["softmax"]["cache_MiB"][1]


class Event(NamedTuple):
    name: str
    self_cpu_time_total: float
    cpu_parent: Event | None = None
    sequence_nr: int = -1


def test_an_operation_belongs_to_the_outermost_mark_and_a_gradient_to_what_it_differentiates():
    operator = Event("part: operator", 1)
    inner = Event("part: norms", 1, operator)
    backward = Event("autograd::engine::evaluate_function: BmmBackward0", 1, None, 7)
    events = [
        Event("aten::bmm", 10, operator, 7),
        Event("aten::mul", 20, inner),
        Event("aten::bmm", 30, backward),
        Event("aten::copy_", 5),
        Event("aten::_scaled_dot_product_flash_attention_for_cpu", 15),
    ]
    found = shares_of_events(events, 100)
    assert found["operator"] == pytest.approx(0.6) and found["norms"] == 0
    assert found["copies"] == pytest.approx(0.05) and found["softmax"] == pytest.approx(0.15)
    assert found["Python"] == pytest.approx(0.2)
