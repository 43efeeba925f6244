"""Are the outputs of the book the same on other machines? This machine plays them.

    python make.py everywhere                            all chapters under all settings: hours
    python make.py everywhere 02 05 --kinds noise        two chapters, the strictest kind
    python make.py everywhere --kinds openblas mkl       `--list` names the kinds and their settings

Each run executes a chapter in a fresh kernel under one setting and compares outputs as the tests do: text exactly,
figures by their verdict, cells with the tag nbval-ignore-output not at all. Finished runs are kept in build/everywhere
and not repeated until the chapter or reference/ changes. A setting that computes the same bits as this machine does
anyway, or needs another processor, is left out and named. The exit status is 1 where any output differs.

These variables choose other kernels of the same libraries. They are for this tool alone: nothing else sets them.
Other Pythons: `python -m tools.pythons`.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

import nbformat
from nbclient import NotebookClient

from reference.book.manifest import ROOT, Chapter, read_manifest
from reference.files import write_text
from tools.last_bits import VARIABLE as NOISE

RECORDS = ROOT / "build" / "everywhere"
THREADS = "BOOK_THREADS"  # read by START below, in the kernels of this tool and nowhere else
KINDS = {
    "plain": [{}],
    "noise": [{NOISE: str(seed)} for seed in (1, 2, 3)],
    "openblas": [{"OPENBLAS_CORETYPE": name} for name in ("Prescott", "Haswell", "Zen", "SkylakeX")],
    "torch": [{"ATEN_CPU_CAPABILITY": name} for name in ("default", "avx2", "avx512")],
    "mkl": [{"MKL_CBWR": name} for name in ("COMPATIBLE", "AVX2", "AVX512")],
    "onednn": [{"ONEDNN_MAX_CPU_ISA": name} for name in ("SSE41", "AVX2", "AVX512_CORE")],
    "threads": [{THREADS: "2"}],
}
KERNEL_VARIABLES = {name for settings in KINDS.values() for setting in settings for name in setting}
# The sitecustomize of the kernels: Python runs it before the chapter's first line.
START = f"""
import os
from tools import last_bits
last_bits.install_from_environment()
if os.environ.get({THREADS!r}):
    import reference.notebook
    reference.notebook.start.__defaults__ = (int(os.environ[{THREADS!r}]),)
"""
# A few results in which every library has a part; equal bits mean that a setting changes nothing here.
PROBE = """
import hashlib, numpy, torch
import torch.nn.functional as F
torch.set_num_threads(1)
a = numpy.random.default_rng(0).normal(size=(257, 257))
t = torch.tensor(a, dtype=torch.float32)
results = [a @ a, numpy.linalg.inv(a), t @ t, t.double() @ t.double(), t.exp(), t.softmax(1), t.sum(0)]
results.append(F.layer_norm(t, (257,)))
if torch.backends.mkldnn.is_available():
    results.append(torch.ops.mkldnn._linear_pointwise(t, t, None, "none", [], ""))
print(hashlib.sha256(b"".join(numpy.asarray(r).tobytes() for r in results)).hexdigest())
"""


class Run(NamedTuple):
    chapter: Chapter
    setting: dict[str, str]

    @property
    def name(self) -> str:
        return setting_name(self.setting)

    @property
    def record(self) -> Path:
        return RECORDS / f"{self.chapter.name}.{self.name.replace('=', '_')}.json"


class Difference(NamedTuple):
    cell: int
    name: str
    stored: str
    here: str


def setting_name(setting: dict[str, str]) -> str:
    return " ".join(f"{variable}={value}" for variable, value in setting.items()) or "plain"


def kernel_environment(setting: dict[str, str], folder: Path) -> dict[str, str]:
    """The environment of a kernel under one setting; what this shell sets of these variables doesn't count."""
    kept = {k: v for k, v in os.environ.items() if k not in KERNEL_VARIABLES and k != "BOOK_WRITE"}
    (folder / "sitecustomize.py").write_text(START, encoding="utf-8")
    path = os.pathsep.join([str(folder), str(ROOT), *filter(None, [kept.get("PYTHONPATH")])])
    return kept | setting | {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}


def without_effect(settings: list[dict[str, str]]) -> dict[str, str]:
    """setting -> why it tells nothing on this machine."""
    said, known = {}, {}
    for setting in [{}, *settings]:
        with tempfile.TemporaryDirectory() as folder:
            environment = kernel_environment(setting, Path(folder))
            done = subprocess.run([sys.executable, "-c", PROBE], env=environment, capture_output=True, text=True)
        name, bits = setting_name(setting), done.stdout.strip()
        if done.returncode:
            said[name] = f"the processor lacks it (the probe ended with status {done.returncode})"
        elif setting and bits in known and not setting.keys() & {NOISE, THREADS}:
            said[name] = f"the same bits as {known[bits]}"
        known.setdefault(bits, name)
    return said


def differences(stored: nbformat.NotebookNode, executed: nbformat.NotebookNode) -> Iterator[Difference]:
    """The compared outputs that are not the stored ones, by nbval's rules."""
    for i, (old, new) in enumerate(zip(stored.cells, executed.cells, strict=True)):
        if old.cell_type != "code" or "nbval-ignore-output" in old.metadata.get("tags", []):
            continue
        before, after = compared(old), compared(new)
        if before != after:
            lines = zip_longest(before, after, fillvalue="(nothing)")
            pair = next(pair for pair in lines if pair[0] != pair[1])
            yield Difference(i, old.metadata.get("name", ""), *pair)


