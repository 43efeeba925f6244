"""What Binder and a dev container read: every path exists, every command is one of ours, the code is installed."""

import json
import os
import re
import subprocess
import sys
import tomllib

from packaging.specifiers import SpecifierSet

from reference.book.manifest import ROOT
from tools import commands

BINDER = ROOT / ".binder"
CONTAINER = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8"))
SUPPORTED = SpecifierSet(
    tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["requires-python"]
)


def test_binder_installs_the_pinned_requirements_and_the_books_code():
    lines = (BINDER / "requirements.txt").read_text(encoding="utf-8").split("\n")
    files = [BINDER / line.removeprefix("-r ") for line in lines if line.startswith("-r ")]
    assert [path.resolve() for path in files] == [ROOT / "requirements.txt"]
    last = BINDER / "postBuild"
    assert os.access(last, os.X_OK) or os.name == "nt"
    assert "pip install --quiet --no-deps -e ." in last.read_text(encoding="utf-8")
    assert (ROOT / "pyproject.toml").exists()


def test_both_name_a_python_that_the_book_supports():
    binder = re.fullmatch(r"python-(3\.\d+)\n", (BINDER / "runtime.txt").read_text(encoding="utf-8"))
    container = re.search(r"/python:(3\.\d+)$", CONTAINER["image"])
    assert f"{binder[1]}.0" in SUPPORTED and f"{container[1]}.0" in SUPPORTED


def test_the_container_runs_our_set_up_and_uses_its_interpreter():
    python, script, command = CONTAINER["postCreateCommand"].split()
    assert (python, (ROOT / script).is_file()) == ("python", True)
    said = subprocess.run([sys.executable, script], cwd=ROOT, capture_output=True, text=True)
    assert re.search(rf"\b{command}\b", said.stdout + said.stderr) and callable(getattr(commands, command))
    chosen = CONTAINER["customizations"]["vscode"]["settings"]["python.defaultInterpreterPath"]
    assert chosen == f"${{containerWorkspaceFolder}}/{commands.VENV.name}/bin/python"
