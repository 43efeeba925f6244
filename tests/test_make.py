"""The one entry for every command: what it lists, refuses and promises."""

import ast
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from reference.book.manifest import ROOT
from tools import commands

MAKE = shutil.which("make")


def call(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "make.py", *arguments], cwd=ROOT, capture_output=True, text=True)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """An empty folder of a book, with pins and without .venv; what would be installed is only noted down."""
    python = tmp_path / commands.PYTHON.relative_to(ROOT)
    monkeypatch.setattr(commands, "ROOT", tmp_path)
    monkeypatch.setattr(commands, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(commands, "PYTHON", python)
    (tmp_path / "requirements.txt").write_text("")
    monkeypatch.setattr(commands, "PINS", [tmp_path / "requirements.txt"])
    monkeypatch.setattr(commands, "call", lambda *command, **settings: 0)
    return tmp_path


@pytest.fixture
def made(folder, monkeypatch) -> list[Path]:
    """The environments that were created, without the time it takes to put pip into one."""
    created = []

    class Builder:
        def __init__(self, with_pip: bool) -> None:
            assert with_pip

        def create(self, where: Path) -> None:
            created.append(where)
            commands.PYTHON.parent.mkdir(parents=True)
            commands.PYTHON.symlink_to(sys.executable)
            (where / "pyvenv.cfg").write_text("version = {}.{}.{}\n".format(*sys.version_info))

    monkeypatch.setattr(commands.venv, "EnvBuilder", Builder)
    return created


def test_without_a_command_it_lists_all_of_them():
    listed = call()
    assert listed.returncode == 0
    for name, command in commands.COMMANDS.items():
        assert re.search(rf"^\s+{name}\s+{re.escape(command.__doc__.split()[0])}", listed.stdout, re.M), name


def test_make_knows_the_same_commands():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(r"^COMMANDS := (.*)$", makefile, re.M)[1].split() == list(commands.COMMANDS)


def test_unknown_commands_and_surplus_arguments_are_refused():
    assert "invalid choice: 'bok'" in call("bok").stderr
    assert "book takes no arguments, got now" in call("book", "now").stderr


def test_an_old_python_gets_a_sentence():
    old = "import sys; sys.version_info = (3, 9, 6); import runpy; runpy.run_path('make.py', run_name='__main__')"
    answer = subprocess.run([sys.executable, "-c", old], cwd=ROOT, capture_output=True, text=True)
    assert answer.returncode == 1
    assert answer.stderr.startswith("Python 3.11 or newer is needed; this is 3.") and answer.stderr.count("\n") == 1


def test_even_python_2_can_read_make_py():
    """No annotation, no f-string, ASCII only: what a Python can't parse it can't explain."""
    tree = ast.parse((ROOT / "make.py").read_bytes().decode("ascii"))
    new = ast.JoinedStr | ast.AnnAssign | ast.NamedExpr | ast.Match | ast.AsyncFunctionDef | ast.arg
    assert not [node.lineno for node in ast.walk(tree) if isinstance(node, new)]


@pytest.mark.parametrize("version", ["2.7", "3.6", "3.8", "3.10"])
def test_a_real_old_python_gets_the_sentence(version):
    candidates = [shutil.which(f"python{version}"), *Path.home().glob(f".pyenv/versions/{version}.*/bin/python")]
    works = [c for c in candidates if c and subprocess.run([c, "--version"], capture_output=True).returncode == 0]
    if not works:
        pytest.skip(f"no Python {version} here")
    answer = subprocess.run([works[0], "make.py", "book"], cwd=ROOT, capture_output=True)
    assert answer.stderr.decode().startswith(f"Python 3.11 or newer is needed; this is {version}."), answer.stderr


def test_nothing_is_installed_twice(folder, made, monkeypatch):
    commands.setup()
    assert made == [folder / ".venv"] and commands.is_installed()
    monkeypatch.setattr(commands, "call", lambda *command: pytest.fail(f"would run {command}"))
    commands.setup()
    assert len(made) == 1


def test_a_setup_whose_installation_failed_is_tried_again(folder, made, monkeypatch):
    calls = []
    monkeypatch.setattr(commands, "call", lambda *command, **_: calls.append(command) or 1)
    for attempt in (1, 2):
        with pytest.raises(SystemExit, match="The same command tries again"):
            commands.setup()
        assert len(calls) == attempt and not commands.is_installed()
    assert len(made) == 1, "the environment itself was fine"


def test_an_environment_whose_creation_was_interrupted_is_made_anew(folder, made, monkeypatch):
    create = commands.venv.EnvBuilder.create

    def interrupted(self, where: Path) -> None:
        create(self, where)
        raise KeyboardInterrupt

    monkeypatch.setattr(commands.venv.EnvBuilder, "create", interrupted)
    with pytest.raises(KeyboardInterrupt):
        commands.setup()
    (folder / ".venv" / "half").touch()
    monkeypatch.setattr(commands.venv.EnvBuilder, "create", create)
    commands.setup()
    assert len(made) == 2 and not (folder / ".venv" / "half").exists() and commands.is_installed()


def other_environment(folder: Path) -> Path:
    venv = folder / ".venv"
    commands.PYTHON.parent.mkdir(parents=True)
    commands.PYTHON.symlink_to(sys.executable)
    (venv / "pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.2.1\n")
    (venv / "installed").write_text(commands.stamp())
    return venv


def test_another_python_that_was_named_rebuilds_the_environment_and_says_so(folder, made, capsys):
    other_environment(folder)
    commands.setup(rebuild=True)
    assert len(made) == 1 and commands.environment_version() == "{}.{}".format(*sys.version_info)
    assert ".venv is made of Python 3.2; rebuilding it with Python 3." in capsys.readouterr().out
    commands.setup(rebuild=True)
    assert len(made) == 1, "the same Python rebuilds nothing"


def test_another_python_that_was_not_named_changes_nothing_and_says_so(folder, made, capsys):
    other_environment(folder)
    commands.setup()
    assert not made
    assert "(.venv is made of Python 3.2 and stays so." in capsys.readouterr().err


def test_a_linked_environment_is_unlinked_and_its_target_stays(folder, made):
    elsewhere = other_environment(folder).rename(folder / "elsewhere")
    (folder / ".venv").symlink_to(elsewhere)
    commands.setup(rebuild=True)
    assert len(made) == 1 and (elsewhere / "installed").exists() and not (folder / ".venv").is_symlink()


@pytest.mark.skipif(not MAKE, reason="no make here")
@pytest.mark.parametrize(
    ("words", "rebuilds"), [(["book"], False), (["book", "PYTHON=echo"], True), (["lab", "CHAPTERS=02"], False)]
)
def test_make_hands_on_chapters_options_and_that_a_python_was_named(words, rebuilds):
    environment = {k: v for k, v in os.environ.items() if k != "PYTHON" and not k.startswith("MAKE")}
    command = [MAKE, "--dry-run", *words, "ARGS=--port 9"]
    shown = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True).stdout
    chapter = " 02" if "CHAPTERS=02" in words else ""
    start = "echo make.py --rebuild" if rebuilds else "python3 make.py"
    assert re.sub(" +", " ", shown).strip() == f"{start} {words[0]}{chapter} --port 9"


