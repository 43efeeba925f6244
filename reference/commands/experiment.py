"""`python -m reference experiment <name>`: the longer runs behind the book's figures, re-runnable by one command."""

import argparse
import importlib
import sys

from reference.experiments.catalogue import CATALOGUE, listing


def main(argv: list[str]) -> int:
    """Run the experiment that argv[0] names; "list" prints the catalogue."""
    if not argv:
        print(f"experiment: which one? Give a name.\n{listing()}", file=sys.stderr)
        return 2
    parser = argparse.ArgumentParser(
        prog="python -m reference experiment",
        description=__doc__,
        epilog=f"experiments:\n{listing()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("experiment", choices=[*CATALOGUE, "list"], metavar="experiment")
    chosen = parser.parse_args(argv[:1]).experiment
    if chosen == "list":
        if argv[1:]:
            parser.error(f"list: takes nothing behind it, got {' '.join(argv[1:])[:100]}")
        print(listing())
        return 0
    kind = CATALOGUE[chosen].kind
    if kind == "toys":
        return importlib.import_module("reference.experiments.toys.run").main(argv)
    return importlib.import_module(f"reference.experiments.{kind}.{chosen}").main(argv[1:])
