"""`python -m reference bench ops`: the operators against transformers' fallbacks, in one run.

A ratio is theirs over ours, the median over turns in which both run, so that a slow minute falls on both, with the
smallest and the largest. "Share of matmul" is the rate of multiply-adds that the chunked equations ask for, per token
and value head 3 Dk Dv + 2 C (Dk + Dv) + C^2 / 2 (equation 4.15 of chapter 04), over that of a 2048-cubed float32
matrix product.
Peak memory is resident memory of a fresh process above what it held when its inputs existed.
"""

import argparse
import statistics

import torch
from tqdm import tqdm

from reference.bench.measure import (
    as_json,
    describe_machine,
    paired_ratio,
    peak_resident_bytes,
    repeated_work,
    side_by_side,
    time_in_turns,
)
from reference.files import write_text
from reference.ops import (
    chunk_delta_rule,
    chunk_gated_delta_rule,
    chunk_kda,
    chunk_lightning_attention,
    chunk_linear_attention,
    decode_step,
    recurrent_gated_delta_rule,
    softmax_attention,
)
from reference.options import add_device, add_threads, folder_path

D = 128  # Dk = Dv, as in Qwen3-Next and Kimi Linear
SHAPES = [(2048, 32), (8192, 8), (8192, 32)]
OPERATOR_TARGETS = {"forward 2048 x 32": 3.0, "forward 8192 x 8": 3.0, "forward 8192 x 32": 4.5}
OPERATOR_TARGETS |= {"forward+backward 8192 x 8": 20.0, "decode 32 heads": 2.0, "peak memory 8192 x 8": 2.0}
MEMORY_SCRIPT = """
import sys, torch
from reference.bench.measure import print_resident
from reference.bench.ops import rivals, tensors
torch.set_num_threads(int(sys.argv[4]))
inputs = [x.requires_grad_() for x in tensors(int(sys.argv[2]), int(sys.argv[3]), "cpu")]
operator = rivals()[sys.argv[1]]
small = [x[:, :128].detach().requires_grad_() for x in inputs]
operator(*small)[0].sum().backward()
do = torch.randn_like(inputs[2])
print_resident()
operator(*inputs)[0].backward(do)
print_resident(peak=True)
"""


def tensors(T: int, H: int, device: str) -> list[torch.Tensor]:
    """q, k, v, g, beta of one sequence: unit keys, decays between 0 and -1."""
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, T, H, D, device=device) for _ in range(3))
    q, k = (x / x.norm(dim=-1, keepdim=True) for x in (q, k))
    return [q, k, v, -torch.rand(1, T, H, device=device), torch.rand(1, T, H, device=device)]


def rivals() -> dict[str, object]:
    """ours and, where transformers is installed, theirs: (q, k, v, g, beta) -> (o, state)."""
    found = {"ours": chunk_gated_delta_rule}
    try:
        from transformers.models.qwen3_next.modeling_qwen3_next import torch_chunk_gated_delta_rule
        from transformers.utils import logging
    except ImportError:
        return found
    logging.set_verbosity_error()  # it would say at every first call that it falls back to these functions
    return found | {"theirs": torch_chunk_gated_delta_rule}


def multiply_adds(T: int, H: int, C: int) -> float:
    """What (4.4) to (4.6) ask for."""
    return T * H * (3 * D * D + 4 * C * D + C**2 / 2)  # (4.15)


def add_times(table: dict, name: str, seconds: dict[str, list[float]], *, per: int = 1) -> None:
    """One row, from the seconds of each turn: those per call of ours and theirs, their ratio, and the one wanted."""
    entry = {
        who: {"median": statistics.median(x) / per, "low": min(x) / per, "high": max(x) / per}
        for who, x in seconds.items()
    }
    if "theirs" in seconds:
        found = paired_ratio(seconds["theirs"], seconds["ours"])
        entry |= {"ratio": found["median"], "ratio_low": found["low"], "ratio_high": found["high"]}
        entry["turns"] = len(seconds["ours"])
    if name in OPERATOR_TARGETS:
        entry["target"] = OPERATOR_TARGETS[name]
    table[name] = entry


def table_rows(record: dict) -> list[str]:
    """The table of a record, as Markdown with aligned columns."""
    rows = [("what", "ours", "transformers", "ratio")]
    for name, entry in record["table"].items():
        ours, theirs = (_amount(entry[who]) if who in entry else "-" for who in ("ours", "theirs"))
        ratio = f"{entry['ratio']:.1f}x" if "ratio" in entry else "-"
        if "ratio_low" in entry:  # older records have no spread
            ratio += f" ({entry['ratio_low']:.1f} to {entry['ratio_high']:.1f})"
        rows.append((name, ours, theirs, ratio))
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return [f"| {line} |" for line in (lines[0], " | ".join("-" * width for width in widths), *lines[1:])]


