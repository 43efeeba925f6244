"""`python -m reference bench model`: a Qwen3.5-style model, ours and transformers', with the same weights.

Eight layers, 3 Gated DeltaNet to 1 gated attention, width 512, in two shapes: with heads of 128 in the linear layers
and 4 key heads to 8 value heads, and with 8 equal heads of 64. The logits are compared before anything is timed.
Prefill of 4096 tokens, decoding behind 1024, one training step of 2048 tokens, in turns within one run, beside the
bound: the bare products and softmax attention, or for decoding the bytes of weights and states (bound.py). A ratio is
the median over the turns, with the smallest and the largest. Then the share of each part (parts.py). Then ours alone:
time per decoded token behind longer and longer texts, for an all-linear stack, whose cache never grows, and an
all-softmax one.
"""

import argparse
import statistics

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from reference.bench.bound import bare_works, reading
from reference.bench.measure import (
    Action,
    as_json,
    describe_machine,
    paired_ratio,
    repeated_work,
    side_by_side,
    time_in_turns,
)
from reference.bench.parts import OUR_FUNCTIONS, THEIR_FUNCTIONS, shares
from reference.files import write_text
from reference.model.cache import new_cache
from reference.model.config import HybridConfig, pattern
from reference.model.hybrid import HybridLM
from reference.options import add_threads, at_least, folder_path

