"""`generate` on a trained model: repeatable, streamed, and errors that name the argument."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from reference.__main__ import main
from reference.checkpoints import load_model
from reference.options import token_count


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    text = folder / "text.txt"
    text.write_text("abcabcabc " * 100)
    sizes = ["--steps", "30", "--batch-size", "4", "--length", "48", "--threads", "1", "--warm-up", "5"]
    assert main(["train", "--data", str(text), "--out", str(folder / "out"), "--lr", "0.01", *sizes]) == 0
    return folder / "out"


def test_a_trained_model_continues_a_text_and_repeats_itself(trained, capsys):
    said = []
    for _ in range(2):
        arguments = ["--model", str(trained), "--prompt", "abcab", "--tokens", "20", "--seed", "1", "--threads", "1"]
        assert main(["generate", *arguments]) == 0
        captured = capsys.readouterr()
        said.append(captured.out)
        assert "20 tokens" in captured.err and "tokens/s" in captured.err
    assert said[0] == said[1] and said[0].startswith("abcab")
    assert set(said[0].strip()) <= set("abc ")


def test_tied_weights_are_loaded(trained):
    model = load_model(trained)
    assert model.lm_head.weight is model.embed_tokens.weight
    with torch.no_grad():
        assert model(torch.tensor([[256, 97, 98]])).isfinite().all()


@pytest.mark.parametrize(
    "arguments,message",
    [
        (["--temperature", "-1"], "--temperature: expected a number >= 0, got -1"),
        (["--temperature", "nan"], "--temperature: expected a number >= 0, got nan"),
        (["--top-k", "0"], "--top-k: expected a whole number >= 1, got 0"),
        (["--top-p", "2"], "--top-p: expected a number in (0, 1], got 2"),
        (["--min-p", "-0.1"], "--min-p: expected a number in [0, 1], got -0.1"),
        (["--tokens", "-1"], "--tokens: expected a number >= 0, got -1"),
        (["--tokens", "9" * 40], "--tokens: expected a number from 0 to 2147483647, got 9999"),
        (["--tokens", "many"], "--tokens: expected a number of tokens, such as 4096, 256K or 1M, got 'many'"),
        (["--seed", "99999999999999999999"], "--seed: expected a whole number from 0 to 2^63 - 1"),
        (["--threads", "0"], "--threads: expected a number >= 1, got 0"),
    ],
)
def test_bad_settings_are_named_before_a_model_is_read_or_a_word_printed(tmp_path, arguments, message, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["generate", "--model", str(tmp_path / "none"), "--prompt", "x", *arguments])
    said = capsys.readouterr()
    assert ended.value.code == 2 and message in said.err and said.out == ""


@pytest.mark.parametrize(
    ("text", "number"), [("4096", 4096), ("256K", 2**18), ("1m", 2**20), ("65,536", 65536), ("-1", -1)]
)
def test_a_number_of_tokens_may_have_a_unit(text, number):
    assert token_count(text) == number


@pytest.mark.parametrize("text", ["", "K", "1.5", "1KK", "1G", "a"])
def test_what_is_no_number_of_tokens_is_said(text, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["cost", "--family", "qwen3_next", "--context", text])
    assert ended.value.code == 2
    assert f"--context: expected a number of tokens, such as 4096, 256K or 1M, got {text!r}" in capsys.readouterr().err


def test_a_cost_is_the_same_in_both_spellings(capsys):
    said = []
    for text in ("256K", "262144"):
        assert main(["cost", "--family", "qwen3_next", "--context", text]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1] and "262,144 tokens" in said[0]


@torch.no_grad()
def test_weights_that_are_no_numbers_are_said(trained, tmp_path, capsys):
    shutil.copytree(trained, tmp_path / "copy")
    weights = load_file(trained / "model.safetensors")
    weights["norm.weight"].fill_(torch.nan)
    weights["embed_tokens.weight"].fill_(torch.nan)
    save_file(weights, tmp_path / "copy" / "model.safetensors")
    assert main(["generate", "--model", str(tmp_path / "copy"), "--prompt", "a", "--seed", "1"]) == 1
    assert f"model: {tmp_path / 'copy'} computes NaN or infinity" in capsys.readouterr().err


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"rms_norm_eps": "x"}, "rms_norm_eps: expected a finite number"),
        ({"head_dim": 2**31 - 8}, "head_dim: expected at most 512, the longest axis in the files, got 2147483640"),
        ({"rope_theta": "x"}, "rope_theta: expected a finite number"),
    ],
)
def test_a_damaged_config_is_a_sentence_before_memory_is_taken(trained, tmp_path, fields, message, capsys):
    shutil.copytree(trained, tmp_path / "copy")
    path = tmp_path / "copy" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    assert main(["generate", "--model", str(tmp_path / "copy"), "--prompt", "a", "--seed", "1"]) == 1
    assert message in capsys.readouterr().err


def test_a_folder_without_a_model_is_named(tmp_path, capsys):
    assert main(["generate", "--model", str(tmp_path)]) == 1
    assert "has no config.json" in capsys.readouterr().err
