"""The command line: `python -m reference <command>`.

A command is the module reference/commands/<command>.py with `main(argv) -> exit status`; it is imported only when
asked for, so that `doctor` can explain a set-up in which other commands could not even start.
To add one, write the module and name it here. Python 3.6 must be able to read this file and reference/__init__.py.
"""

import argparse
import errno
import importlib
import os
import sys
from importlib.util import find_spec
from typing import List, Optional  # noqa: UP035  (old Pythons must get as far as the doctor)

NO_ROOM = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}  # disk full, file or share too large
COMMANDS = {
    "train": "train a hybrid model on text; killed at any moment, it goes on where it was",
    "generate": "continue a text with a trained model",
    "cost": "what a published model needs at a context: memory, flops, bytes moved",
    "families": "the published models that load: mixers, ratio, parameters, bytes per token",
    "check": "are your own operators right? test by test, in words",
    "vectors": "write or check conformance vectors for ports of the operators",
    "experiment": "run an experiment of the book again",
    "bench": "measure the operators against transformers, side by side",
    "doctor": "say in words whether this machine is ready for the book",
}


def main(argv: Optional[List[str]] = None) -> int:  # noqa: UP006, UP045
    """Run the command that argv names; returns the exit status."""
    refuse_old_python()
    argv = sys.argv[1:] if argv is None else argv
    listed = "\n".join(f"  {name:10s} {what}" for name, what in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="python -m reference",
        description="Commands of the book's reference code.",
        epilog=f"commands:\n{listed}\n\n`python -m reference <command> --help` says more about each.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=list(COMMANDS), metavar="command")
    if not argv:
        parser.print_help(sys.stderr)
        return 2
    chosen = parser.parse_args(argv[:1]).command
    spare_busy_cores()
    try:
        return importlib.import_module(f"reference.commands.{chosen}").main(argv[1:])
    except ModuleNotFoundError as error:
        package = (error.name or "reference").split(".")[0]
        if package == "reference" or is_installed(package):
            raise  # a mistake of ours, or a package of another version
        sys.exit(missing(package, chosen))
    except BrokenPipeError:
        raise  # run_in_shell knows whose pipe it was
    except OSError as error:  # a full disk, a name that is too long, a folder that is a file
        print(f"{chosen}: {error}", file=sys.stderr)
        return 1


def spare_busy_cores() -> None:
    """Where other programs keep the cores busy, threads that wait for each other shall sleep, and not spin until their
    turn is over. OpenMP reads this when PyTorch is loaded, which comes later; a value that is set already stays."""
    from reference.commands.doctor import usable_cores, wanted_cores

    if wanted_cores() > usable_cores() - 1:
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def is_installed(package: str) -> bool:
    """Whether this Python finds the package."""
    try:
        return find_spec(package) is not None
    except (ImportError, ValueError):
        return False


def missing(package: str, command: str) -> str:
    """One sentence on a package that isn't there, and what to do about it."""
    from reference.commands.doctor import own_python

    return f"{command}: the package {package} is not installed in this Python ({sys.executable}). {own_python(command)}"


def refuse_old_python() -> None:
    """End with one sentence where other files of this package could not even be read."""
    if tuple(sys.version_info) < (3, 11):
        mend = "`make book PYTHON=python3.12` makes .venv with another one; then use .venv's: .venv/bin/python"
        sys.exit(f"Python 3.11 or newer is needed; this is {sys.version.split()[0]} ({sys.executable}). {mend}")


def run_in_shell(argv: Optional[List[str]] = None) -> int:  # noqa: UP006, UP045
    """main(); where the reader of our output has gone (`doctor | head -1`), the disk is full or Ctrl-C was pressed,
    end without a traceback, as others do."""
    try:
        try:
            return main(argv)
        finally:
            sys.stdout.flush()
    except KeyboardInterrupt:
        return 128 + 2  # what a shell reports of a program that Ctrl-C ended
    except BrokenPipeError:
        if not output_is_closed():
            raise  # another pipe, say between two processes of a training
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is flushed at the end
        return 128 + 13  # what a shell reports of a program that SIGPIPE ended
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        print(f"no room on the disk: {error}", file=sys.stderr)
        return 1


def output_is_closed() -> bool:
    """Whether the reader of our output has gone."""
    try:
        print(flush=True)
    except BrokenPipeError:
        return True
    return False


if __name__ == "__main__":
    sys.exit(run_in_shell())
