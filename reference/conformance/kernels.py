"""What a kernel can get wrong beside its formula: strides, lengths, half precision, its inputs, repetition."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from reference.conformance.cases import build_inputs
from reference.conformance.judge import Judgement, as_tensor, call, difference_in_words
from reference.conformance.museum import run_recurrence

LENGTHS = (1, 2, 15, 16, 17, 63, 64, 65, 127, 129, 300)
HALF_TOLERANCE = 2e-2  # of the largest entry, for inputs in bfloat16
KERNEL_SEED = 11


def judge_kernel(
    name: str, operator: str, function: Callable, *, arrays: str = "torch", tolerance: float
) -> Iterator[Judgement]:
    """Yield a Judgement for every length, for strided inputs, bfloat16, and two runs of the same input."""
    for T in LENGTHS:
        inputs = _inputs(operator, T)
        yield _judge(name, f"{T}_tokens", function, inputs, inputs, arrays, tolerance, "a length of its own")
    inputs = _inputs(operator, 70)
    strided = {key: torch.stack([x, -x], -1)[..., 0] for key, x in inputs.items()}
    yield _judge(name, "strided", function, strided, inputs, arrays, tolerance, "inputs that aren't contiguous")
    if arrays == "torch":
        half = {key: x.to(torch.bfloat16) for key, x in inputs.items()}
        rounded = {key: x.float() for key, x in half.items()}
        yield _judge(name, "bfloat16", function, half, rounded, arrays, HALF_TOLERANCE, "bfloat16 in, float32 inside")
    yield _judge_twice(name, function, inputs, arrays)


def _inputs(operator: str, T: int) -> dict[str, Tensor]:
    inputs = build_inputs(operator, {"T": T, "B": 2, "H": 2, "HV": 4, "Dk": 16, "Dv": 16}, None, 1, KERNEL_SEED + T)
    inputs.pop("initial_state")
    return inputs


def _judge(name, case, function, inputs, exact, arrays, tolerance, awkward) -> Judgement:
    before = {key: x.clone() for key, x in inputs.items()}
    try:
        o, _, _ = call(function, inputs, {}, {}, arrays)
    except Exception as error:  # the reader's code may raise anything: tell it, and go on to the next case
        return Judgement.of_error(name, case, error)
    wanted = run_recurrence({key: x.detach().numpy() for key, x in exact.items()}, {})[0]
    problem = difference_in_words("o", o, wanted, tolerance)
    if problem is None and any(not torch.equal(x, inputs[key].detach()) for key, x in before.items()):
        problem = "right, but it has changed one of its arguments"
    return Judgement(name, case, "right" if problem is None else "wrong", problem or awkward)


def _judge_twice(name: str, function: Callable, inputs: dict[str, Tensor], arrays: str) -> Judgement:
    runs = [as_tensor("o", call(function, inputs, {}, {}, arrays)[0]).detach().double().numpy() for _ in range(2)]
    same = np.array_equal(*runs)
    said = "two runs of the same input agree to the last bit" if same else "two runs of the same input differ: a race?"
    return Judgement(name, "twice", "right" if same else "wrong", said)
