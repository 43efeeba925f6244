"""A disk without room, files that aren't whole, Ctrl-C: one sentence, nothing lost, nothing left beside."""

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest
import torch

import reference
from reference import __main__ as command_line
from reference.book.manifest import ROOT
from reference.commands.vectors import check_vectors, write_vectors
from reference.files import write_text

resource = pytest.importorskip("resource", reason="limits of file size are Unix's")


@pytest.fixture
def small_files():
    """A function that sets the most bytes of any file that this process writes, as a full disk would."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda most: resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_text_that_doesnt_fit_leaves_the_old_one(tmp_path, small_files):
    path = tmp_path / "record.json"
    path.write_text("old")
    small_files(100)
    with pytest.raises(OSError, match=r"can't be written \(File too large\).*record\.json"):
        write_text(path, "x" * 10_000)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["record.json"]


@pytest.mark.parametrize("most", [100, 20_000])
def test_a_model_that_doesnt_fit_leaves_the_old_one(tmp_path, small_files, most):
    torch.manual_seed(0)
    model = reference.HybridLM(reference.preset("tiny"))
    reference.save_pretrained(model, tmp_path)
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    small_files(most)
    with pytest.raises(OSError, match=r"model\.safetensors: can't be written \(.*File too large"):
        reference.save_pretrained(model, tmp_path, overwrite=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == files


def test_vectors_on_a_full_disk_end_in_a_sentence(tmp_path, small_files, capsys):
    small_files(4096)
    assert command_line.main(["vectors", "--out", str(tmp_path / "v")]) == 2
    assert "can't be written (File too large)" in capsys.readouterr().err
    assert not [name for name in os.listdir(tmp_path / "v") if name.endswith(".part")]


def test_any_command_on_a_full_disk_ends_in_a_sentence(tmp_path, small_files, capsys, monkeypatch):
    def main(argv):
        small_files(100)
        write_text(tmp_path / "record.json", "x" * 10_000)

    monkeypatch.setattr(command_line, "main", main)
    assert command_line.run_in_shell([]) == 1
    assert capsys.readouterr().err.startswith("no room on the disk: ")


@pytest.fixture(scope="module")
def vectors(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vectors")
    write_vectors(folder)
    for path in folder.glob("*.safetensors"):
        if path.stem != "causal_conv":
            path.unlink()
    about = json.loads((folder / "manifest.json").read_text())
    about["cases"] = {"causal_conv": about["cases"]["causal_conv"]}
    (folder / "manifest.json").write_text(json.dumps(about))
    assert check_vectors(folder) == []
    return folder


def replace(path, kind):
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "broken link":
        path.symlink_to("nowhere")
    elif kind == "link to itself":
        path.symlink_to(path.name)
    elif kind == "cut":
        path.write_bytes(b"{" * 50)
    elif kind == "other":
        path.write_text('{"format": 1, "cases": {"causal_conv": 5}}')


@pytest.mark.parametrize("name", ["manifest.json", "causal_conv.safetensors"])
@pytest.mark.parametrize("kind", ["folder", "pipe", "broken link", "link to itself", "cut", "other"])
def test_vectors_that_cant_be_read_are_named(vectors, tmp_path, name, kind, capsys):
    folder = tmp_path / "v"
    shutil.copytree(vectors, folder)
    replace(folder / name, kind)
    assert command_line.main(["vectors", "--check", str(folder)]) == 2
    assert capsys.readouterr().err.startswith("--check: ")


def test_ctrl_c_while_importing_ends_without_a_traceback():
    code = f"""
import importlib, os, signal, sys
from reference.__main__ import run_in_shell
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that starts the tests with & switches it off
importlib.import_module = lambda name: os.kill(os.getpid(), signal.{signal.SIGINT.name})
sys.exit(run_in_shell(["doctor"]))
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert (ended.returncode, ended.stderr) == (130, "")
