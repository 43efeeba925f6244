"""What every chapter does first gives every reader the same numbers; files are never half written."""

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info

from reference.equations import delta_step
from reference.files import write_text
from reference.notebook import show, start


def test_a_chapter_gets_the_same_numbers_every_time_and_other_chapters_others():
    assert np.array_equal(start(2).normal(size=4), start(2).normal(size=4))
    assert not np.array_equal(start(2).normal(size=4), start(3).normal(size=4))


def test_torch_is_seeded_too():
    start(2)
    first = torch.randn(3)
    start(2)
    assert torch.equal(first, torch.randn(3))


def test_the_thread_count_is_set_for_numpy_and_torch():
    start(2)
    assert {pool["num_threads"] for pool in threadpool_info()} == {1}
    assert torch.get_num_threads() == 1


def test_show_prints_the_tested_source(capsys):
    show(delta_step)
    assert "u = beta * (v - S.T @ k)  # (2.3)" in capsys.readouterr().out


def test_a_failed_write_leaves_the_old_file_whole(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "\ud800")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    write_text(path, "new")
    assert path.read_text() == "new"
