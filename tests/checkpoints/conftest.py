"""Tiny models run on one thread: a command of this book that takes two would slow down every test after it."""

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)
