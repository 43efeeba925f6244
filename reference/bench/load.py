"""Peak memory and seconds of loading a checkpoint of about 1 GB, as a share of its weights."""

import argparse
import tempfile
import time
from pathlib import Path

import torch

from reference.bench.measure import as_json, describe_machine, peak_resident_bytes
from reference.checkpoints import save_pretrained
from reference.files import write_text
from reference.model.config import HybridConfig, preset
from reference.model.hybrid import HybridLM
from reference.options import add_threads, folder_path

ONE_GIGABYTE = {"hidden_size": 1024, "vocab_size": 32_000, "intermediate_size": 2048, "num_experts": 36}
ONE_GIGABYTE |= {"moe_intermediate_size": 1024, "shared_expert_intermediate_size": 1024, "num_nextn_predict_layers": 0}

SCRIPT = """
import sys
import torch
import reference.checkpoints, reference.model.hybrid
from reference.bench.measure import print_resident
print_resident()
model = reference.checkpoints.load_pretrained(sys.argv[1])
print_resident(peak=True)
"""


def main(argv: list[str]) -> int:
    """Measure the loading of a checkpoint; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m reference bench load", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a fifth of the size")
    add_threads(parser, 2)
    parser.add_argument("--out", type=folder_path, help="folder for bench_load.json")
    chosen = parser.parse_args(argv)
    torch.set_num_threads(chosen.threads)
    sizes = ONE_GIGABYTE | ({"num_experts": 4} if chosen.quick else {})
    config = HybridConfig.from_dict(preset("tiny_moe").to_dict() | sizes)
    table = {}
    with tempfile.TemporaryDirectory() as folder:
        model = HybridLM(config).to(torch.bfloat16)
        weights = sum(p.nbytes for p in model.parameters())
        for name, most in (("one file", 10**10), ("shards", 2 * 10**8)):
            place = Path(folder) / name
            save_pretrained(model, place, max_shard_bytes=most)
            began = time.perf_counter()
            peak = peak_resident_bytes(SCRIPT, str(place))
            table[name] = {"peak_over_weights": peak / weights, "seconds": time.perf_counter() - began}
    record = {"machine": describe_machine("cpu"), "config": config.to_dict(), "quick": chosen.quick}
    record |= {"weights_MB": weights / 1e6, "table": table}
    print(f"{weights / 1e6:.0f} MB of weights")
    print("\n| files | peak memory / weights | seconds, with Python's start |\n|---|---|---|")
    for name, entry in table.items():
        print(f"| {name} | {entry['peak_over_weights']:.3f} | {entry['seconds']:.1f} |")
    if chosen.out is not None:
        write_text(chosen.out / "bench_load.json", as_json(record))
    return 0
