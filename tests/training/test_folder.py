"""What a run's folder may be, who may write there, and what a resumed run must find again."""

import json
import subprocess
import sys
import time

import pytest
import torch
from safetensors import safe_open

from reference.__main__ import main
from reference.training.folder import LEFT, MARK, only_writer
from reference.training.resume import load_newest

LINES = [f"{n}. The quick brown fox jumps over the lazy dog." for n in range(60)]
SMALL = ["--batch-size", "2", "--length", "24", "--threads", "1", "--warm-up", "2", "--save-every", "2"]


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "text.jsonl"
    path.write_text("".join(json.dumps({"text": line}) + "\n" for line in LINES))
    return path


def train(data, out, *more, steps=4):
    return main(["train", "--data", str(data), "--out", str(out), "--steps", str(steps), *SMALL, *more])


def weights(out):
    with safe_open(out / "model.safetensors", framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "metrics.jsonl", "checkpoints"])
def test_files_that_training_did_not_write_stay(name, data, tmp_path, capsys):
    out = tmp_path / "precious"
    (out / name).mkdir(parents=True) if name == "checkpoints" else out.mkdir()
    precious = out / "checkpoints" / "mine" if name == "checkpoints" else out / name
    precious.write_text('{"model_type": "llama"}')
    for more in ([], ["--resume", "never"]):
        assert train(data, out, *more) == 1
        assert f"out: {out} holds {name}, and `train` didn't write that there" in capsys.readouterr().err
    assert precious.read_text() == '{"model_type": "llama"}' and len(list(out.iterdir())) == 1


def test_an_empty_name_is_no_folder(data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    for empty in ("", "  "):
        with pytest.raises(SystemExit):
            train(data, empty, "--resume", "never")
        assert "--out: expected a folder's name, got an empty one" in capsys.readouterr().err
    assert (tmp_path / "checkpoints").exists()


def test_only_what_this_program_names_is_deleted(data, tmp_path):
    out = tmp_path / "out"
    assert train(data, out) == 0
    kept = [out / "notes.txt", out / "x.part", out / "checkpoints" / "step_00000005.best"]
    kept += [out / "checkpoints" / "step_00000015 old copy of 10", out / "checkpoints" / "step_7"]
    for path in kept:
        path.mkdir() if path.parent.name == "checkpoints" else path.write_text("mine")
    left = [out / "model.safetensors.123.part", out / "checkpoints" / "step_00000003.part"]
    left[0].write_text("half")
    left[1].mkdir()
    assert LEFT.fullmatch(left[0].name) and train(data, out, steps=4) == 0
    assert not any(path.exists() for path in left)
    assert train(data, out, "--resume", "never", steps=6) == 0
    assert all(path.exists() for path in kept)
    steps = sorted(path.name for path in (out / "checkpoints").glob("step_0000000?"))
    assert steps == ["step_00000004", "step_00000006"]


def test_runs_from_before_the_mark_are_known(data, tmp_path):
    out = tmp_path / "out"
    assert train(data, out) == 0
    (out / MARK).unlink()
    assert train(data, out) == 0
    (out / "metrics.jsonl").unlink()
    assert train(data, out) == 0


def test_one_process_writes_and_the_second_says_so(data, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["train", "--data", str(data), "--out", str(out), "--steps", "100000", *SMALL]
    first = subprocess.Popen(
        [sys.executable, "-m", "reference", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        until = time.monotonic() + 120
        while not list(out.glob("checkpoints/step_*/state.json")) and time.monotonic() < until:
            time.sleep(0.1)
        assert train(data, out, steps=100000) == 1
        assert f"out: another process trains in {out}" in capsys.readouterr().err
        assert first.poll() is None
    finally:
        first.kill()
        first.wait()
    with only_writer(out):  # it ended with its process
        pass


def test_the_text_of_a_resumed_run_is_the_same(data, tmp_path, capsys):
    for options in ([], ["--tokenizer", "bpe", "--vocab-size", "300"]):
        out = tmp_path / f"out{len(options)}"
        assert train(data, out, *options) == 0
        assert train(data, out, *options) == 0  # the tokenizer that is made again is the same
        before = (out / "model.safetensors").read_bytes()
        text = data.read_text()
        data.write_text(text.replace("lazy", "busy"))
        capsys.readouterr()
        assert train(data, out, *options) == 1
        said = capsys.readouterr().err
        assert "the text of --data, or its tokenizer, has changed" in said or "or the text has changed" in said
        assert (out / "model.safetensors").read_bytes() == before
        data.write_text(text)


FIELDS = ["step", "sharded", "processes", "sha256", "config", "run", "seal"]


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("how", ["gone", "renamed", "other", "null"])
def test_a_damaged_state_falls_back_to_the_one_before(field, how, data, tmp_path, capsys):
    out = tmp_path / "out"
    assert train(data, out, "--save-every", "1", steps=3) == 0
    wanted, checkpoints = weights(out), out / "checkpoints"
    path = checkpoints / "step_00000003" / "state.json"
    state = json.loads(path.read_text())
    value = state.pop(field)
    if how == "renamed":
        state[field + "s"] = value
    elif how != "gone":
        state[field] = None if how == "null" else {"step": 2, "sharded": True, "processes": 2}.get(field, {"a": 1})
    path.write_text(json.dumps(state))
    said = []
    found, _ = load_newest(checkpoints, said.append)
    assert found.name == "step_00000002" and "step_00000003 can't be used: " in said[0]
    assert train(data, out, "--save-every", "1", steps=3) == 0
    assert all(torch.equal(x, weights(out)[name]) for name, x in wanted.items())


def test_every_flipped_bit_of_the_state_is_noticed(data, tmp_path):
    out = tmp_path / "out"
    assert train(data, out, "--save-every", "1", steps=2) == 0
    path = out / "checkpoints" / "step_00000002" / "state.json"
    whole = path.read_bytes()
    random = torch.Generator().manual_seed(0)
    for n in torch.randint(8 * len(whole), (300,), generator=random).tolist():
        damaged = bytearray(whole)
        damaged[n // 8] ^= 1 << n % 8
        path.write_bytes(damaged)
        found, state = load_newest(out / "checkpoints", lambda said: None)
        whole_again = found.name == "step_00000002" and json.loads(whole) == json.loads(path.read_bytes())
        assert found.name == "step_00000001" or whole_again
        assert state["step"] == int(found.name[-8:])
