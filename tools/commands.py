"""The commands of make.py. Like make.py, this needs nothing but Python: it is what installs the rest."""

import argparse
import errno
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
PYTHON = BIN / ("python.exe" if os.name == "nt" else "python")
PINS = [ROOT / "requirements.txt", ROOT / "constraints.txt", ROOT / "pyproject.toml"]


def call(*command: object, **settings: str) -> int:
    """Run a command from the root; returns its exit status. Ctrl-C is the command's to answer, not ours."""
    environment = {**os.environ, "PYDEVD_DISABLE_FILE_VALIDATION": "1", **settings}
    with subprocess.Popen([str(part) for part in command], cwd=ROOT, env=environment) as process:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:  # it got the signal too: JupyterLab asks whether to stop
                continue


def run(*command: object, **settings: str) -> None:
    """Run a command of .venv from the root; end with its exit status where it fails."""
    status = call(*command, **settings)
    if status:
        sys.exit(status)


def require_writable() -> None:
    """End with a sentence where the book's folder can't be written to: read-only, another's, a full disk."""
    try:
        with tempfile.TemporaryFile(dir=ROOT) as probe:
            probe.write(bytes(4096))
            probe.flush()
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        todo = (
            "Free some space, then run the command again"
            if full
            else "Copy it to where you may write, and run it there"
        )
        sys.exit(f"The book's folder can't be written to ({error.strerror}): {ROOT}. {todo}.")


def stamp() -> str:
    """What .venv/installed holds when everything that is pinned is installed, for this folder."""
    return hashlib.sha256(b"".join(path.read_bytes() for path in PINS) + str(ROOT).encode()).hexdigest()


def is_installed() -> bool:
    installed = VENV / "installed"
    return installed.exists() and installed.read_text() == stamp() and PYTHON.exists()


def environment_version() -> str | None:
    """The Python of .venv as "3.11"; None where there is no .venv, or one that does not say."""
    config = VENV / "pyvenv.cfg"
    found = re.search(r"^version(?:_info)? *= *(\d+\.\d+)", config.read_text(), re.M) if config.exists() else None
    return found[1] if found else None


def remove_environment() -> None:
    if VENV.is_symlink():
        VENV.unlink()  # what it points to is someone else's
    else:
        shutil.rmtree(VENV)


def follow_python(rebuild: bool) -> None:
    """Where .venv is of another Python than the one that runs this: rebuild it if that was asked for, else say so."""
    ours, theirs = "{}.{}".format(*sys.version_info), environment_version()
    if theirs in (None, ours):
        return
    if rebuild:
        print(f".venv is made of Python {theirs}; rebuilding it with Python {ours}, as you asked ...", flush=True)
        require_writable()
        remove_environment()
    else:
        how = f"make setup PYTHON=python{ours}, or python{ours} make.py --rebuild setup"
        print(f"(.venv is made of Python {theirs} and stays so. To rebuild it with {ours}: {how})", file=sys.stderr)


def create_environment() -> None:
    """Create .venv with pip in it, unless it is there. One whose creation was interrupted is made anew."""
    unfinished = VENV / "unfinished"
    if unfinished.exists():
        remove_environment()
    if PYTHON.exists():
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        if any(
            subprocess.call([PYTHON, "-m", *words], **quiet) == 0 for words in (["pip", "--version"], ["ensurepip"])
        ):
            return
    if VENV.exists() or VENV.is_symlink():
        remove_environment()
    VENV.mkdir()
    unfinished.touch()
    try:
        venv.EnvBuilder(with_pip=True).create(VENV)
    except subprocess.CalledProcessError:
        remove_environment()
        sys.exit("This Python can't create environments; on Debian and Ubuntu: apt install python3-venv")
    unfinished.unlink()


def setup(rebuild: bool = False) -> None:
    """create .venv and install the pinned requirements, if they are new or have changed"""
    follow_python(rebuild)
    if is_installed():
        return
    require_writable()
    print("Setting up .venv with the pinned requirements (a few hundred megabytes the first time) ...", flush=True)
    create_environment()
    pip = [PYTHON, "-m", "pip", "install", "--disable-pip-version-check"]
    for arguments in (["-r", "requirements.txt"], ["--quiet", "--no-deps", "-e", "."]):
        if call(*pip, *arguments):
            sys.exit("The requirements are not installed; pip says why above. The same command tries again.")
    (VENV / "installed").write_text(stamp())


def book() -> None:
    """build the site from the chapters: build/html/index.html"""
    run(PYTHON, "-m", "tools.build_site")


def lab(*arguments: str) -> None:
    """open JupyterLab on your working copy of a chapter (00, or the number given); options go to jupyter lab"""
    run(PYTHON, "-m", "tools.lab", *arguments)