def _amount(measured: dict) -> str:
    return f"{measured['bytes'] / 2**20:.0f} MiB" if "bytes" in measured else _duration(measured["median"])


def _duration(seconds: float) -> str:
    return (
        f"{seconds:.2f} s"
        if seconds >= 1
        else f"{1e3 * seconds:.1f} ms"
        if seconds >= 1e-3
        else f"{1e6 * seconds:.0f} µs"
    )


def _run(device: str, quick: bool) -> dict:
    """All measurements: the record that is stored."""
    table, operators = {}, rivals()
    shapes = [(T // 8, max(H // 4, 2)) for T, H in SHAPES] if quick else SHAPES
    repeats, long = (2, 512) if quick else (7, 8192)
    steps = [
        *[lambda T=T, H=H: _forward(table, operators, T, H, device, repeats) for T, H in shapes],
        lambda: _forward_backward(table, operators, long, 8, device, 1 if quick else 3),
        lambda: _forward_backward(table, operators, 2 * long, 8, device, 1, ours_only=quick),
        lambda: _decode(table, device, 20 if quick else 200),
        lambda: _family(table, long // 4, 8, device, repeats),
    ]
    if device == "cpu" and not quick:
        steps.append(lambda: _memory(table, operators, long))
    for step in tqdm(steps, desc="bench ops", ascii=True):
        step()
    record = {"machine": describe_machine(device), "D": D, "quick": quick, "table": table}
    shares = _share_of_matmul(shapes, device, repeats)
    record["share_of_matmul"] = {shape: share["median"] for shape, share in shares.items()}
    record["share_of_matmul_spread"] = {shape: [share["low"], share["high"]] for shape, share in shares.items()}
    record["growth"] = _growth(table, long)
    record["lengths"] = _lengths(device, 1 if quick else 3, 2048 if quick else 16384)
    return record


@torch.no_grad()
def _forward(table: dict, operators: dict, T: int, H: int, device: str, repeats: int) -> None:
    inputs = tensors(T, H, device)
    works = {name: lambda op=op: op(*inputs) for name, op in operators.items()}
    add_times(table, f"forward {T} x {H}", time_in_turns(works, repeats))


def _forward_backward(table, operators, T, H, device, repeats, *, ours_only=False) -> None:
    inputs = [x.requires_grad_() for x in tensors(T, H, device)]
    do = torch.randn_like(inputs[2])
    chosen = {"ours": operators["ours"]} if ours_only else operators
    works = {name: lambda op=op: torch.autograd.grad(op(*inputs)[0], inputs, do) for name, op in chosen.items()}
    add_times(table, f"forward+backward {T} x {H}", time_in_turns(works, repeats))


@torch.no_grad()
def _decode(table: dict, device: str, times: int) -> None:
    theirs = None
    if "theirs" in rivals():
        from transformers.models.qwen3_next.modeling_qwen3_next import torch_recurrent_gated_delta_rule as theirs
    keywords = {"use_qk_l2norm_in_kernel": True}
    for H in (8, 32):
        q, k, v, g, beta = tensors(1, H, device)
        state = torch.zeros(1, H, D, D, device=device)
        token = [x[:, 0].contiguous() for x in (q, k, v, g, beta)]
        full = keywords | {"initial_state": state.clone(), "output_final_state": True}
        works = {"ours": repeated_work(lambda a=token, s=state: decode_step(*a, s, **keywords), times)}
        slow = {"ours": repeated_work(lambda a=(q, k, v, g, beta), f=full: recurrent_gated_delta_rule(*a, **f), times)}
        if theirs is not None:
            works["theirs"] = slow["theirs"] = repeated_work(
                lambda a=(q, k, v, g, beta), f=full: theirs(*a, **f), times
            )
        add_times(table, f"decode {H} heads", time_in_turns(works, 5), per=times)
        add_times(table, f"decode {H} heads, recurrent operator", time_in_turns(slow, 3), per=times)


@torch.no_grad()
def _family(table: dict, T: int, H: int, device: str, repeats: int) -> None:
    q, k, v, g, beta = tensors(T, H, device)
    channels = -torch.rand(1, T, H, D, device=device)
    works = {
        "linear attention": {"ours": lambda: chunk_linear_attention(q, k, v)},
        "lightning attention": {"ours": lambda: chunk_lightning_attention(q, k, v, g)},
        "delta rule": {"ours": lambda: chunk_delta_rule(q, k, v, beta)},
        "KDA": {"ours": lambda: chunk_kda(q, k, v, channels, beta)},
    }
    if "theirs" in rivals():
        from transformers.models.kimi_linear.modeling_kimi_linear import chunk_kimi_delta_attention as kda

        works["KDA"]["theirs"] = lambda: kda(q, k, v, channels, beta)
    for name, pair in works.items():
        add_times(table, f"{name}, forward {T} x {H}", time_in_turns(pair, min(repeats, 3)))


def _memory(table: dict, operators: dict, T: int) -> None:
    threads = str(torch.get_num_threads())
    peaks = {name: peak_resident_bytes(MEMORY_SCRIPT, name, str(T), "8", threads) for name in operators}
    entry = {name: {"bytes": peak} for name, peak in peaks.items()}
    name = f"peak memory {T} x 8"
    if "theirs" in peaks:
        entry["ratio"] = peaks["theirs"] / peaks["ours"]
    if name in OPERATOR_TARGETS:
        entry["target"] = OPERATOR_TARGETS[name]
    table[name] = entry


@torch.no_grad()
def _share_of_matmul(shapes: list, device: str, repeats: int) -> dict[str, dict[str, float]]:
    """The operator's rate over a matrix product's, both measured now in turns: median, smallest, largest."""
    a, b = (torch.randn(2048, 2048, device=device) for _ in range(2))
    shares = {}
    for T, H in shapes:
        inputs = tensors(T, H, device)
        works = {"matmul": lambda: a @ b, "ours": lambda x=inputs: chunk_gated_delta_rule(*x)}
        seconds = time_in_turns(works, repeats)
        work = multiply_adds(T, H, 64) / 2048**3  # in products of that size
        shares[f"{T} x {H}"] = paired_ratio([work * x for x in seconds["matmul"]], seconds["ours"])
    return shares


def _growth(table: dict, T: int) -> dict[str, float]:
    """Time of forward + backward at twice the length over that at T."""
    one, two = (table[f"forward+backward {n * T} x 8"] for n in (1, 2))
    return {who: two[who]["median"] / one[who]["median"] for who in ("ours", "theirs") if who in two and who in one}


@torch.no_grad()
def _lengths(device: str, repeats: int, longest: int, H: int = 8) -> dict:
    """Milliseconds forward against length: chunks, softmax attention, and token by token up to 1024 tokens."""
    found: dict[str, list] = {"T": [], "chunks": [], "softmax": [], "recurrent": []}
    for T in [2**n for n in range(7, 20) if 2**n <= longest]:
        inputs = tensors(T, H, device)
        works = {
            "chunks": lambda x=inputs: chunk_gated_delta_rule(*x),
            "softmax": lambda x=inputs: softmax_attention(*x[:3]),
        }
        if T <= 1024:
            works["recurrent"] = lambda x=inputs: recurrent_gated_delta_rule(*x)
        times = side_by_side(works, repeats)
        found["T"].append(T)
        for name in ("chunks", "softmax", "recurrent"):
            found[name].append(1e3 * times[name].median if name in times else None)
    return found


def summary(record: dict) -> str:
    """What the command prints: the machine, the table, the share of a matrix product's rate, the growth."""
    about = record["machine"]
    versions = f"torch {about['torch']}, transformers {about['transformers']}"
    where = f"{about['processor']}, {about['threads']} threads, {versions}"
    shares = ", ".join(f"{shape}: {_percent(record, shape)}" for shape in record["share_of_matmul"])
    growing = ", ".join(f"{who} {x:.2f}x" for who, x in record["growth"].items())
    last = [
        f"share of a 2048-cubed float32 matmul's rate: {shares}",
        f"growth from T to 2 T, forward+backward: {growing}",
    ]
    if about["transformers"] is None:
        last.append("transformers is not installed: pip install transformers==5.23.0 adds the comparison")
    return "\n".join([f"{where}; float32, B = 1, Dk = Dv = {D}, tokens x heads", "", *table_rows(record), "", *last])


def _percent(record: dict, shape: str) -> str:
    median, spread = record["share_of_matmul"][shape], record.get("share_of_matmul_spread")
    if spread is None:
        return f"{100 * median:.0f} %"
    low, high = spread[shape]
    return f"{100 * median:.0f} % ({100 * low:.0f} to {100 * high:.0f})"


def main(argv: list[str]) -> int:
    """Measure the operators; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m reference bench ops", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--quick", action="store_true", help="small shapes, under a minute; the targets don't apply")
    add_threads(parser, 2)
    add_device(parser)
    parser.add_argument("--out", type=folder_path, help="folder for bench_ops.json and bench_ops.svg")
    chosen = parser.parse_args(argv)
    torch.set_num_threads(chosen.threads)
    record = _run(chosen.device, chosen.quick)
    print(summary(record))
    if chosen.out is not None:
        from reference.plotting.bench import save_lengths

        chosen.out.mkdir(parents=True, exist_ok=True)
        write_text(chosen.out / "bench_ops.json", as_json(record))
        save_lengths(record, chosen.out / "bench_ops.svg")
    return 0
