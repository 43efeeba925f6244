"""Run by test_interpreter.py: the kernels of chapter 14, cell by cell as they stand, under @triton.jit.

Writes them into a file as the chapter tells its readers to, runs them in Triton's interpreter and in the emulation on
the same inputs, and prints for each kernel the largest difference.
"""

import importlib.util
import re
import sys
import tempfile
from functools import partial
from pathlib import Path

import nbformat
import numpy as np
import torch

from reference.book.manifest import read_manifest
from reference.kernels.emulation import emulate

HEAD = "import triton\nimport triton.language as tl\n"
WANTED = ("double", "token-kernel", "load-tile", "scores-kernel", "block-inverse", "chunk-kernel")


def chapter_kernels() -> object:
    """The module of the cells that define kernels."""
    chapter = next(c for c in read_manifest().chapters if c.number == 14)
    cells = nbformat.read(chapter.notebook, as_version=4).cells
    sources = [c.source for c in cells if c.metadata.get("name") in WANTED]
    assert len(sources) == len(WANTED), f"chapter 14 has {len(sources)} of the cells {WANTED}"
    text = HEAD + "\n\n".join(re.sub(r"^def ", "@triton.jit\ndef ", source, flags=re.M) for source in sources)
    path = Path(tempfile.mkdtemp()) / "chapter_14_kernels.py"
    path.write_text(text, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def main() -> None:
    kernels, rng = chapter_kernels(), np.random.default_rng(0)
    T, H, D, C = 11, 2, 16, 16
    q, k, v = (torch.from_numpy(rng.normal(size=(T, H, D)).astype(np.float32)) for _ in range(3))
    k = k / k.norm(dim=-1, keepdim=True)
    g, beta = -torch.rand(T, H), torch.rand(T, H)
    x, heads = torch.arange(10.0), {"DK": D, "DV": D}
    calls = {
        "double": ((3,), (x, torch.zeros(10), 10), {"BLOCK": 4}, 1),
        "token_kernel": ((H,), (q, k, v, g, beta, torch.zeros_like(v), 0.25, T, H), heads, 5),
        "scores_kernel": ((1, H), (q, k, g, torch.zeros(H, C, C), T, H), {"DK": D, "C": C}, 3),
        "chunk_kernel": (
            (H, 1),
            (q, k, v, g, beta, torch.zeros_like(v), 0.25, T, H),
            {**heads, "BV": D, "C": C, "ROUNDS": 4},
            5,
        ),
    }
    for name, (grid, arguments, constants, out) in calls.items():
        kernel, found = getattr(kernels, name), []
        for run in (kernel[grid], partial(emulate, kernel, grid)):
            arguments[out].zero_()
            run(*arguments, **constants)
            found.append(arguments[out].clone())
        assert found[0].abs().max() > 0, f"{name} wrote nothing"
        print(f"{name}: {(found[0] - found[1]).abs().max().item():.1e}")


if __name__ == "__main__":
    main()
