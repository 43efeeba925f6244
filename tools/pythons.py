"""Are the outputs of the book the same on other Pythons? One environment for each, and every chapter compared in it.

    python -m tools.pythons                              all chapters on each Python from 3.11 to 3.14 that is found
    python -m tools.pythons 02 09 --python python3.13    two chapters on one Python

Pythons are looked for on PATH and among pyenv's. Each gets an environment with the pinned requirements in
build/everywhere/python-<version>, of several gigabytes where torch is a CUDA build; later runs use it again.
The exit status is 1 where any output differs.
"""

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from reference.book.manifest import ROOT, read_manifest
from reference.commands.doctor import COMPARED_PYTHONS
from reference.files import write_text

FOLDER = ROOT / "build" / "everywhere"
PINS = [ROOT / "requirements.txt", ROOT / "constraints.txt"]
ASK = "import sys; print('%d.%d.%d' % sys.version_info[:3])"
# tools.everywhere keeps finished runs; a run of one Python must not count for another
COMPARE = """
import sys
from pathlib import Path
from tools import everywhere
everywhere.RECORDS = Path(sys.argv.pop(1))
everywhere.main()
"""


def version_of(python: str) -> str | None:
    """Its version, such as 3.13.0; None where it does not start."""
    try:
        done = subprocess.run([python, "-c", ASK], capture_output=True, text=True)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 and re.fullmatch(r"\d+\.\d+\.\d+\s*", done.stdout) else None


def find_pythons() -> dict[str, str]:
    """version -> program: one Python of each minor version that the book is compared on, PATH before pyenv."""
    (major, oldest), (_, newest) = COMPARED_PYTHONS
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    found = {}
    for minor in range(oldest, newest + 1):
        programs = [shutil.which(f"python{major}.{minor}"), *sorted(pyenv.glob(f"{major}.{minor}.*/bin/python"))]
        asked = ((version_of(str(program)), str(program)) for program in programs if program)
        first = next(((version, program) for version, program in asked if version), None)
        if first is not None:
            found[first[0]] = first[1]
    return found


def named_pythons(programs: list[str]) -> dict[str, str]:
    """version -> program for the programs given; ValueError where one does not start or is too old."""
    found = {}
    for program in programs:
        version = version_of(program)
        if version is None:
            raise ValueError(f"--python: expected a Python, got {program!r}, which does not start as one")
        if tuple(map(int, version.split(".")))[:2] < COMPARED_PYTHONS[0]:
            raise ValueError(f"--python: expected Python 3.11 or newer, got {version} ({program})")
        found[version] = program
    return found


def prepare(version: str, program: str) -> Path:
    """The Python of an environment with the pinned requirements; made where it is missing or the pins have changed."""
    folder = FOLDER / f"python-{version}"
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    wanted = hashlib.sha256(b"".join(path.read_bytes() for path in PINS)).hexdigest()
    stamp = folder / "installed"
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted and python.exists():
        return python
    print(f"Python {version}: installing the requirements into {folder} ...", flush=True)
    if not python.exists():
        subprocess.run([program, "-m", "venv", "--clear", str(folder)], check=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "-r", "requirements.txt"], cwd=ROOT, check=True)
    write_text(stamp, wanted)
    return python


def compare(version: str, python: Path, numbers: list[str]) -> bool:
    """Are the chapters' outputs equal on this Python? The comparison and its report are those of tools.everywhere."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [str(python), "-c", COMPARE, str(FOLDER / f"records-{version}"), *numbers, "--kinds", "plain"]
    return subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": path}).returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("numbers", nargs="*", type=int, metavar="chapter", help="chapter numbers; none means all")
    parser.add_argument("--python", action="append", metavar="PROGRAM", help="a Python; may be given several times")
    args = parser.parse_args()
    unknown = set(args.numbers) - {chapter.number for chapter in read_manifest().chapters}
    if unknown:
        parser.error(f"book.yml has no chapter {sorted(unknown)}")
    try:
        pythons = named_pythons(args.python) if args.python else find_pythons()
    except ValueError as error:
        parser.error(str(error))
    if not pythons:
        parser.error("no Python was found; name one: --python /path/to/python3.13")
    verdicts = {}
    for version, program in pythons.items():
        print(f"\nPython {version} ({program})", flush=True)
        try:
            equal = compare(version, prepare(version, program), [str(number) for number in args.numbers])
            verdicts[version] = "equal" if equal else "outputs differ"
        except subprocess.CalledProcessError as error:
            verdicts[version] = f"no environment: {' '.join(map(str, error.cmd))} ended with status {error.returncode}"
    print("\n" + "\n".join(f"Python {version}: {verdict}" for version, verdict in verdicts.items()))
    return int(any(verdict != "equal" for verdict in verdicts.values()))


if __name__ == "__main__":
    sys.exit(main())
