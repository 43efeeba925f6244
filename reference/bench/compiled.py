"""What the kernels ask of a GPU, found without one: Triton compiles them for an H100, and its tools say what they use.

Registers per thread, bytes per thread that didn't fit into them, and shared memory per program, for bfloat16 inputs
with Dk = Dv = 128. No time: a kernel that spills registers may still be quick, and one that doesn't may be slow.
"""

import importlib
import re
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from reference.kernels import backward, decode, forward, language

H100 = ("cuda", 90, 32)  # what Triton's GPUTarget is called with
INDICES, WHOLE_NUMBERS, HALVES = ("bounds", "chunks", "firsts"), ("H", "HV"), ("q", "k", "v", "o", "do", "dv")
SIZES_128 = {"DK": 128, "DV": 128, "BV": 32, "PRECISION": "tf32"}
COMPILED = {  # kernel and its warps, as host.py starts it
    forward.one_kernel: 4,
    forward.solve_chunks: 4,
    forward.carry_states: 4,
    forward.carry_sums: 4,
    forward.read_chunks: 4,
    backward.ask_values: 4,
    backward.carry_back: 4,
    backward.chunk_gradients: 8,
    decode.decode_token: 4,
}


def compile_all() -> dict[str, dict]:
    """{"kernel, operator": {registers, spilled_bytes, shared_bytes}}; RuntimeError where there is no Triton."""
    if language.triton is None:
        raise RuntimeError("Triton can't be imported: pip install '.[kernels]' (Linux)")
    if getattr(forward.one_kernel, "arg_names", None) is None or not hasattr(forward.one_kernel, "cache_key"):
        raise RuntimeError("TRITON_INTERPRET=1 is set: the kernels are interpreted, and can't be compiled")
    found = {}
    works = [(kernel, C, channel) for C, channel in ((64, False), (16, True)) for kernel in COMPILED]
    for kernel, C, channel in tqdm(works, desc="compiling", ascii=True):
        sizes = {**SIZES_128, "C": C, "ROUNDS": (C - 1).bit_length(), "CHANNEL": channel}
        name = f"{kernel.__name__}, {'KDA' if channel else 'gated delta rule'}"
        found[name] = compile_one(kernel, sizes, COMPILED[kernel])
    return found


def compile_one(kernel: Callable, sizes: dict[str, object], num_warps: int) -> dict[str, int]:
    """Compile one kernel for an H100: what it uses."""
    compiler = importlib.import_module("triton.compiler")
    target = importlib.import_module("triton.backends.compiler").GPUTarget(*H100)
    constants = {name: sizes[name] for name in kernel.arg_names if name in sizes}
    signature = {name: "constexpr" if name in constants else _type_of(name) for name in kernel.arg_names}
    places = {(kernel.arg_names.index(name),): value for name, value in constants.items()}
    source = compiler.ASTSource(kernel, signature, constexprs=places)
    options = {"num_warps": num_warps, "num_stages": 1}
    done = language.triton.compile(source, target=target, options=options)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(done.asm["cubin"])
        tools = Path(importlib.import_module("triton.backends.nvidia").__path__[0]) / "bin"
        command = [str(tools / "cuobjdump"), "-res-usage", str(path)]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    registers, stack = (int(re.search(rf"{word}:(\d+)", said)[1]) for word in ("REG", "STACK"))
    return {"registers": registers, "spilled_bytes": stack, "shared_bytes": done.metadata.shared}


def _type_of(name: str) -> str:
    if name in INDICES:
        return "*i64"
    if name in WHOLE_NUMBERS:
        return "i32"
    if name == "scale":
        return "fp32"
    return "*bf16" if name in HALVES else "*fp32"


def compiled_summary(record: dict) -> str:
    """A line per kernel."""
    lines = [f"Triton {record['triton']}, compiled for an H100 (sm_90); bfloat16, Dk = Dv = 128", ""]
    for name, entry in record["kernels"].items():
        lines.append(
            f"{name:38s} {entry['registers']:3d} registers, {entry['spilled_bytes']:5d} bytes spilled per thread, "
            f"{entry['shared_bytes'] / 2**10:3.0f} KiB shared"
        )
    return "\n".join(lines)
