"""`python -m reference bench model`: a Qwen3.5-style model, ours and transformers', with the same weights.

Eight layers, 3 Gated DeltaNet to 1 gated attention, width 512, heads of 128 in the linear layers; the logits are
compared before anything is timed. Prefill of 4096 tokens, decoding behind 1024, one training step of 2048 tokens,
in turns within one run. Then ours alone: time per decoded token behind longer and longer texts, for an
all-linear stack, whose cache never grows, and an all-softmax one.
"""

import argparse

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from reference.bench.measure import as_json, describe_machine, side_by_side
from reference.files import write_text
from reference.model.cache import new_cache
from reference.model.config import HybridConfig, pattern
from reference.model.hybrid import HybridLM
from reference.options import add_threads, folder_path

MODEL_SIZES = {"vocab_size": 1024, "hidden_size": 512, "intermediate_size": 1536}
HEADS = {"num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 64}
LINEAR = {"linear_num_key_heads": 4, "linear_num_value_heads": 8}
LINEAR |= {"linear_key_head_dim": 128, "linear_value_head_dim": 128}
QWEN = {"partial_rotary_factor": 0.25, "attention_gate": "elementwise", "zero_centered_norm": True}
MODEL_TARGETS = {"prefill": 2.0, "decode": 2.0, "training step": 2.0}
NEW_TOKENS = 16


def our_model(layer_types: tuple[str, ...] = pattern(3, 1, 8)) -> HybridLM:
    """A Qwen3.5-style HybridLM of bench size, with seed 0."""
    torch.manual_seed(0)
    return HybridLM(HybridConfig(layer_types=layer_types, **MODEL_SIZES, **HEADS, **LINEAR, **QWEN))


def their_model() -> nn.Module:
    """transformers' Qwen3.5 of the same sizes."""
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.utils import logging

    logging.set_verbosity_error()
    torch.manual_seed(0)
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    config = AutoConfig.for_model("qwen3_5_text", num_hidden_layers=8, **MODEL_SIZES, **HEADS, **LINEAR, **ids)
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


def compare(tokens: int, repeats: int) -> dict[str, dict]:
    """Medians in seconds, ratios, and how far the logits of the two are apart."""
    ours, theirs = our_model(), their_model()
    give_weights(theirs, ours)
    ids = torch.randint(0, MODEL_SIZES["vocab_size"], (1, tokens), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        a, b = ours(ids[:, :300]), theirs(ids[:, :300]).logits
    apart = ((a - b).abs().max() / b.abs().max()).item()
    if apart > 1e-4:
        raise RuntimeError(f"the two models disagree by {apart:.2g}: nothing to compare")
    works = _ours(ours, ids), _theirs(theirs, ids)
    found = {"logits": {"relative_difference": apart}}
    for name in tqdm(works[0], desc="bench model", ascii=True):
        times = side_by_side({"ours": works[0][name], "theirs": works[1][name]}, repeats)
        per = NEW_TOKENS if name == "decode" else 1
        found[name] = {who: {key: x / per for key, x in t._asdict().items()} for who, t in times.items()}
        found[name] |= {"ratio": times["theirs"].median / times["ours"].median, "target": MODEL_TARGETS[name]}
    return found


@torch.no_grad()
def decode_by_length(lengths: list[int], repeats: int) -> dict[str, dict[str, list[float]]]:
    """Milliseconds per decoded token, and MiB of cache, behind texts of these lengths."""
    found = {}
    for name, layers in (("linear", pattern(1, 0, 8)), ("softmax", pattern(0, 1, 8))):
        model, rows = our_model(layers), {"milliseconds": [], "cache_MiB": []}
        ids = torch.randint(0, MODEL_SIZES["vocab_size"], (1, 1024), generator=torch.Generator().manual_seed(0))
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
    """The record as Markdown: times side by side, ratios, and what the ratios were to be."""
    lines = ["| what | ours | transformers | ratio | wanted |", "|---|---|---|---|---|"]
    for name, row in record["table"].items():
        if "ratio" in row:
            ours, theirs = (f"{1e3 * row[who]['median']:.1f} ms" for who in ("ours", "theirs"))
            lines.append(f"| {name} | {ours} | {theirs} | {row['ratio']:.1f}x | {row['target']:g}x |")
    by = record["decode_by_length"]
    lines += [
        "",
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
    parser.add_argument("--out", type=folder_path, help="folder for bench_model.json")
    chosen = parser.parse_args(argv)
    torch.set_num_threads(chosen.threads)
    record = {"machine": describe_machine("cpu"), "sizes": MODEL_SIZES | HEADS | LINEAR, "quick": chosen.quick}
    record["table"] = compare(1100, 1) if chosen.quick else compare(4096, 5)
    lengths = [256, 1024] if chosen.quick else [1024, 4096, 16384, 65536]
    record["decode_by_length"] = decode_by_length(lengths, 1 if chosen.quick else 5)
    print("\n".join(summary_lines(record)))
    if chosen.out is not None:
        write_text(chosen.out / "bench_model.json", as_json(record))
    return 0
