"""`python -m reference bench kernels`: our Triton kernels on a GPU beside the PyTorch loop and, where it is there, fla.

One run measures all sides in turns, in bfloat16 with a float32 state, Dk = Dv = 128. A ratio is the other side's time
over the kernels'; "share" is the rate of the multiplications that (4.15) asks for over that of a 4096-cubed bfloat16
product on the same card. Peak memory is what the allocator held above the inputs. Nothing here runs without a GPU.
"""

import argparse
import importlib
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from reference.bench.compiled import compile_all, compiled_summary
from reference.bench.measure import Action, as_json, describe_machine, repeated_work, side_by_side
from reference.bench.ops import multiply_adds
from reference.files import write_text
from reference.kernels import choice, language
from reference.kernels.host import kernel_decode, kernel_form
from reference.ops import chunk_gated_delta_rule, decode_step
from reference.options import folder_path

KERNEL_HEADS, KERNEL_LENGTHS, KERNEL_WIDTH, KERNEL_CHUNK = (16, 64, 256), (1024, 4096, 16384, 65536), 128, 64
MOST_TOKENS = 2**22  # B x heads x T of one call: what an 80 GB card holds, forward and backward
NEEDS_GPU = (
    "bench kernels: this machine has no CUDA GPU that PyTorch can use, and the kernels are only worth timing on one. "
    "Their numbers are tested without: python -m pytest tests/kernels"
)

Side = Callable[..., tuple[Tensor, Tensor | None]]


