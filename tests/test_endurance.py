"""A slice of `python -m tests.endurance`: training that is killed or damaged ends where an undisturbed run ends."""

import ast
import os
import re
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
    outcomes = ast.literal_eval(re.search(r"damages: ({.*}), 0 faults", said)[1])
    assert status == 0 and sum(outcomes.values()) == 8 and outcomes["right"] >= 4, said


BLIND = """
import reference.training.resume as resume
import tests.endurance as endurance

def swap_weights(checkpoints, rng):  # of other steps, so that the losses after it differ on every machine
    older, newest = sorted(checkpoints.iterdir())
    endurance.DAMAGES["swap"](newest / "model.safetensors", older / "model.safetensors", rng)
    return ["the weights of two checkpoints swapped"]

resume._problem = lambda path: None
endurance.damage = swap_weights
"""


def test_a_damage_that_goes_unseen_is_a_fault():
    status, said = run("--kills", "0", "--pairs", "0", "--damages", "1", before=BLIND)
    assert status == 1 and "swapped" in said.splitlines()[-1], said
