"""A command that lacks a package says in one sentence which, and how to run it: never a traceback."""

import re
import subprocess
import sys

import pytest

from reference.__main__ import COMMANDS, missing
from reference.files import BOOK

CALLS = {
    "bench": ["ops", "--quick"],
    "cost": ["--family", "llama", "--context", "1024"],
    "experiment": ["capacity", "--quick"],
    "generate": ["--model", "none", "--prompt", "x"],
    "train": ["--steps", "1", "--out", "none"],
    "vectors": ["--check", "none"],
}
BLOCKED = ("torch", "numpy", "tqdm", "safetensors", "yaml", "matplotlib", "IPython", "threadpoolctl")
START = """
import runpy, sys
blocked, sys.argv = sys.argv[1].split(","), ["reference", *sys.argv[2:]]

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name in blocked or name.split(".")[0] in blocked:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())
runpy.run_module("reference", run_name="__main__")
"""


def run(blocked: tuple[str, ...], *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", START, ",".join(blocked), *arguments]
    return subprocess.run(command, cwd=BOOK, capture_output=True, text=True)


@pytest.mark.parametrize("command", sorted(COMMANDS.keys() - {"doctor"}))
@pytest.mark.parametrize("blocked", [BLOCKED, ("torch",)], ids=["everything", "torch"])
def test_a_command_without_its_packages_says_so_in_one_sentence(blocked, command):
    done = run(blocked, command, *CALLS.get(command, []))
    assert done.returncode == 1 and done.stdout == "", done
    package = re.search(rf"^{command}: the package (\w+) is not installed in this Python \(.+\)\. .+\n$", done.stderr)
    assert package and package[1] in blocked, done.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["experiment", "list"], ["doctor"]], ids=" ".join)
def test_what_needs_no_package_runs_without_any(arguments):
    done = run(BLOCKED, *arguments)
    assert "Traceback" not in done.stderr and len(done.stdout.splitlines()) > 5, done.stderr
    assert done.returncode == 0


@pytest.mark.parametrize("command, module", [("cost", "reference.model.costs"), ("vectors", "safetensors.torch")])
def test_a_module_of_ours_or_one_of_another_version_that_is_missing_stays_a_traceback(command, module):
    done = run((module,), command, *CALLS[command])
    assert "ModuleNotFoundError" in done.stderr and "Traceback" in done.stderr


def test_the_way_out_depends_on_where_the_command_was_started(tmp_path):
    from reference.commands.doctor import own_python

    assert "pip install" in own_python("train", "/usr", tmp_path)  # an installed package
    (tmp_path / "make.py").touch()
    assert "make.py book, then" in own_python("train", "/usr", tmp_path)
    assert "make.py setup installs" in own_python("train", str(tmp_path / ".venv"), tmp_path)
    for name in ("bin/python", "Scripts/python.exe"):
        (tmp_path / ".venv" / name).parent.mkdir(parents=True)
        (tmp_path / ".venv" / name).touch()
    assert "-m reference train" in own_python("train", "/usr", tmp_path)
    assert missing("torch", "train").startswith("train: the package torch is not installed")


WITHOUT_TORCH = """
import numpy as np
import reference.equations, reference.notebook, reference.plotting, reference.tasks, reference.book.corpus
from reference.checks import verdict
verdict("1.1", None)
verdict("2.1", lambda K, V, beta: K.T @ (beta[:, None] * V))
verdict("3.1", None)
"""


def test_the_numpy_chapters_need_no_torch():
    code = START.split("runpy.run_module")[0] + WITHOUT_TORCH
    done = subprocess.run([sys.executable, "-c", code, "torch"], cwd=BOOK, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Exercise 2.1: right." in done.stdout and done.stdout.count("no answer yet") == 2
