"""Other Pythons are found, named where they are no good, and get an environment that is used again."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tools import pythons


def test_a_version_is_asked_of_the_program_itself(tmp_path):
    assert pythons.version_of(sys.executable) == ".".join(map(str, sys.version_info[:3]))
    assert pythons.version_of(str(tmp_path / "nothing")) is None
    if sys.platform != "win32":
        shim = tmp_path / "python3.13"  # as pyenv has for versions that are not installed
        shim.write_text("#!/bin/sh\necho 'pyenv: python3.13: command not found' >&2\nexit 127\n")
        shim.chmod(0o755)
        assert pythons.version_of(str(shim)) is None


def test_path_comes_before_pyenv_and_what_does_not_start_is_left_out(tmp_path, monkeypatch):
    for version in ("3.10.13", "3.12.1", "3.13.0"):
        (tmp_path / "versions" / version / "bin").mkdir(parents=True)
        (tmp_path / "versions" / version / "bin" / "python").touch()
    pyenv = {version: str(tmp_path / "versions" / version / "bin" / "python") for version in ("3.12.1", "3.13.0")}
    answers = {"/usr/bin/python3.11": "3.11.2", "/usr/bin/python3.12": "3.12.7"}
    answers |= {program: version for version, program in pyenv.items()}
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    monkeypatch.setattr(pythons.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(pythons, "version_of", answers.get)
    on_path = {"3.11.2": "/usr/bin/python3.11", "3.12.7": "/usr/bin/python3.12"}
    assert pythons.find_pythons() == on_path | {"3.13.0": pyenv["3.13.0"]}


def test_a_named_python_that_is_no_good_is_named(monkeypatch):
    monkeypatch.setattr(pythons, "version_of", {"py10": "3.10.13", "py13": "3.13.0"}.get)
    assert pythons.named_pythons(["py13"]) == {"3.13.0": "py13"}
    with pytest.raises(ValueError, match="--python: expected a Python, got 'gone'"):
        pythons.named_pythons(["py13", "gone"])
    with pytest.raises(ValueError, match=r"--python: expected Python 3\.11 or newer, got 3\.10\.13 \(py10\)"):
        pythons.named_pythons(["py10"])


def test_an_environment_is_made_once_and_again_when_the_pins_change(tmp_path, monkeypatch):
    commands = []

    def note(command: list[str], **settings: object) -> None:
        commands.append(command[1:3])
        python.parent.mkdir(parents=True, exist_ok=True)
        python.touch()

    pins = tmp_path / "requirements.txt"
    pins.write_text("numpy==2.4.6\n")
    monkeypatch.setattr(pythons, "FOLDER", tmp_path)
    monkeypatch.setattr(pythons, "PINS", [pins])
    monkeypatch.setattr(pythons.subprocess, "run", note)
    python = tmp_path / "python-3.13.0" / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    assert pythons.prepare("3.13.0", "python3.13") == python
    assert commands == [["-m", "venv"], ["-m", "pip"]]
    pythons.prepare("3.13.0", "python3.13")
    assert len(commands) == 2
    pins.write_text("numpy==2.4.7\n")
    pythons.prepare("3.13.0", "python3.13")
    assert commands[2:] == [["-m", "pip"]]


def test_each_python_keeps_its_own_records_and_the_status_is_the_verdict(tmp_path, monkeypatch):
    commands, status = [], 0

    def note(command: list[str], **settings: object) -> SimpleNamespace:
        commands.append(command)
        return SimpleNamespace(returncode=status)

    monkeypatch.setattr(pythons, "FOLDER", tmp_path)
    monkeypatch.setattr(pythons.subprocess, "run", note)
    assert pythons.compare("3.12.1", Path("py12"), ["2"])
    status = 1
    assert not pythons.compare("3.13.0", Path("py13"), ["2"])
    assert [command[0] for command in commands] == ["py12", "py13"]
    assert [command[3] for command in commands] == [str(tmp_path / f"records-{v}") for v in ("3.12.1", "3.13.0")]
    assert commands[0][4:] == ["2", "--kinds", "plain"]
