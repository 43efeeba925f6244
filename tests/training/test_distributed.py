"""Several processes train as one does, and go on from each other's checkpoints."""

import json
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from reference.__main__ import main

STEPS = 6
SETTINGS = ["--preset", "tiny", "--batch-size", "4", "--length", "48", "--threads", "1", "--save-every", "3"]
SETTINGS += ["--steps", str(STEPS), "--warm-up", "2", "--accumulate", "2", "--hold-out", "--eval-every", "4"]


def train(folder, out, processes=1, parallel="ddp", more=()):
    arguments = ["train", "--data", str(folder / "text.jsonl"), "--out", str(folder / out), *SETTINGS, *more]
    if processes == 1:
        assert main(arguments) == 0
        return ""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    done = subprocess.run(
        [*launch, "-m", "reference", *arguments, "--parallel", parallel], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def rows(folder, out):
    return [json.loads(line) for line in (folder / out / "metrics.jsonl").read_text().splitlines()]


def assert_same_run(folder, out, wanted="one"):
    ours, theirs = rows(folder, out), rows(folder, wanted)
    assert [row["step"] for row in ours] == list(range(STEPS))
    for a, b in zip(ours, theirs, strict=True):
        assert abs(a["loss"] - b["loss"]) < 1e-5 and abs(a["grad_norm"] - b["grad_norm"]) < 1e-4
        assert a.keys() == b.keys() and abs(a.get("held_out_loss", 0) - b.get("held_out_loss", 0)) < 1e-5
    a, b = (load_file(folder / name / "model.safetensors") for name in (out, wanted))
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=0, atol=2e-4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("distributed")
    texts = [f"Document {n}: " + "the quick brown fox jumps over the lazy dog. " * 5 for n in range(40)]
    (folder / "text.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    train(folder, "one")
    return folder


def stop_halfway(folder, source, out):
    """What a run that was killed after step 3's checkpoint leaves behind."""
    shutil.copytree(folder / source, folder / out)
    shutil.rmtree(folder / out / "checkpoints" / f"step_{STEPS:08d}")
    (folder / out / "model.safetensors").unlink()


def test_two_processes_that_average_gradients_give_the_losses_of_one(folder):
    train(folder, "ddp", 2)
    assert_same_run(folder, "ddp")


def test_two_processes_that_shard_everything_do_too_and_one_goes_on_from_their_checkpoint(folder, capsys):
    train(folder, "fsdp", 2, "fsdp")
    assert_same_run(folder, "fsdp")
    files = {path.name for path in (folder / "fsdp" / "checkpoints" / "step_00000003").iterdir()}
    assert sum(name.startswith("shard-") and name.endswith(".safetensors") for name in files) == 2
    stop_halfway(folder, "fsdp", "fsdp_then_one")
    capsys.readouterr()
    train(folder, "fsdp_then_one")
    assert "continuing from step 3 (saved by 2 process(es))" in capsys.readouterr().out
    assert_same_run(folder, "fsdp_then_one")


def test_two_sharded_processes_go_on_from_the_checkpoint_of_one(folder):
    stop_halfway(folder, "one", "one_then_fsdp")
    said = train(folder, "one_then_fsdp", 2, "fsdp")
    assert said.count("continuing from step 3 (saved by 1 process(es))") == 1
    assert_same_run(folder, "one_then_fsdp")


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_processes_train_the_head_for_the_token_after_the_next_as_well(folder, parallel):
    more = ["--predict-ahead", "--steps", "1", "--warm-up", "1"]
    train(folder, f"ahead_one_{parallel}", more=more)
    train(folder, f"ahead_{parallel}", 2, parallel, more)
    (one,), (two,) = rows(folder, f"ahead_one_{parallel}"), rows(folder, f"ahead_{parallel}")
    assert abs(one["loss"] - two["loss"]) < 1e-5 and "held_out_loss" in two
    a, b = (load_file(folder / f"ahead_{who}{parallel}" / "model.safetensors") for who in ("one_", ""))
    assert a.keys() == b.keys() and any(name.startswith("mtp.") for name in a)
    apart = torch.cat([(a[name] - b[name]).flatten() for name in a if name.startswith("mtp.")]).abs().mean()
    assert apart < 0.1 * one["lr"]  # Adam's first step is lr times the gradient's sign
    assert abs(one["grad_norm"] / two["grad_norm"] - 1) < 0.01


def test_a_batch_that_can_not_be_shared_is_named(folder):
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    arguments = ["train", "--out", str(folder / "odd"), "--batch-size", "3"]
    done = subprocess.run([*launch, "-m", "reference", *arguments], capture_output=True, text=True, timeout=300)
    assert done.returncode != 0 and not (folder / "odd").exists()
    assert "batch_size: 2 processes can't share 3 pieces evenly" in done.stderr