def work() -> None:
    """write working copies of the chapters to work/, for other editors than JupyterLab (`lab` does it by itself)"""
    run(PYTHON, "-m", "tools.work")


def reset(*numbers: str) -> None:
    """take clean working copies of the chapters given (or ALL); yours move to work/old/"""
    run(PYTHON, "-m", "tools.work", "reset", *numbers)


def test(*extra: str) -> None:
    """run all tests, and every chapter with its outputs compared; more arguments go to pytest"""
    lint()
    ours = ["tests", "chapters", "--nbval", "--nbval-current-env", "--nbval-cell-timeout=600"]
    run(PYTHON, "-m", "pytest", *ours, "-n", "logical", "--dist", "loadfile", *extra)


def lint() -> None:
    """check style and formatting of code and notebooks (ruff)"""
    run(PYTHON, "-m", "ruff", "check", "--quiet")
    run(PYTHON, "-m", "ruff", "format", "--quiet", "--check", "--exclude", "*.ipynb")


def fmt() -> None:
    """format the code (ruff)"""
    run(PYTHON, "-m", "ruff", "check", "--quiet", "--fix")
    run(PYTHON, "-m", "ruff", "format", "--exclude", "*.ipynb")


def execute(*numbers: str) -> None:
    """re-execute chapters (all, or the numbers given) and write notebook, text form and figures"""
    run(PYTHON, "-m", "tools.chapters", "run", *numbers)


def sync(*numbers: str) -> None:
    """make notebook and text form the same again, without executing; the newer one wins"""
    run(PYTHON, "-m", "tools.chapters", "sync", *numbers)


def student(*numbers: str) -> None:
    """write the chapters without solutions and outputs, with all they need, for a course: build/student/"""
    run(PYTHON, "-m", "tools.chapters", "student", *numbers)


def teach(*arguments: str) -> None:
    """write a teacher's pack: plan, slides, figures, equations, questions, cards, copies: build/teach/ (--pdf)"""
    run(PYTHON, "-m", "tools.teach", *arguments)


def lite(*arguments: str) -> None:
    """write chapters 01 to 03 as a site that runs them in the browser: build/lite/ (needs pip install '.[lite]')"""
    run(PYTHON, "-m", "tools.lite", *arguments)


def progress() -> None:
    """list the exercises that you have solved, and what is left"""
    run(PYTHON, "-m", "tools.progress")


def everywhere(*arguments: str) -> None:
    """prove that no output rests on this machine: all chapters under other kernels and noise (hours; --help)"""
    run(PYTHON, "-m", "tools.everywhere", *arguments)


def doctor() -> None:
    """say whether this machine's set-up is fine"""
    run(PYTHON, "-m", "reference", "doctor")


def hooks() -> None:
    """check style before every commit (a git hook that runs `make lint`)"""
    hook = ROOT / ".git" / "hooks" / "pre-commit"
    hook.write_text("#!/bin/sh\nexec python3 make.py lint\n")
    hook.chmod(0o755)
    print(f"{hook.relative_to(ROOT)} now runs `python3 make.py lint`; delete it to stop that.")


COMMANDS = {
    "setup": setup, "book": book, "lab": lab, "work": work, "reset": reset, "test": test, "run": execute, "sync": sync,
    "everywhere": everywhere, "student": student, "teach": teach, "lite": lite, "progress": progress, "doctor": doctor,
    "lint": lint, "format": fmt, "hooks": hooks,
}  # fmt: skip
TAKE_ARGUMENTS = {"lab", "reset", "test", "run", "sync", "student", "teach", "lite", "everywhere"}
WRITE_NOTHING = {"doctor", "progress"}


def parse(description: str, arguments: list[str] | None) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(
        prog="make.py", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--rebuild", action="store_true", help="make .venv anew where it is of another Python than this"
    )
    commands = parser.add_subparsers(dest="command", metavar="command")
    for name, command in COMMANDS.items():
        commands.add_parser(name, help=command.__doc__, add_help=False)
    args, rest = parser.parse_known_args(arguments)
    if args.command is None:
        parser.print_help()
        sys.exit(0)
    if rest and args.command not in TAKE_ARGUMENTS:
        parser.error(f"{args.command} takes no arguments, got {' '.join(rest)}")
    return args, rest


def main(description: str, arguments: list[str] | None = None) -> None:
    args, rest = parse(description, arguments)
    try:
        setup(args.rebuild)
        if args.command not in WRITE_NOTHING:
            require_writable()
        if args.command != "setup":
            COMMANDS[args.command](*rest)
    except OSError as error:
        sys.exit(f"{args.command}: {error}")
    except KeyboardInterrupt:
        sys.exit("\nInterrupted. The same command starts over where that is needed.")
