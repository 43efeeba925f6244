"""A slice of `python -m tests.endurance`: training that is killed or damaged ends where an undisturbed run ends."""

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


def run(*arguments, before=""):
    """The driver in a Python of its own: it forks, and this one may have threads."""
    code = f"{before}\nimport sys\nfrom tests.endurance import main\nsys.exit(main())"
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=1500)
    return done.returncode, done.stdout + done.stderr


def test_kills_and_damages_change_nothing():
    status, said = run("--kills", "3", "--pairs", "1", "--damages", "8", "--seed", "1")
    assert status == 0 and "damages: {'right': 8}" in said, said


def test_a_damage_that_goes_unseen_is_a_fault():
    blind = "import reference.training.resume as resume\nresume._problem = lambda path: None"
    status, said = run("--kills", "0", "--pairs", "0", "--damages", "6", "--seed", "1", before=blind)
    assert status == 1 and "damage" in said.splitlines()[-1], said
