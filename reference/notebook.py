"""What every chapter does first: fixed seed, fixed threads, one look. The one documented place.

Outputs are compared strictly, so they must not depend on the machine's core count: every chapter
calls `start(chapter)` in its first cell and draws all its random numbers from what that returns.
Print rounded numbers (3 significant digits); BLAS libraries differ in the last ones.
"""

import inspect
import sys
from collections.abc import Callable

import numpy as np
from threadpoolctl import threadpool_limits

from reference import plotting

THREADS = 1  # tests run two chapters side by side on two cores
SEED = 20260  # chapter n uses SEED + n


def start(chapter: int, threads: int = THREADS) -> np.random.Generator:
    """Prepare a chapter: threads, print width, figure style. Returns its random generator.

    Import torch before calling this where a chapter uses it: its seed and threads are set too.
    """
    threadpool_limits(threads)
    if "torch" in sys.modules:
        torch = sys.modules["torch"]
        torch.set_num_threads(threads)
        torch.manual_seed(SEED + chapter)
    np.set_printoptions(precision=3, suppress=True, linewidth=96, floatmode="fixed")
    plotting.use_style()
    return np.random.default_rng(SEED + chapter)


def show(function: Callable) -> None:
    """Print the tested source of a function, so that a chapter needs no second listing."""
    print(inspect.getsource(function).rstrip())
