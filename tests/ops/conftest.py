"""Small tensors, several test processes: more than one thread each makes the whole suite ten times slower."""

import os

import torch

if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)
