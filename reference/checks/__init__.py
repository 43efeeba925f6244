"""Verdicts on exercises: what is right, or what exactly is wrong.

In a chapter: `verdict("2.3", my_delta_step)`. A check compares the answer with the reference and
with the results of known mistakes, so that the verdict can name the mistake that was made.
"""

import importlib
import pkgutil

from reference.checks._verdict import (
    EXERCISES,
    Exercise,
    Wrong,
    exercise,
    expect_choice,
    expect_close,
    expect_shape,
    verdict,
)

for _module in pkgutil.iter_modules(__path__, __name__ + "."):
    if _module.name.rsplit(".", 1)[1].startswith("ch"):  # one module per chapter: ch01, ch02, ...
        importlib.import_module(_module.name)

__all__ = ["EXERCISES", "Exercise", "Wrong", "exercise", "expect_choice", "expect_close", "expect_shape", "verdict"]
