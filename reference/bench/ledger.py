"""`python -m reference bench ledger`: every mixer's formulas beside what is measured, for chapter 11.

One layer of each kind, width 512, 8 heads of 64, float32: flops counted while it runs, bytes held, bytes touched by a
decode step, its peak memory in a fresh process. Then seconds over length, in turns, several rounds: prompts, decode
steps of whole layers, and of the operators alone, for one text and for 16; with the exponent fitted in each round
beside the formula's at the same lengths, and the lengths where a linear layer overtakes a softmax layer.
"""

import argparse
from collections.abc import Callable, Iterable
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from reference.bench.count import Traffic, count_flops
from reference.bench.measure import as_json, describe_machine, peak_resident_bytes, print_resident, side_by_side
from reference.bench.mixers import (
    NAMES,
    WIDTH,
    bytes_in_state,
    filled_state,
    mixer_config,
    operator_step,
    random_mixer,
)
from reference.files import write_text
from reference.model.costs import layer_cache_bytes, layer_decode_work, mixer_parameters, prompt_mixing_flops
from reference.options import add_threads, at_least, folder_path

BYTES, FITTED = 4, 3  # float32; exponents are fitted to so many of the longest lengths
PIECES = ", in pieces"  # a window's prompt, 256 tokens at a time


class Regime(NamedTuple):
    """What is timed: a "prefill", a "decode" step of the layer, or of the "operator" alone."""

    what: str
    texts: int
    lengths: tuple[int, ...]
    mixers: tuple[str, ...]


ALL, NO_MLA = tuple(NAMES), tuple(name for name in NAMES if "MLA" not in name)
SHORT_LENGTHS = (16, 64, 256, 1024, 4096)
REGIMES = {
    "prefill": Regime("prefill", 1, (64, 128, 256, 512, 1024, 2048, 4096, 8192), (*ALL, "window" + PIECES)),
    "decode": Regime("decode", 1, (*SHORT_LENGTHS, 16384, 65536), ALL),
    "decode, 16 texts": Regime("decode", 16, SHORT_LENGTHS, NO_MLA),
    "operator": Regime("operator", 1, (*SHORT_LENGTHS, 16384, 65536), ALL),
    "operator, 16 texts": Regime("operator", 16, SHORT_LENGTHS, NO_MLA),
}


@torch.no_grad()
def count_mixers(tokens: int, width: int = WIDTH, names: Iterable[str] = NAMES) -> dict[str, dict[str, list]]:
    """[formula, count] for each mixer: flops of a prompt and of a decode step, bytes held, least bytes a step has to
    move beside those that the layer's, and the operator's, separate operations touch (weights left out)."""
    found = {}
    for name in names:
        config, mixer = random_mixer(name, width)
        x, state, weights = torch.randn(1, tokens, width), filled_state(config, tokens), mixer_parameters(config, 0)
        step, alone, after = (
            layer_decode_work(config, 0, tokens, element_bytes=BYTES),
            operator_step(name, tokens, width=width),
            [],
        )
        prompt = count_flops(lambda mixer=mixer, x=x, after=after: after.append(mixer(x)[1]))
        decode = count_flops(lambda mixer=mixer, x=x, state=state: mixer(x[:, :1], state))
        with Traffic() as layer:
            mixer(x[:, :1], state)
        with Traffic() as operator:
            alone()
        found[name] = {
            "prefill_flops": [2 * weights * tokens + prompt_mixing_flops(config, 0, tokens), prompt],
            "decode_flops": [step.flops, decode],
            "held_bytes": [layer_cache_bytes(config, 0, tokens, element_bytes=BYTES), bytes_in_state(after[0])],
            "layer_bytes": [step.state_bytes, layer.total - step.weight_bytes],
            "operator_bytes": [step.state_bytes, operator.total],
        }
    return found


PEAK_SCRIPT = """
import sys
from reference.bench.ledger import peak_of_a_step
peak_of_a_step(sys.argv[1], *map(int, sys.argv[2:]))
"""


@torch.no_grad()
def peak_of_a_step(name: str, tokens: int, texts: int, width: int) -> None:
    """In a fresh process: print resident memory before and at the peak of one decode step."""
    torch.set_num_threads(1)
    config, mixer = random_mixer(name, width)
    mixer(torch.randn(1, 1, width), filled_state(config, 8))  # libraries are loaded
    x, state = torch.randn(texts, 1, width), filled_state(config, tokens, texts)
    print_resident()
    mixer(x, state)
    print_resident(peak=True)


