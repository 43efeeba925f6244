"""The experiment behind chapter 09: equal sizes, a record as promised, stored weights that are the record's."""

import json

import pytest
import torch

from reference.__main__ import main
from reference.experiments.models.hybrid import (
    LENGTH,
    STACKS,
    STORED,
    exam_by_position,
    half_lives,
    load_hybrid,
    manual_data,
    stack_config,
)
from reference.model.costs import count_parameters


def test_the_three_stacks_have_the_same_size_to_a_percent():
    sizes = [count_parameters(stack_config(stack)).total for stack in STACKS]
    assert max(sizes) / min(sizes) < 1.02
    assert abs(max(sizes) - sizes[1]) / sizes[1] < 0.01 and abs(min(sizes) - sizes[1]) / sizes[1] < 0.01
    with pytest.raises(ValueError, match=r"stack: expected one of .* got 'sparse'"):
        stack_config("sparse")


def test_a_short_run_writes_its_record_and_weights(tmp_path, capsys):
    arguments = ["--seeds", "1", "--steps", "2", "--threads", "1", "--out", str(tmp_path), "--weights", str(tmp_path)]
    assert main(["experiment", "hybrid", *arguments, "--json"]) == 0
    record = json.loads((tmp_path / "hybrid.json").read_text())
    said = capsys.readouterr().out
    assert said.count("±") == 0 and said.count("| ") > 3  # one seed has no deviation
    metrics = json.loads(said.splitlines()[-1])["metrics"]
    assert metrics == {stack: {"held_out": [runs[0]["held_out"][-1][1]]} for stack, runs in record["runs"].items()}
    for stack, runs in record["runs"].items():
        assert [step for step, _ in runs[0]["held_out"]] == [0, 2]
        assert len(runs[0]["by_position"]) == 8
        layers = [kind for kind in STACKS[stack] if kind == "linear_attention"]
        assert [len(heads) for heads in runs[0]["half_life"][0][1]] == [4] * len(layers)
    assert load_hybrid(tmp_path).config == stack_config("hybrid")


def test_the_stored_model_has_the_recorded_loss():
    record = json.loads((STORED / "hybrid.json").read_text())
    exam = manual_data(0)[1]
    assert exam[0].ids.shape == (1, 4 * LENGTH)
    torch.set_num_threads(1)
    loss, by_position = exam_by_position(load_hybrid(), exam)
    run = record["runs"]["hybrid"][0]
    assert abs(loss - run["held_out"][-1][1]) < 0.002  # the stored weights are rounded to float16
    assert max(abs(a - b) for a, b in zip(by_position, run["by_position"], strict=True)) < 0.005
    lives = half_lives(load_hybrid(), exam)
    assert all(abs(a / b - 1) < 0.02 for a, b in zip(lives[0], run["half_life"][-1][1][0], strict=True))


@pytest.mark.parametrize("arguments", [["--steps", "0"], ["--seeds", "-1"], ["--out", __file__]])
def test_bad_settings_are_named(arguments, capsys):
    with pytest.raises(SystemExit):
        main(["experiment", "hybrid", *arguments])
    assert arguments[0] in capsys.readouterr().err