HEADS = {"hidden_size": 512, "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 64}
WIDE = {"vocab_size": 1024, "intermediate_size": 1536, "linear_num_key_heads": 4, "linear_num_value_heads": 8}
WIDE |= {"linear_key_head_dim": 128, "linear_value_head_dim": 128}
EQUAL = {"vocab_size": 4096, "intermediate_size": 1408, "linear_num_key_heads": 8, "linear_num_value_heads": 8}
EQUAL |= {"linear_key_head_dim": 64, "linear_value_head_dim": 64}
MODEL_SHAPES = {"wide heads": HEADS | WIDE, "equal heads": HEADS | EQUAL}
QWEN = {"partial_rotary_factor": 0.25, "attention_gate": "elementwise", "zero_centered_norm": True}
MODEL_TARGETS = {"prefill": 2.0, "decode": 2.5, "training step": 2.0}
BOUND_TARGETS = {"prefill": 1.15, "decode": 1.5, "training step": 1.25}
NEW_TOKENS = 16


def our_model(sizes: dict[str, int], layer_types: tuple[str, ...] = pattern(3, 1, 8)) -> HybridLM:
    """A Qwen3.5-style HybridLM of these sizes, with seed 0."""
    torch.manual_seed(0)
    return HybridLM(HybridConfig(layer_types=layer_types, **sizes, **QWEN))


def their_model(sizes: dict[str, int]) -> nn.Module:
    """transformers' Qwen3.5 of the same sizes."""
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.utils import logging

    logging.set_verbosity_error()
    torch.manual_seed(0)
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    config = AutoConfig.for_model("qwen3_5_text", num_hidden_layers=8, **sizes, **ids)
    return AutoModelForCausalLM.from_config(config)


def give_weights(theirs: nn.Module, ours: HybridLM) -> None:
    """Copy their weights into ours: the names differ in the mixer's alone."""
    renamed = {}
    for name, weight in theirs.state_dict().items():
        for mixer in ("linear_attn", "self_attn"):
            name = name.replace(f".{mixer}.", ".mixer.")
        renamed[name.removeprefix("model.")] = weight
    ours.load_state_dict(renamed)


def _ours(model: HybridLM, ids: Tensor) -> dict:
    @torch.no_grad()
    def prefill() -> None:
        model(ids, cache=new_cache(model))

    filled = new_cache(model)
    with torch.no_grad():
        model(ids[:, :1024], cache=filled)
    prefix = filled.snapshot()

    @torch.no_grad()
    def decode() -> None:
        filled.restore(prefix)
        for n in range(NEW_TOKENS):
            model(ids[:, n : n + 1], cache=filled)

    def train(tokens: Tensor) -> None:
        model.zero_grad()
        F.cross_entropy(model(tokens)[0, :-1], tokens[0, 1:]).backward()

    return {"prefill": prefill, "decode": decode, "training step": lambda: train(ids[:, : ids.shape[1] // 2])}


def _theirs(model: nn.Module, ids: Tensor) -> dict:
    import copy

    @torch.no_grad()
    def prefill() -> None:
        model(ids, use_cache=True)

    with torch.no_grad():
        prefix = model(ids[:, :1024], use_cache=True).past_key_values

    @torch.no_grad()
    def decode() -> None:
        cache = copy.deepcopy(prefix)  # theirs is changed in place; copying it is a small part of the time
        for n in range(NEW_TOKENS):
            cache = model(ids[:, n : n + 1], past_key_values=cache, use_cache=True).past_key_values

    def train(tokens: Tensor) -> None:
        model.zero_grad()
        model(tokens, labels=tokens, use_cache=False).loss.backward()

    return {"prefill": prefill, "decode": decode, "training step": lambda: train(ids[:, : ids.shape[1] // 2])}


def compare(sizes: dict[str, int], tokens: int, repeats: int) -> dict[str, dict]:
    """One shape: seconds, paired ratios to theirs and to the bound, shares of parts, and how far logits are apart."""
    ours, theirs = our_model(sizes), their_model(sizes)
    give_weights(theirs, ours)
    ids = torch.randint(0, sizes["vocab_size"], (1, tokens), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        a, b = ours(ids[:, :300]), theirs(ids[:, :300]).logits
    apart = ((a - b).abs().max() / b.abs().max()).item()
    if apart > 1e-4:
        raise RuntimeError(f"the two models disagree by {apart:.2g}: nothing to compare")
    works, bounds = (_ours(ours, ids), _theirs(theirs, ids)), _bounds(ours, ids)
    found = {"measured": {"tokens": tokens, "threads": torch.get_num_threads(), "turns": repeats}}
    found |= {"logits": {"relative_difference": apart}}
    for name in tqdm(works[0], desc="bench model", ascii=True):
        pair = {"ours": works[0][name], "theirs": works[1][name]}
        found[name] = _row(name, time_in_turns(pair | bounds[name], repeats))
        models = {"ours": (ours, OUR_FUNCTIONS), "theirs": (theirs, THEIR_FUNCTIONS)}
        found[name]["shares"] = {who: shares(pair[who], *models[who]) for who in pair}
    return found


def _bounds(model: HybridLM, ids: Tensor) -> dict[str, dict[str, Action]]:
    filled = new_cache(model)
    with torch.no_grad():
        model(ids[:, :1024], cache=filled)
    return {
        "prefill": bare_works(model, ids.shape[1], training=False),
        "decode": {"bytes": repeated_work(reading(model, filled.states), NEW_TOKENS)},
        "training step": bare_works(model, ids.shape[1] // 2, training=True),
    }


def _row(name: str, seconds: dict[str, list[float]]) -> dict[str, object]:
    """A row of the table from the turns' seconds: of each work, the ratio, and how many times the bound ours takes."""
    per = NEW_TOKENS if name == "decode" else 1
    row = {
        who: {"median": statistics.median(x) / per, "low": min(x) / per, "high": max(x) / per}
        for who, x in seconds.items()
    }
    bare = {who: x for who, x in seconds.items() if who not in ("ours", "theirs")}
    best = min(bare, key=lambda who: row[who]["median"])
    ratio = paired_ratio(seconds["theirs"], seconds["ours"])
    row |= {"ratio": ratio["median"], "ratio_low": ratio["low"], "ratio_high": ratio["high"], "turns": len(bare[best])}
    row |= {"target": MODEL_TARGETS[name], "bound_target": BOUND_TARGETS[name], "bound_by": best}
    return row | {"over_bound": {who: paired_ratio(seconds[who], bare[best]) for who in ("ours", "theirs")}}


@torch.no_grad()
def decode_by_length(sizes: dict[str, int], lengths: list[int], repeats: int) -> dict[str, dict[str, list[float]]]:
    """Milliseconds per decoded token, and MiB of cache, behind texts of these lengths."""
    found = {}
    for name, layers in (("linear", pattern(1, 0, 8)), ("softmax", pattern(0, 1, 8))):
        model, rows = our_model(sizes, layers), {"milliseconds": [], "cache_MiB": []}
        ids = torch.randint(0, sizes["vocab_size"], (1, 1024), generator=torch.Generator().manual_seed(0))
        cache = new_cache(model)
        for length in tqdm(lengths, desc=f"decode, all {name}", ascii=True):
            while cache.seen < length:
                model(ids[:, : min(1024, length - cache.seen)], cache=cache)
            prefix = cache.snapshot()

            def decode(prefix=prefix, model=model, cache=cache, ids=ids) -> None:
                cache.restore(prefix)
                for n in range(NEW_TOKENS):
                    model(ids[:, n : n + 1], cache=cache)

            seconds = side_by_side({"ours": decode}, repeats)["ours"].median / NEW_TOKENS
            rows["milliseconds"].append(round(1e3 * seconds, 2))
            cache.restore(prefix)
            rows["cache_MiB"].append(round(cache.nbytes() / 2**20, 2))
        found[name] = rows
    return {"lengths": lengths, **found}


def summary_lines(record: dict) -> list[str]:
    """The record as Markdown: times side by side, ratios with their spread, times over the bound, shares of parts."""
    lines = []
    for shape, table in record["shapes"].items():
        rows = {name: row for name, row in table.items() if "ratio" in row}
        lines += [f"**{shape}**", "", "| what | ours | transformers | ratio | wanted | over the bound | wanted |"]
        lines.append("|---" * 7 + "|")
        for name, row in rows.items():
            ours, theirs = (f"{1e3 * row[who]['median']:.1f} ms" for who in ("ours", "theirs"))
            ratio = f"{row['ratio']:.2f} ({row['ratio_low']:.2f} to {row['ratio_high']:.2f})"
            over = "{median:.2f} ({low:.2f} to {high:.2f})".format(**row["over_bound"]["ours"])
            wanted, most = row["target"], row["bound_target"]
            lines.append(f"| {name} | {ours} | {theirs} | {ratio} | {wanted:g} | {over} | {most:g} |")
        parts = list(next(iter(rows.values()))["shares"]["ours"])
        lines += ["", f"| share in % | {' | '.join(parts)} |", "|---" * (len(parts) + 1) + "|"]
        for name, row in rows.items():
            for who, found in row["shares"].items():
                lines.append(f"| {name}, {who} | {' | '.join(f'{100 * found[part]:.0f}' for part in parts)} |")
        lines.append("")
    by = record["decode_by_length"]
    lines += [
        "| tokens before | all linear, ms per token | cache | all softmax, ms per token | cache |",
        "|---" * 5 + "|",
    ]
    for n, length in enumerate(by["lengths"]):
        cells = [
            f"{by[name]['milliseconds'][n]:.1f} | {by[name]['cache_MiB'][n]:.1f} MiB" for name in ("linear", "softmax")
        ]
        lines.append(f"| {length} | {' | '.join(cells)} |")
    return lines


def main(argv: list[str]) -> int:
    """Measure the whole model; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m reference bench model", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--quick", action="store_true", help="short texts, one repeat; the targets don't apply")
    add_threads(parser, 2)
    parser.add_argument("--repeats", type=at_least(1), default=7, metavar="N", help="turns (default 7)")
    parser.add_argument("--out", type=folder_path, help="folder for bench_model.json")
    chosen = parser.parse_args(argv)
    torch.set_num_threads(chosen.threads)
    record = {"machine": describe_machine("cpu"), "sizes": MODEL_SHAPES, "quick": chosen.quick}
    tokens, repeats = (1100, 1) if chosen.quick else (4096, chosen.repeats)
    record["shapes"] = {name: compare(sizes, tokens, repeats) for name, sizes in MODEL_SHAPES.items()}
    lengths = [256, 1024] if chosen.quick else [1024, 4096, 16384, 65536]
    wide = MODEL_SHAPES["wide heads"]
    record["decode_by_length"] = decode_by_length(wide, lengths, 1 if chosen.quick else 5)
    print("\n".join(summary_lines(record)))
    if chosen.out is not None:
        write_text(chosen.out / "bench_model.json", as_json(record))
    return 0
