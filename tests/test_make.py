"""The one entry for every command: what it lists, refuses and promises."""

import re
import subprocess
import sys

import pytest

import make
from reference.manifest import ROOT


def call(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "make.py", *arguments], cwd=ROOT, capture_output=True, text=True)


def test_without_a_command_it_lists_all_of_them():
    listed = call()
    assert listed.returncode == 0
    for name, command in make.COMMANDS.items():
        assert re.search(rf"^\s+{name}\s+{re.escape(command.__doc__.split()[0])}", listed.stdout, re.M), name


def test_make_knows_the_same_commands():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(r"^COMMANDS := (.*)$", makefile, re.M)[1].split() == list(make.COMMANDS)


def test_unknown_commands_and_surplus_arguments_are_refused():
    assert "invalid choice: 'bok'" in call("bok").stderr
    assert "book takes no arguments, got now" in call("book", "now").stderr


def test_an_old_python_gets_a_sentence(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 9, 6))
    with pytest.raises(SystemExit, match=r"Python 3\.11 or newer is needed"):
        make.setup()


def test_nothing_is_installed_twice(monkeypatch, tmp_path):
    stamp = make.VENV / "installed"
    if not stamp.exists():
        pytest.skip("the tests were not started by make")
    monkeypatch.setattr(make, "run", lambda *command: pytest.fail(f"would run {command}"))
    make.setup()


def test_requirements_are_exact():
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    wanted = [line.split("#")[0].strip() for line in lines if line.split("#")[0].strip() and not line.startswith("-c")]
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[\w.]+", line) for line in wanted), wanted
