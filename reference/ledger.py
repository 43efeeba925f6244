"""`python -m reference cost`: what one text of a given length needs in a published model, on paper."""

import argparse
import json
from typing import NamedTuple

from reference.checkpoints.published import PUBLISHED, published_config
from reference.config import HybridConfig
from reference.costs import bytes_of_cache, count_parameters, crossover_tokens, decode_work, prefill_flops


class Machine(NamedTuple):
    """What a processor does at best: flops and bytes per second."""

    name: str
    flops: float
    bandwidth: float


# NVIDIA's data sheet: 989 teraflops dense in bfloat16, 4.8 TB/s.
H200 = Machine("H200", 989e12, 4.8e12)


def decode_seconds(config: HybridConfig, position: int, machine: Machine, *, batch_size: int = 1) -> float:
    """The least time for one token of each of batch_size texts: the longer of computing and moving bytes (a roofline).

    Weights are read once for all texts. Real kernels take longer; ratios between models hold better than times.
    """
    work = decode_work(config, position)
    if config.num_experts:  # other texts visit other experts: in the end all are read
        counts = count_parameters(config)
        share = 1 - (1 - config.num_experts_per_tok / config.num_experts) ** batch_size
        idle = 2 * (counts.total - counts.active) / (1 - config.num_experts_per_tok / config.num_experts)
        first = config.num_experts_per_tok / config.num_experts
        work = work._replace(weight_bytes=work.weight_bytes + idle * (share - first))
    moved = work.weight_bytes + batch_size * work.state_bytes
    return max(batch_size * work.flops / machine.flops, moved / machine.bandwidth)


def ledger(family: str, context: int) -> dict[str, object]:
    """All entries for one text of `context` tokens in bfloat16, states in float32. Raises ValueError."""
    if isinstance(context, bool) or not isinstance(context, int) or context < 1:
        raise ValueError(f"context: expected a whole number >= 1, got {context!r}")
    config, counts = published_config(family), count_parameters(published_config(family))
    work = decode_work(config, context)
    return {
        "family": family,
        "model": PUBLISHED[family].model,
        "context": context,
        "parameters": counts.total,
        "active_parameters": counts.active,
        "weight_bytes": 2 * counts.total,
        "cache_bytes": bytes_of_cache(config, context),
        "prefill_flops": prefill_flops(config, context),
        "decode_flops": work.flops,
        "decode_weight_bytes": work.weight_bytes,
        "decode_state_bytes": work.state_bytes,
        "crossover_tokens": crossover_tokens(config),
        "h200_decode_seconds": decode_seconds(config, context, H200),
    }


def ledger_text(entry: dict[str, object]) -> str:
    """A few lines for a reader."""
    crossings = ", ".join(f"{kind} from {n:,} tokens on" for kind, n in entry["crossover_tokens"].items())
    gib = 2**30
    lines = {
        "parameters": f"{entry['parameters'] / 1e9:.3g}B, {entry['active_parameters'] / 1e9:.3g}B active for a token",
        "weights": f"{entry['weight_bytes'] / gib:.3g} GiB in bfloat16",
        "cache and state": f"{entry['cache_bytes'] / gib:.3g} GiB for one text",
        "prefill": f"{entry['prefill_flops'] / 1e12:.3g} teraflops",
        "next token": f"{entry['decode_flops'] / 1e9:.3g} gigaflops, "
        f"{entry['decode_weight_bytes'] / gib:.3g} GiB of weights read, "
        f"{entry['decode_state_bytes'] / gib:.3g} GiB of cache and state moved",
        "on an H200": f"at least {1e3 * entry['h200_decode_seconds']:.3g} ms for the next token, one text",
        "state < cache": crossings or "no layer of fixed state",
    }
    head = f"{entry['model']}, {entry['context']:,} tokens"
    return "\n".join([head, *(f"  {name:16s} {text}" for name, text in lines.items())])


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m reference cost", description=__doc__)
    parser.add_argument("--family", choices=list(PUBLISHED), required=True)
    parser.add_argument("--context", type=int, required=True, help="tokens of the text")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args(argv)
    try:
        entry = ledger(chosen.family, chosen.context)
    except ValueError as error:
        parser.error(str(error))
    print(json.dumps(entry) if chosen.json else ledger_text(entry))
    return 0
