"""Training: killed and continued it ends bitwise where an undisturbed run ends; bad data and settings are named."""

import json
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise

import pytest
import torch
from safetensors.torch import load_file

import reference
from reference.__main__ import main
from reference.model.config import preset
from reference.training.data import PackedText, read_documents
from reference.training.plan import read_plan
from reference.training.resume import load_newest, save_checkpoint
from reference.training.tokenizer import ByteTokenizer
from reference.training.trainer import Diverged, build_optimizer, learning_rate, train_step

TEXT = ["The quick brown fox jumps over the lazy dog. " * 20, "Pack my box with five dozen liquor jugs. " * 20]
BYTES = ByteTokenizer()
SMALL = ["--preset", "tiny", "--batch-size", "2", "--length", "32", "--threads", "1", "--save-every", "3"]


def command(folder, steps, *more):
    data = ["--data", str(folder / "text.jsonl"), "--out", str(folder / "out")]
    return ["train", *data, "--steps", str(steps), *SMALL, *more]


@pytest.fixture
def folder(tmp_path):
    lines = "".join(json.dumps({"text": text}) + "\n" for text in TEXT)
    (tmp_path / "text.jsonl").write_text(lines)
    return tmp_path


def weights(folder):
    return load_file(folder / "out" / "model.safetensors")


def assert_same(a, b):
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def start(folder, steps):
    arguments = [sys.executable, "-m", "reference", *command(folder, steps)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ)


def wait_for_step(folder, step, process):
    path, deadline = folder / "out" / "metrics.jsonl", time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if path.exists() and path.read_text().count("\n") > step:
            return
        time.sleep(0.02)
    process.kill()
    raise AssertionError(f"never reached step {step}: {process.communicate()[1][-2000:]}")


def test_three_kills_leave_the_final_weights_bitwise_equal(folder, tmp_path_factory, capsys):
    undisturbed = tmp_path_factory.mktemp("undisturbed")
    arguments = command(folder, 40)
    arguments[arguments.index("--out") + 1] = str(undisturbed / "out")
    assert main(arguments) == 0
    for step in (5, 14, 27):
        process = start(folder, 40)
        wait_for_step(folder, step, process)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert not (folder / "out" / "model.safetensors").exists()
    assert main(command(folder, 40)) == 0
    assert "continuing from step" in capsys.readouterr().out
    assert_same(weights(folder), weights(undisturbed))
    runs = [(place / "out" / "metrics.jsonl").read_text().splitlines() for place in (folder, undisturbed)]
    losses = [[(row["step"], row["loss"]) for row in map(json.loads, run)] for run in runs]
    assert losses[0] == losses[1] and [step for step, _ in losses[0]] == list(range(40))
    assert sorted(p.name for p in (folder / "out" / "checkpoints").iterdir()) == ["step_00000039", "step_00000040"]


def test_ctrl_c_finishes_the_step_and_saves(folder):
    process = start(folder, 5000)
    wait_for_step(folder, 4, process)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130 and "stopped and saved after step" in said
    _, state = load_newest(folder / "out" / "checkpoints")
    assert state["step"] == len((folder / "out" / "metrics.jsonl").read_text().splitlines())


@pytest.mark.parametrize("damage", ["cut", "flip", "no state", "part"])
def test_a_torn_checkpoint_is_recognized_and_the_one_before_it_is_used(folder, damage, capsys):
    assert main(command(folder, 9)) == 0
    wanted, checkpoints = weights(folder), folder / "out" / "checkpoints"
    (folder / "out" / "model.safetensors").unlink()
    newest = checkpoints / "step_00000009"
    file = newest / "model.safetensors"
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-100])
    elif damage == "flip":
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        file.write_bytes(data)
    elif damage == "no state":
        (newest / "state.json").unlink()
    else:
        newest.rename(checkpoints / "step_00000009.part")
    capsys.readouterr()
    assert main(command(folder, 9)) == 0
    said = capsys.readouterr().out
    assert "continuing from step 6" in said
    assert ("step_00000009 can't be used" in said) == (damage != "part")
    assert_same(weights(folder), wanted)


