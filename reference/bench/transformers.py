"""`python -m reference bench transformers`: a small Qwen3-Next, with transformers' delta rule and with ours inside.

Four layers, 3 Gated DeltaNet to 1 gated attention, width 256, random weights: prefill of 8192 tokens and one
training step of 4096, in turns within one run. Attention, experts and projections are transformers' own in both.
"""

import argparse

import torch
from tqdm import tqdm

from reference.bench.measure import as_json, describe_machine, side_by_side
from reference.files import write_text
from reference.integrations.transformers import fast_linear_attention
from reference.options import add_threads, folder_path

CONFIG = {
    "vocab_size": 1024,
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 128,
    "linear_value_head_dim": 128,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 128,
    "shared_expert_intermediate_size": 128,
}


def _run(prefill: int, training: int, repeats: int) -> dict[str, dict]:
    """Medians in seconds and their ratio, for prefill and a training step."""
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.utils import logging

    logging.set_verbosity_error()
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("qwen3_next", **CONFIG))
    ids = torch.randint(0, CONFIG["vocab_size"], (1, max(prefill, training)))

    @torch.no_grad()
    def read() -> None:
        model(ids[:, :prefill], use_cache=True)

    def train() -> None:
        model.zero_grad()
        model(ids[:, :training], labels=ids[:, :training], use_cache=False).loss.backward()

    def ours(work):
        def inside() -> None:
            with fast_linear_attention():
                work()

        return inside

    found = {}
    for name, work in tqdm([(f"prefill {prefill}", read), (f"training step {training}", train)], ascii=True):
        times = side_by_side({"ours": ours(work), "theirs": work}, repeats)
        found[name] = {who: t._asdict() for who, t in times.items()}
        found[name]["ratio"] = times["theirs"].median / times["ours"].median
    return found


def main(argv: list[str]) -> int:
    """Measure transformers' model with both kinds of operators; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m reference bench transformers", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--quick", action="store_true", help="short texts, one repeat")
    add_threads(parser, 2)
    parser.add_argument("--out", type=folder_path, help="folder for bench_transformers.json")
    chosen = parser.parse_args(argv)
    torch.set_num_threads(chosen.threads)
    record = {"machine": describe_machine("cpu"), "config": CONFIG, "quick": chosen.quick}
    record["table"] = _run(256, 128, 1) if chosen.quick else _run(8192, 4096, 3)
    print("| what | transformers with our operators | transformers | ratio |\n|---|---|---|---|")
    for name, entry in record["table"].items():
        ours, theirs = (f"{entry[who]['median']:.3f} s" for who in ("ours", "theirs"))
        print(f"| {name} tokens | {ours} | {theirs} | {entry['ratio']:.1f}x |")
    if chosen.out is not None:
        write_text(chosen.out / "bench_transformers.json", as_json(record))
    return 0
