"""`python -m reference families`: the published models of the book, from their config.json."""

import argparse
import json
from itertools import groupby
from math import gcd

from reference.checkpoints.families import BY_TYPE
from reference.checkpoints.published import ALL_PUBLISHED, published_config
from reference.checkpoints.table import tensor_page
from reference.layers.mixers import mixer
from reference.model.config import HybridConfig
from reference.model.costs import bytes_of_cache, count_parameters

LONG = 2**20  # tokens: beyond every window


def describe(family: str) -> dict[str, object]:
    """One row: mixers in the order of the layers, ratio of linear to softmax layers, parameters, bytes in bfloat16."""
    config, published = published_config(family), ALL_PUBLISHED[family]
    counts, says_context = count_parameters(config), "max_position_embeddings" in BY_TYPE[family].fields
    growth = bytes_of_cache(config, LONG + 1) - bytes_of_cache(config, LONG)
    return {
        "family": family,
        "model": published.model,
        "year": published.year,
        "layers": pattern_of(config),
        "linear_to_softmax": ratio_of(config),
        "parameters": counts.total,
        "active_parameters": counts.active,
        "context": config.max_position_embeddings if says_context else None,
        "cache_bytes_per_token": growth,
        "state_bytes": bytes_of_cache(config, LONG) - LONG * growth,
        "licence": published.licence,
        "after": published.after,
        "source": published.source,
    }


def pattern_of(config: HybridConfig) -> str:
    """The shortest unit that layer_types repeats, as "3 GDN, 1 softmax"; with a rest if it doesn't come out even; only
    how many there are of each if there is no such unit."""
    kinds = [mixer(kind).short for kind in config.layer_types]
    units = [n for n in range(1, len(kinds) + 1) if len(kinds) % n == 0]
    unit = next(n for n in units if all(k == kinds[i % n] for i, k in enumerate(kinds)))
    runs = [f"{len(list(group))} {kind}" for kind, group in groupby(kinds[:unit])]
    if len(runs) == 1:
        return f"{len(kinds)} {kinds[0]}"
    if unit < len(kinds):
        return f"({', '.join(runs)}) x {len(kinds) / unit:g}"
    regular = next((n for n in range(2, 9) if len(set(map(tuple, _cut(kinds, n)[:-1]))) == 1), None)
    if regular is None and len(runs) > 4:
        return ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds)) + ", irregular"
    if regular is None:
        return ", ".join(runs)
    cut = _cut(kinds, regular)
    first, last = (", ".join(f"{len(list(g))} {k}" for k, g in groupby(part)) for part in (cut[0], cut[-1]))
    return f"({first}) x {len(cut) - 1}, {last}"


def _cut(kinds: list[str], n: int) -> list[list[str]]:
    return [kinds[start : start + n] for start in range(0, len(kinds), n)]


def ratio_of(config: HybridConfig) -> str:
    """Linear to softmax layers in lowest terms, such as "3:1"; "all softmax" or "all linear"."""
    softmax = sum(mixer(kind).softmax for kind in config.layer_types)
    linear = config.num_hidden_layers - softmax
    if not linear or not softmax:
        return "all softmax" if softmax else "all linear"
    both = gcd(linear, softmax)
    return f"{linear // both}:{softmax // both}"


def families_table(rows: list[dict[str, object]]) -> str:
    """Aligned text: one line per family, then where each model is and what its makers did next."""
    head = [
        "family",
        "year",
        "layers",
        "lin:soft",
        "parameters",
        "active",
        "context",
        "cache/token",
        "state",
        "licence",
    ]
    lines = [head]
    for row in rows:
        active = "" if row["active_parameters"] == row["parameters"] else _billions(row["active_parameters"])
        ratio = row["linear_to_softmax"].replace("all softmax", "0:1").replace("all linear", "1:0")
        cells = [row["family"], row["year"], row["layers"], ratio, _billions(row["parameters"]), active]
        context = "" if row["context"] is None else f"{row['context']:,}"
        cells += [context, f"{row['cache_bytes_per_token'] / 1024:.3g} KiB"]
        lines.append([*cells, f"{row['state_bytes'] / 2**20:.3g} MiB", row["licence"]])
    widths = [max(len(str(line[n])) for line in lines) for n in range(len(head))]
    table = ["  ".join(str(x).ljust(w) for x, w in zip(line, widths, strict=True)).rstrip() for line in lines]
    after = [
        f"{row['family'].ljust(widths[0])}  {row['source']}\n{'':{widths[0]}}  next: {row['after']}" for row in rows
    ]
    return "\n".join([*table, "", *after])


def _billions(n: int) -> str:
    return f"{n / 1e9:.3g}B"


def main(argv: list[str]) -> int:
    """Print the table; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m reference families",
        description=__doc__,
        epilog="Cache and state are those of one text in bfloat16; linear states are float32. Parameters are counted "
        "on the model that this code builds, without heads that predict further tokens.",
    )
    parser.add_argument("--json", action="store_true", help="all columns, with licences and what came after")
    parser.add_argument(
        "--tensors",
        action="store_true",
        help="each family's tensors instead: name in the file, shape, name in our model (appendix/checkpoints.md)",
    )
    chosen = parser.parse_args(argv)
    if chosen.tensors:
        print(tensor_page(), end="")
        return 0
    rows = [describe(family) for family in ALL_PUBLISHED]
    print(json.dumps(rows, indent=1) if chosen.json else families_table(rows))
    return 0
