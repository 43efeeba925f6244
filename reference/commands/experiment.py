"""`python -m reference experiment <name>`: the longer runs behind the book's figures, re-runnable by one command."""

import argparse
import importlib
import sys

# Each with how long it takes; the lower time of two is on quiet cores.
MODELS = {
    "sinks": "attention sinks with and without their cures (chapter 06, 10 to 30 min; --quick --seeds 1: 2 to 5 min)",
    "hybrid": "all linear, 3:1 and all softmax at equal parameters, on text (chapter 09, 30 to 90 min; no --quick)",
}
UNTRAINED = {
    "capacity": "how many pairs a matrix holds, by rule, without training (chapter 10, 2 to 5 min)",
    "constructions": "parity and permutations by hand with beta = 2 (chapter 10, 5 to 12 min)",
    "precision": "a state stored in 16 and 8 bits after every token, for 100,000 tokens (chapter 10, 20 to 60 min)",
    "prefix_reuse": "branching conversations from cached prefixes: snapshots or a KV cache (chapter 10, 8 to 24 min)",
}
EXPERIMENTS = MODELS | UNTRAINED


# Studies of toy models (reference/experiments/toys/studies.py, chapter 10), all run by `study`.
TOYS = {
    "two_tasks": "recall and parity in one model: each pure stack fails one (50 min)",
    "recall": "key-value pairs, more and more of them (25 min)",
    "state_size": "the same, with 4 to 32 key channels (10 min)",
    "overwrite": "keys rewritten again and again (30 min)",
    "stream": "a long stream over few keys (25 min)",
    "needle": "one pair among distractors (6 min)",
    "copying": "marked tokens among noise, said again in order (5 min)",
    "induction": "what followed the last time (3 min)",
    "parity": "odd or even, beyond the trained length (25 min)",
    "permutations_3": "products of permutations of 3 things (8 min)",
    "permutations_5": "products of swaps of 5 things (12 min)",
    "places": "two_tasks with one softmax layer of four: where it stands (12 min)",
    "ratios": "crowded recall by share of softmax layers (12 min)",
    "multi_hop": "follow links, by share of softmax layers (3 h)",
    "multi_turn": "facts set, changed and asked over many turns, by share (6 h)",
    "recall_by_parity": "what to recall depends on a parity (10 min)",
}

TIMES = """Times are of all runs, three seeds, on 2 cores; beside other work up to three times as long.
--quick: smaller, one seed, a few minutes each. The runs of the book are stored in figures/data:
without --quick a command shows them, and with --again or --out it runs them anew.
"""


def main(argv: list[str]) -> int:
    listed = TIMES + "\n".join(f"  {name:16s} {what}" for name, what in (EXPERIMENTS | TOYS).items())
    if not argv:
        print(f"experiment: which one? Give a name.\n{listed}", file=sys.stderr)
        return 2
    parser = argparse.ArgumentParser(
        prog="python -m reference experiment",
        description=__doc__,
        epilog=f"experiments:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("experiment", choices=[*EXPERIMENTS, *TOYS, "list"], metavar="experiment")
    chosen = parser.parse_args(argv[:1]).experiment
    if chosen == "list":
        print(listed)
        return 0
    if chosen in TOYS:
        return importlib.import_module("reference.experiments.toys.study").main(argv)
    kind = "models" if chosen in MODELS else "untrained"
    return importlib.import_module(f"reference.experiments.{kind}.{chosen}").main(argv[1:])
