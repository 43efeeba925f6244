"""`python -m reference experiment <name>`: the longer runs behind the book's figures, re-runnable by one command."""

import argparse
import importlib

EXPERIMENTS = {
    "sinks": "attention sinks with and without their cures (chapter 06)",
    "hybrid": "all linear, 3:1 and all softmax at equal parameters, on real text (chapter 09)",
}


def main(argv: list[str]) -> int:
    listed = "\n".join(f"  {name:10s} {what}" for name, what in EXPERIMENTS.items())
    parser = argparse.ArgumentParser(
        prog="python -m reference experiment",
        description=__doc__,
        epilog=f"experiments:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("experiment", choices=list(EXPERIMENTS), metavar="experiment")
    chosen = parser.parse_args(argv[:1]).experiment
    return importlib.import_module(f"reference.experiments.{chosen}").main(argv[1:])
