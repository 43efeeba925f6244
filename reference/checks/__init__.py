"""Verdicts on exercises: what is right, or what exactly is wrong.

In a chapter: `verdict("2.3", my_delta_step)`. A check compares the answer with the reference and
with the results of known mistakes, so that the verdict can name the mistake that was made.
"""

from reference.checks._verdict import (
    EXERCISES,
    Exercise,
    Wrong,
    exercise,
    expect_choice,
    expect_close,
    expect_shape,
    grade,
    verdict,
)

__all__ = [
    "EXERCISES",
    "Exercise",
    "Wrong",
    "exercise",
    "expect_choice",
    "expect_close",
    "expect_shape",
    "grade",
    "verdict",
]
