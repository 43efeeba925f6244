"""Everything one does with this book, the same on Linux, macOS and Windows; needs only Python.

    python make.py book       build the site (creates .venv and installs the requirements first)
    python make.py lab        open JupyterLab on the first chapter
    python make.py test       run every test and compare every output of every chapter
    python make.py            list all commands

Where `make` is at hand, `make book` and so on are the same commands.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
PYTHON = BIN / ("python.exe" if os.name == "nt" else "python")
PINS = [ROOT / "requirements.txt", ROOT / "constraints.txt", ROOT / "pyproject.toml"]


def run(*command: object, **settings: str) -> None:
    """Run a command of .venv from the root; end with its exit status where it fails."""
    environment = {**os.environ, "PYDEVD_DISABLE_FILE_VALIDATION": "1", **settings}
    status = subprocess.run([str(part) for part in command], cwd=ROOT, env=environment).returncode
    if status:
        sys.exit(status)


def setup() -> None:
    """create .venv and install the pinned requirements, if they are new or have changed"""
    if sys.version_info < (3, 11):
        have = f"{sys.version.split()[0]} ({sys.executable})"
        sys.exit(f"Python 3.11 or newer is needed; this is {have}. With another one: make book PYTHON=python3.12")
    stamp = VENV / "installed"
    wanted = hashlib.sha256(b"".join(path.read_bytes() for path in PINS) + str(ROOT).encode()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted and PYTHON.exists():
        return
    print("Setting up .venv with the pinned requirements (a few hundred megabytes the first time) ...", flush=True)
    if not PYTHON.exists():
        try:
            venv.EnvBuilder(with_pip=True, clear=True).create(VENV)
        except subprocess.CalledProcessError:
            shutil.rmtree(VENV, ignore_errors=True)
            sys.exit("This Python can't create environments; on Debian and Ubuntu: apt install python3-venv")
    pip = [PYTHON, "-m", "pip", "install", "--disable-pip-version-check"]
    run(*pip, "-r", "requirements.txt")
    run(*pip, "--quiet", "--no-deps", "-e", ".")
    stamp.write_text(wanted)


def book() -> None:
    """build the site from the chapters: build/html/index.html"""
    run(PYTHON, "-m", "tools.build_site")


def lab() -> None:
    """open JupyterLab on chapter 00"""
    first = sorted(ROOT.glob("chapters/0*.ipynb"))[0]
    run(PYTHON, "-m", "jupyter", "lab", first.relative_to(ROOT))


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
    """write the chapters without solutions and outputs, for a course: build/student/"""
    run(PYTHON, "-m", "tools.chapters", "student", *numbers)


def everywhere(*arguments: str) -> None:
    """prove that no output depends on this machine: all chapters under other kernels and noise (hours; --help)"""
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
    "setup": setup, "book": book, "lab": lab, "test": test, "run": execute, "sync": sync,
    "everywhere": everywhere, "student": student, "doctor": doctor, "lint": lint, "format": fmt, "hooks": hooks,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", metavar="command")
    for name, command in COMMANDS.items():
        commands.add_parser(name, help=command.__doc__, add_help=False)
    args, rest = parser.parse_known_args()
    if args.command is None:
        parser.print_help()
        return
    if rest and args.command not in ("test", "run", "sync", "student", "everywhere"):
        parser.error(f"{args.command} takes no arguments, got {' '.join(rest)}")
    setup()
    if args.command != "setup":
        COMMANDS[args.command](*rest)


if __name__ == "__main__":
    main()