def test_a_checkpoint_that_could_not_be_written_leaves_the_older_ones(folder, monkeypatch):
    model = reference.HybridLM(preset("tiny"))
    optimizer = build_optimizer(model, 1e-3, 0.1)
    save_checkpoint(folder, 1, model, optimizer, {})

    def no_room(tensors, path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("reference.training.resume.save_file", no_room)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(folder, 2, model, optimizer, {})
    assert [path.name for path in folder.glob("step_*")] == ["step_00000001"]
    assert load_newest(folder)[1]["step"] == 1


def test_another_run_in_the_same_folder_is_refused(folder, capsys):
    assert main(command(folder, 3)) == 0
    assert main(command(folder, 5)) == 1
    said = capsys.readouterr().err
    assert "belongs to a run with other settings: steps 3, now 5 (the rate falls with the number of steps" in said
    assert "--resume never starts over" in said and "another --out" in said
    assert main(command(folder, 3, "--lr", "0.5", "--layers", "1:0")) == 1
    said = capsys.readouterr().err
    assert "lr 0.002, now 0.5; layer_types [" in said and "a longer run" not in said
    assert main(command(folder, 5, "--resume", "never")) == 0


@pytest.mark.parametrize("older", [False, True], ids=["today's state.json", "hold-out behind the tokenizer's name"])
def test_a_run_with_a_hold_out_is_resumed_and_never_without_it(older, folder, capsys):
    assert main(command(folder, 4, "--hold-out")) == 0
    wanted, checkpoints = weights(folder), folder / "out" / "checkpoints"
    (checkpoints / "step_00000004" / "state.json").unlink()
    path = checkpoints / "step_00000003" / "state.json"
    state = json.loads(path.read_text())
    assert state["run"]["hold_out"] is True and state["run"]["tokenizer"] == "bytes"
    if older:
        del state["run"]["hold_out"], state["run"]["text"], state["seal"]
        state["run"]["tokenizer"] = "bytes held out"
        path.write_text(json.dumps(state))
    assert main(command(folder, 4)) == 1
    assert "other settings: hold_out True, now False." in capsys.readouterr().err
    assert main(command(folder, 4, "--hold-out")) == 0
    assert "continuing from step 3" in capsys.readouterr().out
    assert_same(weights(folder), wanted)


def test_an_older_run_without_a_hold_out_is_read_as_one():
    assert read_plan({"tokenizer": "bpe:300"}) == {"tokenizer": "bpe:300", "hold_out": False}
    assert read_plan({"tokenizer": "bpe:300 held out"}) == {"tokenizer": "bpe:300", "hold_out": True}


def test_it_says_what_was_read_and_what_to_do_next(folder, capsys):
    for name in ("a.md", "deeper/b.txt", "c.py", "d"):
        (folder / "texts" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "texts" / name).write_text("Zürich, one two three. " * 10)
    (folder / "texts" / "folder.md").mkdir()
    out = folder / "my out"
    arguments = ["train", "--data", str(folder / "texts"), "--out", str(out), "--steps", "1", *SMALL]
    assert main(arguments) == 0
    first, *_, last = capsys.readouterr().out.splitlines()
    size = 2 * 10 * len("Zürich, one two three. ".encode())
    assert first == (
        f"data: {folder / 'texts'}: 2 document(s), {size} bytes of text in 2 file(s); "
        "2 other file(s) skipped (.py, no suffix)"
    )
    assert last == f"saved in '{out}'; try: python -m reference generate --model '{out}' --prompt \"The \""
    assert main(command(folder, 1)) == 0
    size = sum(map(len, TEXT))
    assert capsys.readouterr().out.startswith(f"data: {folder / 'text.jsonl'}: 2 document(s), {size:,} bytes of text\n")


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--layers", "3"], "--layers: expected linear:full, such as 3:1, got '3'"),
        (["--seed", "99999999999999999999"], "--seed: expected a whole number from 0 to 2^31 - 1"),
        (["--eval-every", "-1"], "--eval-every: expected a number >= 0, got -1"),
        (["--length", "long"], "--length: expected a number of tokens, such as 4096, 256K or 1M, got 'long'"),
    ],
)
def test_bad_options_end_before_any_work(folder, more, sentence, capsys):
    with pytest.raises(SystemExit) as ended:
        main(command(folder, 1, *more))
    said = capsys.readouterr()
    assert ended.value.code == 2 and sentence in said.err and said.out == "" and not (folder / "out").exists()


def test_a_loss_that_is_no_number_stops_with_a_diagnosis():
    torch.manual_seed(0)
    model = byte_model()
    optimizer = build_optimizer(model, 1e-3, 0.1)
    data = PackedText(["abc " * 50], length=16, batch_size=1)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    with torch.no_grad():
        model.layers[1].mlp.up_proj.weight[0, 0] = torch.nan
    with pytest.raises(Diverged, match=r"step 7: loss nan.*weights of layers.1.mlp.up_proj.weight are no numbers"):
        train_step(model, optimizer, data, 7, 1, 1.0)
    after = dict(model.named_parameters())
    assert all(torch.equal(before[name], after[name]) for name in before if name != "layers.1.mlp.up_proj.weight")


