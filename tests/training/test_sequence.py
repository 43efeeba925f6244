"""A text split among processes: the same logits and gradients as in one piece."""

import subprocess
import sys

import pytest
import torch

import reference
from reference.distributed.sequence import read_in_stretches, stretch_of
from reference.distributed.world import World
from reference.model.config import preset

LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]


@pytest.mark.parametrize("processes,T", [(2, 129), (3, 5)])  # the second: stretches shorter than the convolution
def test_logits_and_gradients_are_those_of_one_process(processes, T):
    worker = [*LAUNCH, str(processes), "-m", "tests.training.sequence_worker", str(T)]
    done = subprocess.run(worker, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    found = {line.split()[0]: [float(x) for x in line.split()[1:]] for line in done.stdout.splitlines()}
    assert found.keys() == {"linear", "hybrid", "others"}
    assert all(forward < 1e-12 and backward < 1e-12 for forward, backward in found.values()), found


def test_what_can_not_be_split_is_named():
    with pytest.raises(ValueError, match="ids: 3 tokens are too few for 4 processes"):
        stretch_of(torch.zeros(1, 3, dtype=torch.long), World(0, 4))
    config = reference.HybridConfig.from_dict(
        preset("tiny").to_dict() | {"layer_types": ["sliding_attention"], "sliding_window": 4}
    )
    with pytest.raises(ValueError, match="layer: a Attention with a window can't be read in stretches"):
        read_in_stretches(reference.HybridLM(config), torch.zeros(1, 8, dtype=torch.long), World())