def compared(cell: nbformat.NotebookNode) -> list[str]:
    """The lines of a cell's outputs that the tests compare; images are not among them."""
    parts: dict[str, list[str]] = {}
    for output in cell.outputs:
        if output.output_type == "error":
            parts.setdefault("error", []).append(f"{output.ename}: {output.evalue}")
        elif output.output_type == "stream":
            parts.setdefault(output.name, []).append(output.text)
        else:
            for kind, value in output.data.items():
                if not kind.startswith("image/"):
                    parts.setdefault(kind, []).append(str(value))
    return [f"{kind}: {line}" for kind in sorted(parts) for part in parts[kind] for line in part.splitlines()]


def compare(notebook: Path, setting: dict[str, str]) -> list[Difference]:
    """What a fresh run under the setting prints otherwise than the stored outputs."""
    return list(differences(nbformat.read(notebook, as_version=4), execute(notebook, setting)))


def execute(notebook: Path, setting: dict[str, str]) -> nbformat.NotebookNode:
    """The notebook run in a fresh kernel under the setting; every cell, also behind one that failed."""
    executed = nbformat.read(notebook, as_version=4)
    client = NotebookClient(
        executed,
        timeout=3600,
        kernel_name="python3",
        allow_errors=True,
        coalesce_streams=True,
        resources={"metadata": {"path": str(ROOT / "chapters")}},
        extra_arguments=["--log-level=ERROR"],
    )
    with tempfile.TemporaryDirectory() as folder:
        client.execute(env=kernel_environment(setting, Path(folder)))
    return executed


def version(chapter: Chapter) -> str:
    """Changes when the chapter, its figures' data or the reference code do."""
    files = [chapter.notebook, *sorted((ROOT / "figures" / "data").glob(f"{chapter.number:02d}_*.json"))]
    files += (
        sorted((ROOT / "reference").rglob("*.py"))
        + sorted((ROOT / "reference" / "manual").iterdir())
        + sorted((ROOT / "tools").glob("last_bits*.py"))
    )
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def finish(run: Run, stale: bool) -> tuple[list[Difference], bool]:
    """The run's differences, from its record where that is still true; and whether it was."""
    known = json.loads(run.record.read_text(encoding="utf-8")) if run.record.exists() else {}
    if known and (stale or known["version"] == version(run.chapter)):
        return [Difference(*row) for row in known["differences"]], True
    now, began = version(run.chapter), time.perf_counter()
    found = compare(run.chapter.notebook, run.setting)
    seconds = round(time.perf_counter() - began, 1)
    write_text(run.record, json.dumps({"version": now, "seconds": seconds, "differences": found}, indent=1) + "\n")
    return found, False


def table(results: dict[tuple[str, str], list[Difference]], names: list[str]) -> str:
    """chapter x setting: = where all is equal, else the number of cells that differ."""
    columns = [f"[{i}] {name}" for i, name in enumerate(names, 1)]
    rows = ["chapter  " + "".join(f"{f'[{i}]':>6}" for i in range(1, len(names) + 1))]
    for chapter in sorted({chapter for chapter, _ in results}):
        found = [results.get((chapter, name)) for name in names]
        marks = ["" if one is None else str(len(one)) if one else "=" for one in found]
        rows.append(f"{chapter[:2]:<9}" + "".join(f"{mark:>6}" for mark in marks))
    return "\n".join([*rows, "", *columns])


def describe(chapter: str, setting: str, found: list[Difference]) -> str:
    lines = [f"{chapter}, {setting}:"]
    for cell, name, stored, here in found:
        lines += [f"  cell {cell} {name}", f"    book  {stored[:150]}", f"    here  {here[:150]}"]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("numbers", nargs="*", type=int, metavar="chapter", help="chapter numbers; none means all")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("--jobs", type=int, default=1, help="chapters side by side (default 1)")
    parser.add_argument("--stale", action="store_true", help="count finished runs of older code too")
    parser.add_argument("--list", action="store_true", help="name all settings and end")
    args = parser.parse_args()
    settings = [setting for kind in args.kinds for setting in KINDS[kind]]
    if args.list:
        print("\n".join(f"{kind:10}{', '.join(map(setting_name, KINDS[kind]))}" for kind in args.kinds))
        return
    chapters = read_manifest().chapters
    unknown = set(args.numbers) - {chapter.number for chapter in chapters}
    if unknown:
        parser.error(f"book.yml has no chapter {sorted(unknown)}")
    if args.jobs < 1:
        parser.error(f"--jobs: expected 1 or more, got {args.jobs}")
    chosen = [chapter for chapter in chapters if not args.numbers or chapter.number in args.numbers]
    idle = without_effect(settings)
    runs = [Run(chapter, s) for s in settings if setting_name(s) not in idle for chapter in chosen]
    sys.exit(report(runs, idle, args.jobs, args.stale))


def report(runs: list[Run], idle: dict[str, str], jobs: int, stale: bool) -> int:
    results = {}
    with ThreadPoolExecutor(jobs) as pool:
        waiting = {pool.submit(finish, run, stale): run for run in runs}
        for n, future in enumerate(as_completed(waiting), 1):
            run, (found, known) = waiting[future], future.result()
            results[run.chapter.name, run.name] = found
            verdict = f"{len(found)} cells differ" if found else "equal"
            print(
                f"[{n}/{len(runs)}] {run.chapter.name}, {run.name}: {verdict}{' (known)' if known else ''}", flush=True
            )
    for (chapter, name), found in sorted(results.items()):
        if found:
            print("\n" + describe(chapter, name, found))
    print("\n" + table(results, list(dict.fromkeys(run.name for run in runs))))
    for name, reason in idle.items():
        print(f"left out here: {name}: {reason}")
    return int(any(results.values()))


if __name__ == "__main__":
    main()