def measure_peaks(tokens: int, texts: int, width: int) -> dict[str, dict]:
    """A step holds the new state beside the old one: formula and measured bytes of what comes on top. The linear layers
    are wide (width / 8 channels a head), so that their states outweigh q, k, v and the like."""
    sizes = {"softmax": (tokens, 1, WIDTH), "Gated DeltaNet": (8, texts, width), "lightning": (8, texts, width)}
    found = {}
    for name, (n, B, wide) in sizes.items():
        new = B * layer_cache_bytes(mixer_config(name, wide), 0, n + 1, element_bytes=BYTES)
        measured = peak_resident_bytes(PEAK_SCRIPT, name, str(n), str(B), str(wide))
        found[name] = {"tokens": n, "texts": B, "width": wide, "new_state": new, "measured": measured}
    return found


def exponent(lengths: object, values: object) -> float:
    """Slope of the straight line through the logarithms."""
    return float(np.polyfit(np.log(lengths), np.log(values), 1)[0])


def overtakes(lengths: object, slow: object, flat: object) -> float | None:
    """The length from which on `flat` stays below `slow`, interpolated on log axes; None: at no length measured.
    The first length measured means "there or earlier"."""
    gap, x = np.log(slow) - np.log(flat), np.log(lengths)
    if gap[-1] <= 0:
        return None
    above = np.flatnonzero(gap <= 0)
    if not above.size:
        return float(lengths[0])
    i = above[-1]
    return float(np.exp(x[i] - (x[i + 1] - x[i]) * gap[i] / (gap[i + 1] - gap[i])))


