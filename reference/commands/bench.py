"""`python -m reference bench <what>`: speed and memory, measured side by side in one run. Never part of a test."""

import argparse
import importlib
import sys

BENCHES = {
    "ops": "the operators against transformers' CPU fallbacks and softmax attention",
    "model": "a Qwen3.5-style model, ours and transformers' with the same weights",
    "kernels": "the Triton kernels beside fla's and the PyTorch loop, on a GPU",
    "load": "a checkpoint of about 1 GB: peak memory over its weights",
    "ledger": "every mixer: flops, bytes, peak memory and time over length beside the formulas (chapter 11)",
    "transformers": "a tiny Qwen3-Next with transformers' operators and with ours inside",
}


def main(argv: list[str]) -> int:
    """Run one bench, or name them all; returns the exit status."""
    listed = "\n".join(f"  {name:13s} {what}" for name, what in BENCHES.items())
    if not argv:
        print(f"bench: which one? Give a name.\n{listed}", file=sys.stderr)
        return 2
    parser = argparse.ArgumentParser(
        prog="python -m reference bench",
        description=__doc__,
        epilog=f"benches:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("bench", choices=list(BENCHES), metavar="bench")
    chosen = parser.parse_args(argv[:1]).bench
    return importlib.import_module(f"reference.bench.{chosen}").main(argv[1:])
