"""Every experiment of the book, once: what it asks, which chapter shows it, how long it takes.

`python -m reference experiment list` and each --help are made from this file, which imports no package. To add an
experiment, write its code in the folder of its kind and its entry here.
"""

from typing import NamedTuple

FEW_MODELS = "few models, one learning rate, short training: a few minutes a seed"
SMALL_SIZES = "smaller sizes, at most 3 minutes a seed"


class Experiment(NamedTuple):
    """One entry of the catalogue.

    kind         the folder of its code: "models" (train the book's layers), "toys" (train toy models, many side by
                 side; all run by toys/run.py) or "untrained"
    about        what it asks, as a sentence without a capital and a full stop
    takes        the time for all runs of all seeds on 2 cores; the lower of two times is for quiet cores
    chapter      that shows the results
    quick        what --quick does; None: there is no --quick
    quick_seeds  seeds of --quick where --seeds is not given
    seeds        without --quick, and of the stored record
    threads      of the CPU, where --threads is not given
    """

    kind: str
    about: str
    takes: str
    chapter: int = 10
    quick: str | None = SMALL_SIZES
    quick_seeds: int = 1
    seeds: int = 3
    threads: int = 1

    def line(self) -> str:
        """What `experiment list` says of it."""
        return f"{self.about} (chapter {self.chapter:02d}, {self.takes}{'' if self.quick else '; no --quick'})"


def _study(about: str, takes: str, seeds: int = 3) -> Experiment:
    return Experiment("toys", about, takes, quick=FEW_MODELS, seeds=seeds)


CATALOGUE = {
    "sinks": Experiment(
        "models",
        "attention sinks with and without their cures",
        "10 to 30 min",
        chapter=6,
        quick="900 steps, no high learning rate: 2 to 5 minutes a seed on 2 cores",
        quick_seeds=3,
    ),
    "hybrid": Experiment(
        "models",
        "all linear, 3:1 and all softmax at equal parameters, on text",
        "30 to 90 min",
        chapter=9,
        quick=None,
        threads=2,
    ),
    "hybrid_conv": Experiment(
        "models",
        "all linear, 3:1 and all softmax with a convolution and as many heads in every mixer, three rates, on text",
        "5 to 30 min",
        chapter=9,
        quick="20 steps: about a minute",
    ),
    "conversion": Experiment(
        "models",
        "a trained softmax model made a hybrid by distilling, which layer stays, and what likelihood hides",
        "10 to 30 min",
        chapter=16,
        quick="a few steps of each part: about 20 seconds",
    ),
    "capacity": Experiment("untrained", "how many pairs a matrix holds, by the rule that wrote them", "2 to 5 min"),
    "constructions": Experiment(
        "untrained", "parity and permutations with beta = 2, built by hand from reflections", "5 to 12 min"
    ),
    "precision": Experiment(
        "untrained", "a state stored in 16 or 8 bits after every token, beside an 8-bit cache", "20 to 60 min"
    ),
    "prefix_reuse": Experiment(
        "untrained", "branching conversations from cached prefixes: snapshots or a KV cache", "8 to 24 min"
    ),
    "two_tasks": _study("recall and parity in one model: each pure stack fails one", "50 min"),
    "recall": _study("key-value pairs, more and more of them", "25 min"),
    "state_size": _study("recall with 4 to 32 key channels", "10 min"),
    "state_size_solved": _study("state_size with the best matrix for all pairs: what the rule costs", "3 to 10 min"),
    "overwrite": _study("keys rewritten again and again: the last value counts", "30 min"),
    "stream": _study("a long stream over few keys: who clears the memory can continue", "25 min"),
    "needle": _study("one pair among more and more distractors", "6 min"),
    "needle_many": _study("needle, trained with many questions a text", "6 to 15 min"),
    "copying": _study("marked tokens among noise, repeated in order", "5 min"),
    "copying_fed_back": _study("copying in two layers that read their answers", "6 to 15 min"),
    "induction": _study("what followed the last time", "3 min"),
    "induction_many": _study("induction, trained with many questions a text", "3 to 8 min"),
    "parity": _study("odd or even, at lengths beyond the trained", "25 min"),
    "permutations_3": _study("products of permutations of 3 things", "8 min"),
    "permutations_3_long": _study("permutations_3 as long as permutations_5, delta rule alone", "4 to 22 min"),
    "permutations_5": _study("products of swaps of 5 things", "12 min"),
    "places": _study("two_tasks with one softmax layer of four: its place", "12 min"),
    "ratios": _study("more pairs than four key channels have room for, by share of softmax layers", "12 min"),
    "multi_hop": Experiment(
        "toys",
        "follow one link or two, taught one hop per layer",
        "10 to 40 min",
        quick="all of it, one seed: 2 to 4 minutes a seed on 2 cores",
    ),
    "multi_hop_faster": _study("multi_hop at twice the learning rate", "4 to 15 min", seeds=1),
    "multi_hop_slower": _study("multi_hop at a third of the learning rate", "10 to 30 min", seeds=1),
    "multi_hop_slowest": _study("multi_hop at a tenth of the learning rate", "5 to 15 min", seeds=1),
    "multi_hop_three": _study("multi_hop with three hops and five layers", "8 to 25 min", seeds=1),
    "multi_hop_deep": _study("multi_hop with eight layers, 7:1, and with windows, 3:1", "6 to 20 min", seeds=1),
    "multi_hop_load": _study("multi_hop with up to 8 chains of 64 names from the start", "20 to 60 min"),
    "multi_hop_heavier": _study("multi_hop with 8 chains later, also with 8 key channels", "8 to 24 min", seeds=1),
    "multi_hop_last": _study("multi_hop with a loss at the last layer alone", "5 to 15 min", seeds=1),
    "multi_hop_spelled": _study("multi_hop with the name in between said first", "6 to 25 min", seeds=1),
    "multi_turn": _study("facts set, changed and asked over many turns, by share of softmax layers", "6 h"),
    "history": _study("what was true in an earlier turn: facts with their turn's number", "4 to 12 min"),
    "history_longer": _study("history with three times the steps, and with softmax first", "4 to 12 min"),
    "recall_by_parity": _study("which of two values to recall depends on the parity of the bits so far", "8 to 24 min"),
}

TIMES = """Times are of all runs, mostly three seeds, on 2 cores; beside other work up to three times as long.
--quick: smaller, one seed (sinks: three), a few minutes each. The runs of the book are stored in figures/data:
without --quick a command shows them, and with --again or --out it runs them anew.
"""


def listing() -> str:
    """All names with their lines, below what holds for all of them."""
    return TIMES + "\n".join(f"  {name:16s} {entry.line()}" for name, entry in CATALOGUE.items())
