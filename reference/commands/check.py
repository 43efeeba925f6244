"""`python -m reference check ops --mine PACKAGE.MODULE`: are your own operators right? Test by test, in words.

The module defines functions with the names of reference.ops, as many as you like: chunk_gated_delta_rule,
recurrent_kda, delta_rule, ... Each is called as f(q, k, v[, g][, beta], **keywords) with the shapes of reference.ops
and returns o or (o, final_state). Keywords that your function has (initial_state, scale, use_qk_l2norm_in_kernel,
cu_seqlens, output_final_state) are used; cases that need one that it lacks are not tried. A module that works on NumPy
arrays says so in one line: ARRAYS = "numpy". Gradients are compared where o has them. Wrong answers are compared with a
museum of wrong recurrences: where one gives the same answers, it is named.

An adapter for a function with other axes is a few lines; `python -m reference check --examples` prints three.
"""

import argparse
import importlib
import json
import os
import sys
from collections import Counter
from types import ModuleType

from reference.conformance.examples import EXAMPLES
from reference.conformance.judge import OPERATOR_TOLERANCE, Judgement, functions_of, judge
from reference.conformance.kernels import judge_kernel
from reference.conformance.layers import LAYER_TOLERANCE, judge_layers
from reference.options import positive

WHAT = "ops: operators; kernels: the same, and strides, lengths, bfloat16, repetition; layers: f(x, weights, config)"


def main(argv: list[str]) -> int:
    """Check a module's functions; 0 if all cases that were tried are right, 1 if not, 2 if there is nothing to try."""
    parser = argparse.ArgumentParser(prog="python -m reference check", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("what", nargs="?", choices=["ops", "layers", "kernels"], help=WHAT)
    parser.add_argument("--mine", metavar="PACKAGE.MODULE", help="your module, importable from here")
    parser.add_argument(
        "--tolerance",
        type=positive,
        help=f"of the largest entry; default {OPERATOR_TOLERANCE:g}, layers {LAYER_TOLERANCE:g}",
    )
    parser.add_argument("--all", action="store_true", help="also list the cases that are right")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--examples", action="store_true", help="print adapters for other signatures, and end")
    chosen = parser.parse_args(argv)
    if chosen.examples:
        print("\n\n".join(f"# {title}\n{code}" for title, code in EXAMPLES.items()))
        return 0
    if chosen.what is None or chosen.mine is None:
        parser.error("expected: check ops|layers|kernels --mine PACKAGE.MODULE")
    try:
        findings = _judge(chosen.what, _import(chosen.mine), chosen.tolerance)
    except ValueError as error:
        print(f"check: {error}", file=sys.stderr)
        return 2
    if chosen.json:
        print(json.dumps([finding._asdict() for finding in findings], indent=1))
    else:
        _print(findings, everything=chosen.all)
    return int(any(finding.state == "wrong" for finding in findings))


def _judge(what: str, module: ModuleType, tolerance: float | None) -> list[Judgement]:
    if what == "layers":
        return list(judge_layers(module, tolerance=tolerance or LAYER_TOLERANCE))
    arrays = getattr(module, "ARRAYS", "torch")
    if arrays not in ("torch", "numpy"):
        raise ValueError(f"ARRAYS of {module.__name__}: expected 'torch' or 'numpy', got {arrays!r}")
    judges = {"ops": [judge], "kernels": [judge, judge_kernel]}[what]
    return [
        finding
        for name, (operator, function) in functions_of(module).items()
        for one in judges
        for finding in one(name, operator, function, arrays=arrays, tolerance=tolerance or OPERATOR_TOLERANCE)
    ]


def _import(name: str) -> ModuleType:
    """The module, looked for in the current folder, too. ValueError that says what went wrong with it."""
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise ValueError(f"mine: there is no module {name!r} (looked in {os.getcwd()} and Python's path)") from None
        raise ValueError(f"mine: {name} needs the module {error.name!r}, which isn't installed") from None
    except Exception as error:  # the reader's module may raise anything while it is imported
        raise ValueError(f"mine: {name} can't be imported: {type(error).__name__}: {error}") from None


def _print(findings: list[Judgement], *, everything: bool) -> None:
    for function in dict.fromkeys(finding.function for finding in findings):
        own = [finding for finding in findings if finding.function == function]
        counts = Counter(finding.state for finding in own)
        print(f"{function}: " + ", ".join(f"{counts[s]} {s}" for s in ("right", "wrong", "not tried") if counts[s]))
        wrong = [finding for finding in own if finding.state == "wrong"]
        shared = [words for words in _ordered(wrong) if all(words in finding.resembles for finding in wrong)]
        if len(wrong) > 1 and shared:
            print(f"  every wrong case gives the answers that come out if {'; or if '.join(shared)}")
        for finding in own:
            if everything or finding.state != "right":
                others = [words for words in finding.resembles if words not in shared or len(wrong) == 1]
                like = f"; the same answers come out if {'; or if '.join(others)}" if others else ""
                print(f"  {finding.state:9s} {finding.case}: {finding.said}{like}")


def _ordered(findings: list[Judgement]) -> list[str]:
    return list(dict.fromkeys(words for finding in findings for words in finding.resembles))
