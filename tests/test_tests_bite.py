"""The tests are tested: every piece of the bug museum (tests/mutants) must be caught by the test that it names.

A piece is a patch that plants a mistake that somebody shipped. It is applied to a copy of reference/ and of the
tests of operators, kernels, models and checkpoints. The last piece mutates a test instead: with it the acausal
operator has to get through, or it proves nothing.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "tests" / "mutants"
BLUNT_TEST = "causality_test_compares_with_itself"


class Piece(NamedTuple):
    title: str
    mistake: str
    source: str
    caught_by: str
    diff: str


def read_piece(path: Path) -> Piece:
    head, diff = path.read_text(encoding="utf-8").split("\n\n", 1)
    fields = dict(line.split(": ", 1) for line in head.splitlines())
    return Piece(fields["Title"], fields["Mistake"], fields["Source"], fields["Caught by"], diff)


PIECES = {path.stem: read_piece(path) for path in sorted(FOLDER.glob("*.patch"))}


def apply(diff: str, folder: Path) -> None:
    """Apply a unified diff to files under folder; the old lines must be there exactly once."""
    files = re.split(r"^--- a/.*\n\+\+\+ b/(.*)\n", diff, flags=re.M)[1:]
    for name, hunks in zip(files[::2], files[1::2], strict=True):
        path = folder / name
        text = path.read_text(encoding="utf-8")
        for hunk in re.split(r"^@@ .*@@.*\n", hunks, flags=re.M)[1:]:
            lines = hunk.splitlines(keepends=True)
            old = "".join(line[1:] for line in lines if line[0] in " -")
            new = "".join(line[1:] for line in lines if line[0] in " +")
            assert text.count(old) == 1, f"{name} has changed: write this piece of tests/mutants again"
            text = text.replace(old, new)
        path.write_text(text, encoding="utf-8")


def copy_to(folder: Path) -> Path:
    for part in ("reference", "tests/ops", "tests/kernels", "tests/model", "tests/checkpoints"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    (folder / "tests" / "__init__.py").touch()
    return folder


def run_tests(folder: Path, *tests: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "no:nbval", *tests]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(folder)}
    for name in [name for name in environment if name.startswith("PYTEST_")]:
        del environment[name]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", [name for name in PIECES if name != BLUNT_TEST])
def test_a_planted_mistake_is_caught_by_the_test_it_names(name, tmp_path):
    piece, folder = PIECES[name], copy_to(tmp_path)
    apply(piece.diff, folder)
    done = run_tests(folder, piece.caught_by)
    assert done.returncode == 1, f"{piece.title}: survived {piece.caught_by}\n{done.stdout[-2000:]}"
    assert f"FAILED {piece.caught_by}" in done.stdout
    crashes = ("ImportError", "SyntaxError", "NameError", "AttributeError", "UnboundLocalError")
    assert not any(f"E   {crash}" in done.stdout for crash in crashes), f"not a wrong number:\n{done.stdout[-2000:]}"


def test_without_a_mistake_the_named_tests_pass(tmp_path):
    done = run_tests(copy_to(tmp_path), *sorted({piece.caught_by for piece in PIECES.values()}))
    assert done.returncode == 0, done.stdout[-2000:]


def test_a_causality_test_that_compares_a_tensor_with_itself_would_not_be_enough(tmp_path):
    folder = copy_to(tmp_path)
    apply(PIECES["acausal"].diff, folder)
    apply(PIECES[BLUNT_TEST].diff, folder)
    done = run_tests(folder, PIECES[BLUNT_TEST].caught_by)
    # our test also asks that something changes from the token on: that is what still fails
    assert done.returncode == 1 and "assert not torch.equal(other[changed], inputs[changed])" in done.stdout


def test_every_piece_is_described_and_no_two_are_the_same():
    assert len(PIECES) >= 20
    assert len({piece.title for piece in PIECES.values()}) == len(PIECES)
    for name, piece in PIECES.items():
        assert piece.mistake.endswith(".") and (piece.source == "common" or piece.source.startswith("https://")), name


def test_the_list_of_pieces_is_up_to_date():
    rows = [
        f"| [{p.title}]({name}.patch) | {p.mistake} | {source(p)} | `{p.caught_by}` |" for name, p in PIECES.items()
    ]
    assert (FOLDER / "README.md").read_text(encoding="utf-8").split("|---|---|---|---|\n")[1].splitlines() == rows


def source(piece: Piece) -> str:
    where = re.sub(r"https://(www\.)?(github\.com/)?", "", piece.source)
    return piece.source if piece.source == "common" else f"[{where}]({piece.source})"