def kernel_inputs(BH: int, T: int, device: str, D: int = KERNEL_WIDTH) -> list[Tensor]:
    """q, k, v, g, beta with BH memories, 16 heads to a row; bfloat16, the gates float32."""
    torch.manual_seed(0)
    B, H = max(BH // 16, 1), min(BH, 16)
    q, k, v = (torch.randn(B, T, H, D, device=device) for _ in range(3))
    q, k = (x / x.norm(dim=-1, keepdim=True) for x in (q, k))
    g, beta = -torch.rand(B, T, H, device=device), torch.rand(B, T, H, device=device)
    return [q.bfloat16(), k.bfloat16(), v.bfloat16(), g, beta]


def own_kernels(q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
    """Our kernels, whatever `takes_kernel` would choose."""
    return kernel_form(q, k, v, g, beta, None, q.shape[-1] ** -0.5, [0, q.shape[1]], KERNEL_CHUNK)


def rivals_on_gpu(missing: list[str]) -> dict[str, Side]:
    """Who is measured; `missing` gets a sentence for each that isn't there."""

    def pytorch(*tensors: Tensor) -> tuple[Tensor, Tensor | None]:
        return without_kernels(lambda: chunk_gated_delta_rule(*tensors))

    found: dict[str, Side] = {"kernels": own_kernels, "PyTorch loop": pytorch}
    try:
        theirs = importlib.import_module("fla.ops.gated_delta_rule").chunk_gated_delta_rule
    except ImportError as error:
        missing.append(f"fla can't be imported ({error}): its columns are empty")
        return found
    return found | {"fla": theirs}


def without_kernels(work: Callable) -> object:
    """Run a work with the operators' PyTorch forms."""
    chosen, choice.takes_kernel = choice.takes_kernel, lambda *_: False
    try:
        return work()
    finally:
        choice.takes_kernel = chosen


def measure_kernels(
    device: str, heads: tuple[int, ...], lengths: tuple[int, ...], repeats: int, D: int = KERNEL_WIDTH
) -> dict:
    """All rows of the table: {name: {side: {median, low, high}, ratio to each other side, share, peak}}."""
    missing: list[str] = []
    found, table = rivals_on_gpu(missing), {}
    shapes = [(BH, T) for BH in heads for T in lengths if BH * T <= MOST_TOKENS]
    for BH, T in tqdm(shapes, desc="bench kernels", ascii=True):
        tensors = kernel_inputs(BH, T, device, D)
        leaves = [x.clone().requires_grad_() for x in tensors]
        do = torch.randn_like(tensors[2])
        forward = {who: lambda op=op, x=tensors: op(*x) for who, op in found.items()}
        both = {who: lambda op=op, x=leaves, do=do: op(*x)[0].backward(do) for who, op in found.items()}
        rate = multiply_adds(T, BH, KERNEL_CHUNK) * (D / KERNEL_WIDTH) ** 2
        with torch.no_grad():
            table[f"forward {BH} x {T}"] = timed_row(forward, repeats, device, rate)
        table[f"forward+backward {BH} x {T}"] = timed_row(both, repeats, device)
    for BH in heads:
        table[f"decode {BH}"] = _decode(BH, device, repeats, D)
    return {"machine": describe_machine(device), "table": table, "missing": missing, "matmul": product_rate(device)}


def timed_row(works: dict[str, Action], repeats: int, device: str, rate: float | None = None) -> dict:
    """Seconds of each side, the ratios, the multiplications per second where they are known, and peak bytes."""
    times = side_by_side(works, repeats)
    entry: dict = {who: t._asdict() for who, t in times.items()}
    entry["ratios"] = {who: t.median / times["kernels"].median for who, t in times.items() if who != "kernels"}
    if rate is not None:
        entry["multiplications_per_second"] = rate / times["kernels"].median
    if device == "cuda":
        entry["peak_bytes"] = {who: _peak(work) for who, work in works.items()}
    return entry


def product_rate(device: str) -> float:
    """Multiplications per second of a large bfloat16 product on this device."""
    n = 4096 if device == "cuda" else 256
    a = torch.randn(n, n, device=device, dtype=torch.bfloat16)
    return n**3 / side_by_side({"product": lambda: a @ a}, 5)["product"].median


def _peak(work: Action) -> int:
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    work()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


@torch.no_grad()
def _decode(BH: int, device: str, repeats: int, D: int) -> dict:
    q, k, v, g, beta = (x[:, 0].contiguous() for x in kernel_inputs(BH, 1, device, D))
    state = torch.zeros(*v.shape[:2], D, D, device=device)
    works = {
        "kernels": lambda: kernel_decode(q, k, v, g, beta, state, state, D**-0.5),
        "PyTorch loop": lambda: without_kernels(lambda: decode_step(q, k, v, g, beta, state)),
    }
    many = 100 if device == "cuda" else 1
    return timed_row({who: repeated_work(work, many) for who, work in works.items()}, repeats, device)


def kernel_summary(record: dict) -> str:
    """What the command prints: the card, and a line per row."""
    about = record["machine"]
    lines = [
        f"{about['processor']}, torch {about['torch']}; bfloat16, Dk = Dv = {KERNEL_WIDTH}, B x heads x tokens",
        "",
    ]
    for name, entry in record["table"].items():
        ratios = ", ".join(f"{who} {ratio:.2f}x" for who, ratio in entry["ratios"].items())
        share = entry.get("multiplications_per_second")
        words = "" if share is None else f", {100 * share / record['matmul']:.0f} % of a product's rate"
        lines.append(f"{name:28s} {1e3 * entry['kernels']['median']:9.3f} ms; {ratios}{words}")
    return "\n".join([*lines, "", *record["missing"]]).rstrip()


def _compile(folder: Path | None) -> int:
    try:
        record = {"triton": getattr(language.triton, "__version__", None), "kernels": compile_all()}
    except RuntimeError as error:
        print(f"bench kernels: {error}", file=sys.stderr)
        return 1
    print(compiled_summary(record))
    _store(record, folder, "bench_kernels_compiled.json")
    return 0


def _store(record: dict, folder: Path | None, name: str) -> None:
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / name, as_json(record))


def main(argv: list[str]) -> int:
    """Measure the kernels; returns the exit status, 1 where there is no GPU or no Triton."""
    parser = argparse.ArgumentParser(prog="python -m reference bench kernels", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--quick", action="store_true", help="two shapes, under a minute")
    parser.add_argument("--out", type=folder_path, help="folder for the record")
    parser.add_argument("--compile", action="store_true", help="compile for an H100 instead; needs Triton and no GPU")
    chosen = parser.parse_args(argv)
    if chosen.compile:
        return _compile(chosen.out)
    if not torch.cuda.is_available():
        print(NEEDS_GPU, file=sys.stderr)
        return 1
    if choice.machine_lacks():
        print(f"bench kernels: the kernels can't run here: {choice.machine_lacks()}.", file=sys.stderr)
        return 1
    heads, lengths = ((16,), (1024, 4096)) if chosen.quick else (KERNEL_HEADS, KERNEL_LENGTHS)
    record = measure_kernels("cuda", heads, lengths, 3 if chosen.quick else 9)
    print(kernel_summary(record))
    _store(record, chosen.out, "bench_kernels.json")
    return 0
