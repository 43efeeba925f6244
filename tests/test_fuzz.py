"""A slice of `python -m tests.fuzz`: no damage and no odd argument ends in anything but a result or a sentence."""

import os
import signal

import pytest

from tests.fuzz import run, run_apart

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="this system can't end a case that hangs")

CASES = 60  # of each area


def test_a_slice_of_the_fuzz_finds_nothing(tmp_path):
    outcomes, faults = run(tmp_path, seed=1, cases=CASES)
    assert not faults, "\n".join(faults)
    areas = {area for area, _ in outcomes}
    for area in areas:  # each finds something to refuse, and something that is right
        assert sum(count for (of, _), count in outcomes.items() if of == area) == CASES
    assert sum(count for (_, outcome), count in outcomes.items() if outcome == "refused") > 3 * CASES


def test_a_fault_is_one(tmp_path, monkeypatch):
    """The slice isn't blind: an operator that is a little wrong is found."""
    from reference.ops import OPERATORS

    wrong = {}
    for name, operator in OPERATORS.items():

        def off(*tensors, form=operator.chunk, **keywords):
            o, S = form(*tensors, **keywords)
            return 1.01 * o, S

        wrong[name] = operator._replace(chunk=off)
    monkeypatch.setattr("tests.fuzz.OPERATORS", wrong)
    monkeypatch.setattr("tests.fuzz.Fuzz.try_config", lambda self, rng: (_ for _ in ()).throw(KeyError("x")))
    for area in ("checkpoint", "command", "tokenizer", "weights"):
        monkeypatch.delattr(f"tests.fuzz.Fuzz.try_{area}")
    _, faults = run(tmp_path, seed=1, cases=30)
    assert any(fault.startswith("config:") for fault in faults)
    assert any("the forms differ" in fault for fault in faults)


def test_a_case_that_ends_the_process_is_a_fault_and_the_next_ones_follow(tmp_path, monkeypatch):
    calls = {"data": lambda self, rng: ("right", ""), "weights": lambda self, rng: os.kill(os.getpid(), signal.SIGKILL)}
    for area in ("checkpoint", "command", "config", "index", "operator", "tokenizer"):
        monkeypatch.delattr(f"tests.fuzz.Fuzz.try_{area}")
    for area, call in calls.items():
        monkeypatch.setattr(f"tests.fuzz.Fuzz.try_{area}", call)
    outcomes, faults = run_apart(tmp_path, seed=1, cases=6, minutes=1)
    assert outcomes == {("data", "right"): 3, ("weights", "fault"): 3}
    assert faults == [f"weights:{n}: the process ended with {-signal.SIGKILL}" for n in range(3)]
