"""`python -m reference cost`: what texts of a given length need in a published model, on paper."""

import argparse
import json
from typing import NamedTuple

from reference.arguments import check_positive_int
from reference.checkpoints.published import ALL_PUBLISHED, published_config
from reference.layers.mixers import mixer
from reference.model.config import HybridConfig
from reference.model.costs import (
    bytes_of_cache,
    count_parameters,
    crossover_tokens,
    decode_work,
    growing_layer,
    layer_decode_work,
    mixer_parameters,
    prefill_flops,
    prompt_mixing_flops,
)
from reference.options import token_count


class Machine(NamedTuple):
    """What a processor does at best: flops and bytes per second; bytes of memory."""

    name: str
    flops: float
    bandwidth: float
    memory: float


# NVIDIA's data sheet: 989 teraflops dense in bfloat16 (its table has them with sparsity, twice that), 4.8 TB/s, 141 GB.
H200 = Machine("H200", 989e12, 4.8e12, 141e9)
LONGEST = 2**24  # tokens: a crossover beyond counts as none


def decode_seconds(config: HybridConfig, position: int, machine: Machine, *, batch_size: int = 1) -> float:
    """The least time for one token of each of batch_size texts: the longer of computing and moving bytes (a roofline).

    Weights are read once for all texts; experts as if each text chose its own at random. Real kernels take longer;
    ratios between models hold better than times. Source: Williams, Waterman and Patterson 2009; chapter 11, (11.6).
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


def prefill_seconds(config: HybridConfig, tokens: int, machine: Machine) -> float:
    """The least time for a prompt. Long prompts are bound by FLOPs only, so bytes aren't counted."""
    return prefill_flops(config, tokens) / machine.flops


def texts_that_fit(config: HybridConfig, context: int, machine: Machine) -> int:
    """How many texts of `context` tokens have room beside the weights in bfloat16; 0 if the weights have none."""
    free = machine.memory - 2 * count_parameters(config).total
    return max(int(free // bytes_of_cache(config, context)), 0)


def time_crossover(
    config: HybridConfig, machine: Machine, *, batch_size: int = 1, prefill: bool = False
) -> dict[str, int | None]:
    """From how many tokens on each kind of linear layer takes less time than a softmax layer of the same model, on
    paper: projections included, weights shared by batch_size texts. prefill: a prompt's time instead of a token's.
    None: not within 2^24 tokens. Empty if the model lacks either kind of layer."""
    softmax = growing_layer(config)
    linear = {kind: n for n, kind in enumerate(config.layer_types) if not mixer(kind).softmax}
    if softmax is None:
        return {}

    def seconds(layer: int, tokens: int) -> float:
        if prefill:
            return (2 * mixer_parameters(config, layer) * tokens + prompt_mixing_flops(config, layer, tokens)) / (
                machine.flops
            )
        work = layer_decode_work(config, layer, tokens)
        moved = work.weight_bytes + batch_size * work.state_bytes
        return max(batch_size * work.flops / machine.flops, moved / machine.bandwidth)

    def first(layer: int) -> int | None:
        low, high = 0, LONGEST  # the softmax layer's time only grows: bisection
        if seconds(layer, high) >= seconds(softmax, high):
            return None
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if seconds(layer, middle) < seconds(softmax, middle) else (middle, high)
        return high

    return {kind: first(n) for kind, n in linear.items()}


def ledger(family: str, context: int, batch_size: int = 1) -> dict[str, object]:
    """All entries for one text of `context` tokens in bfloat16, with states in float32. In decoding, batch_size texts
    share the weights. Raises ValueError."""
    check_positive_int("context", context)
    check_positive_int("batch_size", batch_size)
    config, counts = published_config(family), count_parameters(published_config(family))
    work = decode_work(config, context)
    return {
        "family": family,
        "model": ALL_PUBLISHED[family].model,
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
        "batch_size": batch_size,
        "h200_decode_seconds": decode_seconds(config, context, H200, batch_size=batch_size),
        "h200_prefill_seconds": prefill_seconds(config, context, H200),
        "h200_decode_crossover": time_crossover(config, H200, batch_size=batch_size),
        "h200_prefill_crossover": time_crossover(config, H200, prefill=True),
    }


def ledger_text(entry: dict[str, object]) -> str:
    """A few lines for a reader."""
    gib, texts = 2**30, entry["batch_size"]
    lines = {
        "parameters": f"{entry['parameters'] / 1e9:.3g}B, {entry['active_parameters'] / 1e9:.3g}B active for a token",
        "weights": f"{entry['weight_bytes'] / gib:.3g} GiB in bfloat16",
        "cache and state": f"{entry['cache_bytes'] / gib:.3g} GiB for one text",
        "prefill": f"{entry['prefill_flops'] / 1e12:.3g} teraflops",
        "next token": f"{entry['decode_flops'] / 1e9:.3g} gigaflops, "
        f"{entry['decode_weight_bytes'] / gib:.3g} GiB of weights read, "
        f"{entry['decode_state_bytes'] / gib:.3g} GiB of cache and state moved",
        "on an H200": f"at least {entry['h200_prefill_seconds']:.3g} s for the prompt, "
        f"{1e3 * entry['h200_decode_seconds']:.3g} ms for the next token of {_count(texts, 'text')}",
        "state < cache": _crossings(entry["crossover_tokens"]) or "no layer of fixed state beside one that grows",
    }
    if entry["crossover_tokens"]:
        lines["faster in decoding"] = (
            _crossings(entry["h200_decode_crossover"]) + f", {_count(texts, 'text')} at a time"
        )
        lines["faster in prefill"] = _crossings(entry["h200_prefill_crossover"])
    head = f"{entry['model']}, {_count(entry['context'], 'token')}"
    return "\n".join([head, *(f"  {name:18s} {text}" for name, text in lines.items())])


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def _crossings(crossover: dict[str, int | None]) -> str:
    words = {kind: "never" if n is None else f"from {_count(n, 'token')} on" for kind, n in crossover.items()}
    return ", ".join(f"{kind} {when}" for kind, when in words.items())


def main(argv: list[str]) -> int:
    """Print the ledger of one family; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m reference cost", description=__doc__)
    parser.add_argument("--family", choices=list(ALL_PUBLISHED), required=True)
    parser.add_argument(
        "--context", type=token_count, required=True, help="tokens of each text, such as 4096, 256K or 1M"
    )
    parser.add_argument("--batch", type=int, default=1, help="texts that are decoded together (default 1)")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args(argv)
    try:
        entry = ledger(chosen.family, chosen.context, chosen.batch)
    except ValueError as error:
        parser.error(str(error))
    print(json.dumps(entry) if chosen.json else ledger_text(entry))
    return 0
