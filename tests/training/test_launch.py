"""Starting processes from a notebook: what they print comes back, and so does why they fail."""

import pytest

from reference.distributed.launch import launch


def test_what_the_processes_print_comes_back(tmp_path):
    script = tmp_path / "hello.py"
    script.write_text("import os\nfor n in range(50):\n    print('rank', os.environ['RANK'], 'line', n)\n")
    lines = [f"rank {rank} line {n}" for rank in range(2) for n in range(50)]
    assert launch(2, [str(script)]).splitlines() == lines  # rank by rank, no line inside another


def test_a_failure_says_why(tmp_path):
    script = tmp_path / "fails.py"
    script.write_text("raise SystemExit('no such thing')\n")
    with pytest.raises(RuntimeError, match="launch: ended with status 1"):
        launch(1, [str(script)])
    with pytest.raises(ValueError, match="processes: expected a whole number >= 1, got 0"):
        launch(0, [str(script)])
