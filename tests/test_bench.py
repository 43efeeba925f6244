"""The benches run, say what they measured, and refuse bad arguments. No time is ever asserted."""

import json
import re
import time

import pytest

from reference.bench import kernels as kernel_bench
from reference.bench.ledger import exponent, overtakes
from reference.bench.measure import peak_resident_bytes, repeated_work, side_by_side
from reference.bench.ops import D, multiply_adds
from reference.commands.bench import main
from reference.kernels import choice, language


def test_works_are_timed_in_turns():
    order = []
    times = side_by_side({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 3)
    assert order == ["a", "b"] * 4  # one round to warm up
    assert all(t.low <= t.median <= t.high for t in times.values())


def test_a_longer_work_takes_longer():
    times = side_by_side({"short": lambda: None, "long": repeated_work(lambda: time.sleep(0.01), 3)}, 2)
    assert times["long"].median >= 0.03 > times["short"].median


def test_peak_memory_sees_what_a_process_holds():
    pytest.importorskip("resource")
    script = """
import sys
from reference.bench.measure import print_resident
print_resident()
block = bytearray(int(sys.argv[1]))
for i in range(0, len(block), 4096): block[i] = 1
print_resident(peak=True)
"""
    assert 90_000_000 < peak_resident_bytes(script, "100000000") < 200_000_000
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        peak_resident_bytes("1 / 0")


def test_multiply_adds_of_one_chunk_counted_by_hand():
    C = 64
    scores, solve = 2 * C * C * D, C**3 / 2  # q k^T and k k^T; the inverse
    values, states = 2 * C * C * D, 3 * C * D * D  # T R and P U; q S, k S, k^T U
    assert multiply_adds(C, 1, C) == scores + solve + values + states


def test_the_operator_bench_prints_a_table_and_writes_json_and_figure(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("reference.bench.ops.SHAPES", [(256, 8)])
    assert main(["ops", "--quick", "--threads", "1", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"\| what +\| ours +\| transformers \| ratio +\|\n\| -+ \|", printed)
    assert "1 threads" in printed
    record = json.loads((tmp_path / "bench_ops.json").read_text())
    assert record["quick"] and record["machine"]["torch"]
    for name in ("forward 32 x 2", "forward+backward 512 x 8", "decode 32 heads"):
        entry = record["table"][name]
        assert 0 < entry["ratio_low"] <= entry["ratio"] <= entry["ratio_high"] and f"{entry['ratio']:.1f}x (" in printed
        assert entry["ours"]["low"] <= entry["ours"]["median"] <= entry["ours"]["high"]
    for shape, (low, high) in record["share_of_matmul_spread"].items():
        assert 0 < low <= record["share_of_matmul"][shape] <= high
    assert record["lengths"]["T"] == [128, 256, 512, 1024, 2048] and record["lengths"]["recurrent"][-1] is None
    assert (tmp_path / "bench_ops.svg").read_text().startswith("<?xml")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bench_ops.json", "bench_ops.svg"]


def test_the_model_bench_prints_ratios(tmp_path, capsys):
    assert main(["transformers", "--quick", "--threads", "1", "--out", str(tmp_path)]) == 0
    assert "prefill 256 tokens" in capsys.readouterr().out
    record = json.loads((tmp_path / "bench_transformers.json").read_text())
    assert all(entry["ratio"] > 0 for entry in record["table"].values())


def test_exponents_and_crossovers_are_those_of_known_lines():
    lengths = [10, 100, 1000, 10_000]
    assert exponent(lengths, [3 * n**1.5 for n in lengths]) == pytest.approx(1.5)
    assert overtakes(lengths, lengths, [300] * 4) == pytest.approx(300)
    assert overtakes(lengths, lengths, [20_000] * 4) is None
    assert overtakes(lengths, lengths, [1] * 4) == 10  # there or earlier


def test_the_ledger_bench_sets_formulas_beside_measurements(tmp_path, capsys):
    assert main(["ledger", "--quick", "--out", str(tmp_path)]) == 0
    assert "| mixer | flops, prefill |" in capsys.readouterr().out
    record = json.loads((tmp_path / "bench_ledger.json").read_text())
    assert record["quick"] and record["rounds"] == 2
    assert all(formula == held for formula, held in (row["held_bytes"] for row in record["count"].values()))
    softmax = record["peak"]["softmax"]
    assert softmax["measured"] == pytest.approx(softmax["new_state"], rel=0.1)
    for key, regime in record["time"].items():
        assert all(len(row["seconds"]) == len(regime["lengths"]) == 3 for row in regime["mixers"].values())
        assert set(record["crossover"][key]) == {"softmax", "softmax, 2 key heads"}


@pytest.mark.parametrize(
    "argv, message",
    [
        (["speed"], "invalid choice: 'speed'"),
        (["ops", "--threads", "0"], "--threads: expected a number >= 1, got 0"),
        (["ops", "--out", __file__], "is a file, expected a folder"),
        (["ledger", "--rounds", "0"], "--rounds: expected a number >= 1, got 0"),
        (["transformers", "--threads", "-1"], "--threads: expected a number >= 1"),
    ],
)
def test_bad_arguments_are_named(argv, message, capsys):
    with pytest.raises(SystemExit):
        main(argv)
    assert message in capsys.readouterr().err


def test_the_kernel_bench_says_that_it_needs_a_gpu(capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert main(["kernels", "--quick"]) == 1
    assert "no CUDA GPU that PyTorch can use" in capsys.readouterr().err


def test_the_kernel_bench_measures_every_side_and_leaves_the_choice_as_it_was():
    before = choice.takes_kernel
    record = kernel_bench.measure_kernels("cpu", (2,), (32,), 1, D=16)
    assert choice.takes_kernel is before
    assert list(record["table"]) == ["forward 2 x 32", "forward+backward 2 x 32", "decode 2"]
    for entry in record["table"].values():
        assert entry["ratios"]["PyTorch loop"] == entry["PyTorch loop"]["median"] / entry["kernels"]["median"]
    text = kernel_bench.kernel_summary(record)
    assert "forward 2 x 32" in text and "PyTorch loop" in text and "fla can't be imported" in text


def test_compiling_the_kernels_says_what_is_missing(capsys, monkeypatch):
    monkeypatch.setattr(language, "triton", None)
    assert main(["kernels", "--compile"]) == 1
    assert "Triton can't be imported: pip install '.[kernels]'" in capsys.readouterr().err
