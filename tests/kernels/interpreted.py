"""Run by test_interpreter.py in a process of its own, since TRITON_INTERPRET must be set before Triton is imported.

Prints one line per case: its name, and the largest relative errors of outputs, state and gradients; then whether
bfloat16 is refused.
"""

import sys

import torch

from reference.kernels import host, language
from tests.kernels.cases import ADDITIVE, NAMES, case, run_kernels, wanted
from tests.ops.helpers import error, gradients, leaves, random_state, recurrence

CASES = {  # (T, strong gates, packed, groups)
    "one token": {"T": 1},
    "odd length, strong gates": {"T": 37, "strong_gates": True},
    "three chunks": {"T": 130, "group": 1},
    "packed": {"T": 40},
}


def largest(got: tuple, right: tuple) -> float:
    return max(error(a, b) for a, b in zip(got, right, strict=True))


def main() -> None:
    assert language.runner(torch.zeros(1)) == "interpreter"
    for name in NAMES:
        for words, sizes in CASES.items():
            x, state = case(name, Dv=16, **sizes)
            bounds = [0, 17, 17, 40] if words == "packed" else None
            state = random_state(x, 3) if bounds else state
            right = wanted(x, state, bounds=bounds)
            forward = max(largest(run_kernels(x, state, cut=cut, bounds=bounds), right) for cut in (False, True))
            ours, own = leaves(x, state)
            theirs, other = leaves({k: v.double() for k, v in x.items()}, state.double())
            got = gradients(run_kernels(ours, own, bounds=bounds), [*ours.values(), own])
            right = gradients(
                recurrence(theirs, scale=0.3, initial_state=other, bounds=bounds), [*theirs.values(), other]
            )
            print(f"{name}, {words}: {forward:.2e} {largest(got, right):.2e}")
        x, state = case(name, 1)
        o = host.kernel_decode(*(value[:, 0] for value in x.values()), state.clone(), state.clone(), 0.3)
        print(f"{name}, decoding: {error(o, wanted(x, state)[0][:, 0]):.2e} 0")
    for name in ADDITIVE:
        x, state = case(name, 130, strong_gates=True)
        print(f"{name}, three chunks: {largest(run_kernels(x, state), wanted(x, state)):.2e} 0")
    x, state = case(NAMES[0], 1)
    try:
        run_kernels({key: value.bfloat16() for key, value in x.items()}, state)
    except ValueError as refused:
        print("refused:", refused, file=sys.stderr)


if __name__ == "__main__":
    main()
