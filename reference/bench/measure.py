"""Timing side by side, peak memory in a fresh process, and the words for the machine they were measured on."""

import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import torch

Action = Callable[[], object]


class Times(NamedTuple):
    """Seconds of one call: median, fastest, slowest of several."""

    median: float
    low: float
    high: float


def side_by_side(works: dict[str, Action], repeats: int, *, warm_up: int = 1) -> dict[str, Times]:
    """Time several works in turns, so that a slow minute of the machine falls on all of them. Times in seconds."""
    found = time_in_turns(works, repeats, warm_up=warm_up)
    return {name: Times(statistics.median(x), min(x), max(x)) for name, x in found.items()}


def time_in_turns(works: dict[str, Action], repeats: int, *, warm_up: int = 1) -> dict[str, list[float]]:
    """The seconds of each turn, for each work: what side_by_side takes its medians of."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(warm_up + repeats):
        for name, work in works.items():
            began = time.perf_counter()
            work()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if turn >= warm_up:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def paired_ratio(above: list[float], below: list[float]) -> dict[str, float]:
    """Median, smallest and largest of the ratios within the turns: a slow minute falls on both sides of each."""
    ratios = [a / b for a, b in zip(above, below, strict=True)]
    return {"median": statistics.median(ratios), "low": min(ratios), "high": max(ratios)}


def repeated_work(work: Action, times: int) -> Action:
    """A work so short that it is repeated within one measurement; divide the result by `times`."""

    def repeated() -> None:
        for _ in range(times):
            work()

    return repeated


def peak_resident_bytes(script: str, *arguments: str) -> int:
    """What the process of `script` needs at its peak beyond what it held when its inputs existed.

    The script runs in a fresh interpreter, prepares its inputs, calls print_resident(), does the work, and calls
    print_resident(peak=True). Resident memory: what an allocator keeps for later counts. Not on Windows.
    """
    command = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the memory measurement failed:\n{done.stderr[-2000:]}")
    before, after = (int(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("resident "))
    return max(after - before, 0)


def print_resident(*, peak: bool = False) -> None:
    """Print this process's resident memory in bytes, now or at its peak so far."""
    if sys.platform == "linux":  # not getrusage: its peak is inherited from the process that started this one
        with open("/proc/self/status", encoding="ascii") as file:
            fields = dict(line.split(":", 1) for line in file)
        found = 1024 * int(fields["VmHWM" if peak else "VmRSS"].split()[0])
    else:
        import resource  # not on Windows

        found = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS: bytes, and the peak even before the work
    print("resident", found, flush=True)


def describe_machine(device: str) -> dict[str, object]:
    """What the numbers depend on: processor or GPU, threads, versions."""
    found = {
        "processor": torch.cuda.get_device_name() if device == "cuda" else _processor(),
        "threads": torch.get_num_threads(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    try:
        import transformers

        found["transformers"] = transformers.__version__
    except ImportError:
        found["transformers"] = None
    return found


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
        return names[0]
    except (OSError, IndexError):
        return platform.processor() or platform.machine()


def as_json(record: dict) -> str:
    """A record as the text of its file."""
    return json.dumps(record, indent=1) + "\n"
