"""What a study compares, and the stacks that studies build from a linear and a softmax layer."""

from collections.abc import Callable
from typing import NamedTuple

from reference.experiments.toys.training import Recipe, Stack, Task


class StudySetting(NamedTuple):
    """What a study compares.

    task                 makes the task
    models               by the names that tables and records use
    recipe               of the whole study
    quick, quick_recipe  the models of --quick, and their recipe
    """

    task: Callable[[], Task]
    models: dict[str, Stack]
    recipe: Recipe
    quick: tuple[str, ...]
    quick_recipe: Recipe


def layers_of(linear: str, softmax: str, depth: int, every: int) -> Stack:
    """`depth` layers, every `every`-th of them softmax, the last of each group, as in Qwen3-Next."""
    return Stack(tuple(softmax if (n + 1) % every == 0 else linear for n in range(depth)))


def ratios(linear: str, softmax: str = "softmax", depth: int = 8) -> dict[str, Stack]:
    """All linear, then 7:1 (of eight layers), 3:1, 1:1 and all softmax."""
    found = {"all linear": Stack((linear,) * depth)}
    found |= {f"{every - 1}:1": layers_of(linear, softmax, depth, every) for every in (8, 4, 2) if every <= depth}
    return found | {"all softmax": Stack((softmax,) * depth)}


def places(linear: str, softmax: str) -> dict[str, Stack]:
    """One softmax layer of four, at each of the four places."""
    D, S = linear, softmax
    found = {"first": (S, D, D, D), "second": (D, S, D, D), "third": (D, D, S, D), "last": (D, D, D, S)}
    return {name: Stack(layers) for name, layers in found.items()}