def byte_model():
    return reference.HybridLM(reference.HybridConfig.from_dict(preset("tiny").to_dict() | {"vocab_size": 257}))


def test_documents_do_not_leak_into_one_another():
    torch.manual_seed(0)
    model = byte_model().eval()
    data = PackedText(["one two three", "four five", "six " * 30], length=40, batch_size=3, seed=1)
    batch = data.batch(0)
    assert batch.ids.shape == batch.targets.shape == (1, 120)
    bounds = batch.cu_seqlens.tolist()
    assert bounds[0] == 0 and bounds[-1] == 120 and {0, 40, 80} <= set(bounds) and len(bounds) > 4
    with torch.no_grad():
        packed = model(batch.ids, cu_seqlens=batch.cu_seqlens)
        for first, stop in pairwise(bounds):
            alone = model(batch.ids[:, first:stop])
            torch.testing.assert_close(packed[:, first:stop], alone, rtol=1e-4, atol=1e-5)
    unknown = batch.targets[0] == -100
    assert unknown.any() and (batch.ids[0, 1:][unknown[:-1]] == BYTES.begin).all()


def test_a_batch_depends_on_its_number_and_the_seed_alone():
    data = PackedText(TEXT, length=20, batch_size=2, seed=3)
    again = PackedText(TEXT, length=20, batch_size=2, seed=3)
    data.batch(0)
    assert torch.equal(data.batch(5).ids, again.batch(5).ids)
    assert not torch.equal(data.batch(5).ids, data.batch(6).ids)


def test_text_survives_the_byte_tokenizer():
    text = "Zürich: 湖, naïve\n"
    assert BYTES.decode(BYTES.encode(text)) == text and BYTES.encode(text)[0] == BYTES.begin


def test_only_matrices_decay():
    model = reference.HybridLM(preset("tiny"))
    decaying = {id(p) for p in build_optimizer(model, 1e-3, 0.1).param_groups[0]["params"]}
    for name, p in model.named_parameters():
        expected = p.dim() >= 2 and not any(part in name for part in ("A_log", "dt_bias", "norm"))
        assert (id(p) in decaying) == expected, name


def test_the_rate_rises_and_falls():
    rates = [learning_rate(n, peak=1.0, warm_up=10, steps=100) for n in range(101)]
    assert rates[0] == 0.1 and rates[9] == 1.0 and rates[10] == 1.0
    assert abs(rates[55] - 0.55) < 1e-9 and abs(rates[100] - 0.1) < 1e-9
    assert all(a >= b for a, b in pairwise(rates[10:]))


def test_folders_and_files_are_read(tmp_path):
    (tmp_path / "a.txt").write_text("first")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "c.md").write_text("second")
    (tmp_path / "d.jsonl").write_text('{"text": "third"}\n\n{"text": "fourth"}\n')
    (tmp_path / "e.bin").write_bytes(b"\xff\xfe")
    assert read_documents(str(tmp_path)) == ["first", "second", "third", "fourth"]
    assert len(read_documents("manual")) > 50


BAD_DATA = {
    "missing": (None, "data: expected 'manual', a file or a folder, got"),
    "empty.txt": ("  ", "holds no text"),
    "short.txt": ("abc", "4 tokens are too few for pieces of 32"),
    "bad.jsonl": ('{"text": "fine"}\n{oops}\n', "bad.jsonl, line 2: not JSON"),
    "field.jsonl": ('{"body": "x"}\n', 'field.jsonl, line 1: expected an object with a string field "text"'),
    "latin.txt": (b"caf\xe9", "latin.txt is not UTF-8 text (byte 3)"),
}


@pytest.mark.parametrize("name", BAD_DATA)
def test_bad_data_is_named_and_nothing_is_written(name, tmp_path, capsys):
    content, message = BAD_DATA[name]
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert main(["train", "--data", str(path), "--out", str(tmp_path / "out"), *SMALL]) == 1
    assert message in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "arguments,message",
    [
        (["--steps", "0"], "--steps: expected a number >= 1, got 0"),
        (["--lr", "nan"], "--lr: expected a number > 0, got nan"),
        (["--out", __file__], "is a file, expected a folder"),
        (["--preset", "huge"], "invalid choice: 'huge'"),
    ],
)
def test_bad_settings_are_named(arguments, message, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["train", "--out", str(tmp_path / "out"), *arguments])
    assert message in capsys.readouterr().err