@torch.no_grad()
def time_regime(regime: Regime, rounds: int) -> dict[str, list[list[float]]]:
    """Seconds [rounds][lengths] for each mixer: in turns at each length, and all lengths anew in each round, so that a
    slow minute of the machine falls on one round of all of them."""
    seconds = {name: [[0.0] * len(regime.lengths) for _ in range(rounds)] for name in regime.mixers}
    title, visits = f"{regime.what}, texts: {regime.texts}", [*product(range(rounds), enumerate(regime.lengths))]
    for i, (n, tokens) in tqdm(visits, desc=title, ascii=True):
        works = {name: _work(regime, name, tokens) for name in regime.mixers}
        repeats = 1 if regime.what == "prefill" else max(3, min(20, 2**18 // (tokens * regime.texts)))
        for name, found in side_by_side(works, repeats).items():
            seconds[name][i][n] = found.median
    return seconds


def _work(regime: Regime, name: str, tokens: int) -> Callable[[], object]:
    if regime.what == "operator":
        return operator_step(name, tokens, regime.texts)
    config, mixer = random_mixer(name.removesuffix(PIECES))
    if regime.what == "decode":
        x, state = torch.randn(regime.texts, 1, WIDTH), filled_state(config, tokens, regime.texts)
        return lambda: mixer(x, state)
    x = torch.randn(regime.texts, tokens, WIDTH)
    return (lambda: _read_in_pieces(mixer, x)) if name.endswith(PIECES) else (lambda: mixer(x))


def _read_in_pieces(mixer: nn.Module, x: Tensor) -> None:
    state = None
    for piece in x.split(256, 1):
        _, state = mixer(piece, state)


def on_paper(regime: Regime, name: str, tokens: int) -> float:
    """What the time should grow with: a prompt's flops, the bytes of a decode step, of state and cache alone."""
    config = mixer_config(name.removesuffix(PIECES))
    if regime.what == "prefill":
        return 2 * mixer_parameters(config, 0) * tokens + prompt_mixing_flops(config, 0, tokens)
    work = layer_decode_work(config, 0, tokens, element_bytes=BYTES)
    return regime.texts * work.state_bytes + (work.weight_bytes if regime.what == "decode" else 0)


def summarize(regime: Regime, seconds: dict[str, list[list[float]]]) -> dict:
    """Lengths; median seconds; exponents over the last lengths: median, lowest and highest of the rounds, the
    formula's."""
    found, last = {}, regime.lengths[-FITTED:]
    for name, rows in seconds.items():
        slopes = [exponent(last, row[-FITTED:]) for row in rows]
        found[name] = {
            "seconds": [float(f"{x:.4g}") for x in np.median(rows, 0)],
            "exponent": round(float(np.median(slopes)), 2),
            "exponent_range": [round(min(slopes), 2), round(max(slopes), 2)],
            "exponent_of_formula": round(exponent(last, [on_paper(regime, name, n) for n in last]), 2) + 0.0,
        }
    return {"lengths": regime.lengths, "texts": regime.texts, "mixers": found}


def crossings(regime: Regime, seconds: dict[str, list[list[float]]]) -> dict[str, dict[str, dict]]:
    """Where each linear layer overtakes each plain softmax layer: of the medians, and of each round."""
    found = {}
    for slow in ("softmax", "softmax, 2 key heads"):
        found[slow] = {}
        for flat in ("Gated DeltaNet", "KDA", "lightning"):
            pairs = [(np.median(seconds[slow], 0), np.median(seconds[flat], 0))]
            pairs += zip(seconds[slow], seconds[flat], strict=True)
            each = [overtakes(regime.lengths, a, b) for a, b in pairs]
            first, *rest = (None if n is None else round(n) for n in each)
            found[slow][flat] = {"tokens": first, "rounds": rest}
    return found


@torch.no_grad()
def time_nearness(tokens: int, rounds: int) -> dict[str, list[float]]:
    """Seconds of Gated DeltaNet's operator in each round: by itself, its state still in the processor's cache, and in
    turns with a softmax operator whose cache of so many tokens pushes it out."""
    step, other = operator_step("Gated DeltaNet", tokens), operator_step("softmax", tokens)
    alone = [side_by_side({"it": step}, 20)["it"].median for _ in range(rounds)]
    turns = [side_by_side({"it": step, "other": other}, 5)["it"].median for _ in range(rounds)]
    return {"alone": [float(f"{x:.3g}") for x in alone], "in turns": [float(f"{x:.3g}") for x in turns]}


def ledger_lines(record: dict) -> list[str]:
    """The record as Markdown: counts over formulas, peaks, exponents of time over length, crossovers."""
    keys = {"prefill_flops": "flops, prefill", "decode_flops": "flops, decode", "held_bytes": "bytes held"}
    keys |= {"layer_bytes": "touched by a layer's step", "operator_bytes": "by the operator's"}
    lines = ["count over formula", "", f"| mixer | {' | '.join(keys.values())} |", "|---" * (1 + len(keys)) + "|"]
    for name, row in record["count"].items():
        lines.append(f"| {name} | " + " | ".join(f"{row[key][1] / row[key][0]:.3f}" for key in keys) + " |")
    lines += ["", *(f"peak of a step, {n}: {r['measured'] / r['new_state']:.2f}" for n, r in record["peak"].items())]
    alone, turns = (np.median(record["nearness"][key]) for key in ("alone", "in turns"))
    lines.append(
        f"Gated DeltaNet's operator, its state pushed out of the processor's cache: {turns / alone:.1f} times slower"
    )
    for key, regime in record["time"].items():
        lines += ["", f"| {key} | exponent | lowest to highest | formula |", "|---" * 4 + "|"]
        for name, row in regime["mixers"].items():
            low, high = row["exponent_range"]
            lines.append(f"| {name} | {row['exponent']} | {low} to {high} | {row['exponent_of_formula']} |")
        for slow, rows in record["crossover"][key].items():
            words = ", ".join(f"{flat} {row['tokens']} {row['rounds']}" for flat, row in rows.items())
            lines.append(f"faster than {slow} from (tokens): {words}")
    return lines


def main(argv: list[str]) -> int:
    """Measure every kind of layer against the formulas of chapter 11; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m reference bench ledger", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--quick", action="store_true", help="short texts, two rounds")
    add_threads(parser, 1)
    parser.add_argument("--rounds", type=at_least(1), default=5, help="how often everything is timed (default 5)")
    parser.add_argument("--out", type=folder_path, help="folder for bench_ledger.json")
    chosen = parser.parse_args(argv)
    torch.set_num_threads(chosen.threads)
    rounds = 2 if chosen.quick else chosen.rounds
    record = {"machine": describe_machine("cpu"), "quick": chosen.quick, "rounds": rounds, "width": WIDTH}
    record["count"] = count_mixers(256 if chosen.quick else 4096)
    record["peak"] = measure_peaks(16384, 16, 1024) if chosen.quick else measure_peaks(65536, 64, 2048)
    record |= {"nearness": time_nearness(1024 if chosen.quick else 65536, rounds), "time": {}, "crossover": {}}
    for key, regime in REGIMES.items():
        short = regime._replace(lengths=regime.lengths[:3]) if chosen.quick else regime
        seconds = time_regime(short, rounds)
        record["time"][key], record["crossover"][key] = summarize(short, seconds), crossings(short, seconds)
    print("\n".join(ledger_lines(record)))
    if chosen.out is not None:
        write_text(chosen.out / "bench_ledger.json", as_json(record))
    return 0