@pytest.mark.parametrize("command", sorted(commands.COMMANDS.keys() - commands.WRITE_NOTHING))
@pytest.mark.parametrize("installed", [True, False], ids=["installed", "bare"])
def test_a_folder_that_cannot_be_written_to_gets_a_sentence(folder, monkeypatch, command, installed):
    def refused(dir: Path) -> None:
        raise OSError(30, "Read-only file system", str(dir))

    monkeypatch.setattr(commands.tempfile, "TemporaryFile", refused)
    monkeypatch.setattr(commands, "is_installed", lambda: installed)
    monkeypatch.setitem(commands.COMMANDS, command, lambda *_: pytest.fail("ran"))
    with pytest.raises(SystemExit, match=r"can't be written to \(Read-only file system\)"):
        commands.main("", [command])
    assert [path.name for path in folder.iterdir()] == ["requirements.txt"]


def test_a_full_disk_gets_another_advice(monkeypatch):
    def full(dir: Path) -> None:
        raise OSError(28, "No space left on device", str(dir))

    monkeypatch.setattr(commands.tempfile, "TemporaryFile", full)
    with pytest.raises(SystemExit, match=r"\(No space left on device\).* Free some space"):
        commands.require_writable()


@pytest.mark.parametrize("command", sorted(commands.WRITE_NOTHING))
def test_what_writes_nothing_runs_in_a_read_only_folder(folder, monkeypatch, command):
    monkeypatch.setattr(commands.tempfile, "TemporaryFile", lambda dir: pytest.fail("tried to write"))
    monkeypatch.setattr(commands, "is_installed", lambda: True)
    ran = []
    monkeypatch.setitem(commands.COMMANDS, command, lambda: ran.append(command))
    commands.main("", [command])
    assert ran == [command]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), PermissionError(13, "Permission denied")])
def test_a_disk_that_fills_up_on_the_way_gets_a_sentence(folder, made, monkeypatch, error):
    def fails() -> None:
        raise error

    monkeypatch.setitem(commands.COMMANDS, "book", fails)
    with pytest.raises(SystemExit, match=f"^book: .*{error.strerror}"):
        commands.main("", ["book"])


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_an_interrupt_is_the_commands_to_answer(tmp_path):
    """JupyterLab asks whether it should stop: it must live until it has its answer."""
    child = "import signal, time, sys; signal.signal(2, lambda *_: (time.sleep(1), print('asked'), sys.exit(7))); "
    child += "print('up', flush=True); time.sleep(60)"
    parent = f"import sys; from tools.commands import run; run(sys.executable, '-c', {child!r})"
    words = [sys.executable, "-c", parent]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout.readline() == "up\n"
        os.killpg(process.pid, signal.SIGINT)
        assert process.stdout.read() == "asked\n"
    assert process.returncode == 7


def test_vs_code_finds_the_environment():
    settings = json.loads((ROOT / ".vscode" / "settings.json").read_text())
    assert settings["python.defaultInterpreterPath"] == "${workspaceFolder}/.venv"


def test_requirements_are_exact():
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    wanted = [line.split("#")[0].strip() for line in lines if line.split("#")[0].strip() and not line.startswith("-c")]
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[\w.]+", line) for line in wanted), wanted
