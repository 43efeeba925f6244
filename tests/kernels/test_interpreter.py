"""The kernels in Triton's own interpreter, on a CPU: Triton understands them as the emulation does.

Triton unpacks to a gigabyte, so the book's environment has none: `pip install '.[kernels]'` (Linux) adds it.
"""

import importlib.util
import os
import subprocess
import sys

import pytest

from reference.book.manifest import ROOT
from tests.kernels.cases import ADDITIVE, NAMES, WITHIN

HERE = importlib.util.find_spec("triton") is not None
pytestmark = pytest.mark.skipif(not HERE, reason="Triton isn't installed: pip install '.[kernels]' (Linux, 1 GB)")


def interpreted_module(name: str) -> tuple[list[str], str]:
    """The lines that a module of this folder prints with TRITON_INTERPRET=1, and what it says on stderr."""
    done = subprocess.run(
        [sys.executable, "-m", f"tests.kernels.{name}"],
        env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.splitlines(), done.stderr


@pytest.fixture(scope="module")
def interpreted():
    return interpreted_module("interpreted")


def test_the_kernels_of_chapter_14_are_triton_as_they_stand():
    lines, _ = interpreted_module("chapter_in_triton")
    assert len(lines) == 4
    for line in lines:
        assert float(line.rsplit(": ")[1]) <= 2e-6, line


def test_every_case_is_right_in_the_interpreter(interpreted):
    lines, _ = interpreted
    assert len(lines) == len(NAMES) * 5 + len(ADDITIVE)
    for line in lines:
        forward, backward = map(float, line.rsplit(": ")[1].split())
        assert forward <= WITHIN and backward <= 2 * WITHIN, line


def test_bfloat16_is_refused_in_the_interpreter(interpreted):
    assert "refused: q: expected float32 or float16 in Triton's interpreter, got bfloat16" in interpreted[1]
