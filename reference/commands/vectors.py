"""Conformance vectors: small inputs with the right answers, for ports of these operators to other languages.

`python -m reference vectors --out DIR` writes one safetensors file per case and manifest.json;
`python -m reference vectors --check DIR` runs this package's chunked forms against such a folder.

How to use them from Metal, Rust, JAX, C, ...: read manifest.json. Each case names its operator, its keywords
(scale, cu_seqlens, use_qk_l2norm_in_kernel), the shape and dtype of every tensor, a relative tolerance, and what
makes it awkward. Tensors are row-major float32, exact as stored, with the axes of reference/ops/__init__.py:
q, k [B, T, H, Dk]; v [B, T, HV, Dv]; g [B, T, HV] ([B, T, HV, Dk] for kda; -inf is allowed); beta [B, T, HV];
initial_state [B, HV, Dk, Dv]. Compute o and final_state and compare

    max |got - wanted| / max |wanted| <= tolerance

with the tensors of the same name. For the backward, take d_o and d_final_state as the gradients that arrive, and
compare with d_q, d_k, ... The answers were computed in float64 by the recurrence, one token at a time, and rounded
once. The same command writes the same bytes on every machine with the same versions.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from reference.files import write_bytes, write_text
from reference.ops import OPERATORS, causal_conv

FORMAT = 1
NOT_WHOLE = (OSError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError)
TOLERANCE = {"o": 2e-5, "final_state": 2e-5, "gradient": 1e-4}
EQUATIONS = {
    "linear_attention": "S_t = S_{t-1} + k_t v_t^T",
    "lightning_attention": "S_t = e^{g_t} S_{t-1} + k_t v_t^T",
    "delta_rule": "u_t = beta_t (v_t - S_{t-1}^T k_t);  S_t = S_{t-1} + k_t u_t^T",
    "gated_delta_rule": "S' = e^{g_t} S_{t-1};  u_t = beta_t (v_t - S'^T k_t);  S_t = S' + k_t u_t^T",
    "kda": "S' = Diag(e^{g_t}) S_{t-1};  u_t = beta_t (v_t - S'^T k_t);  S_t = S' + k_t u_t^T",
    "causal_conv": "y_t = silu(sum_i weight[W-1-i] x_{t-i} + bias)",
}
# name -> (sizes, what is done to the inputs, keywords, why it is awkward)
CASES = {
    "one_token": ({"T": 1}, None, {}, "a single token: no earlier token, no triangle"),
    "odd_length": ({"T": 65}, None, {}, "one token more than a chunk of 64"),
    "grouped_heads": ({"T": 20, "H": 2, "HV": 6}, None, {}, "value head j reads key head j // 3"),
    "values_longer_than_keys": ({"T": 33, "Dk": 4, "Dv": 12}, None, {}, "the state is not square"),
    "scaled": ({"T": 12}, None, {"scale": 0.3}, "scale multiplies o, not the state"),
    "l2norm": ({"T": 40}, "long", {"use_qk_l2norm_in_kernel": True}, "q and k of any length, some keys zero; eps 1e-6"),
    "overshooting_beta": ({"T": 70}, "mirror", {}, "beta up to 2: eigenvalues down to -1"),
    "strong_decay": ({"T": 70}, "strong", {}, "gates of -30 and -1e4 among mild ones"),
    "full_reset": ({"T": 70}, "reset", {}, "g = -inf at three tokens; its own gradient is 0"),
    "one_key": ({"T": 70}, "repeat", {}, "the same key at every token"),
    "zero_beta": ({"T": 20}, "silent", {}, "every other token writes nothing"),
    "packed": ({"T": 40}, None, {"cu_seqlens": [0, 1, 18, 40]}, "three sequences in one row, a state for each"),
}


def _build_inputs(name: str, sizes: dict[str, int], change: str | None, n_states: int, seed: int) -> dict[str, Tensor]:
    """The float32 inputs of one case."""
    op, rng = OPERATORS[name], np.random.default_rng(seed)
    size = {"B": 1, "H": 1, "HV": None, "Dk": 8, "Dv": 8} | sizes
    B, T, H, Dk, Dv = (size[key] for key in ("B", "T", "H", "Dk", "Dv"))
    HV = size["HV"] or H
    q, k = (_unit(rng.normal(size=(B, T, H, Dk))) for _ in range(2))
    found = {"q": q, "k": k, "v": rng.normal(size=(B, T, HV, Dv))}
    g = -rng.uniform(0, 0.3, size=(B, T, HV, Dk) if op.channel_decay else (B, T, HV))
    beta = rng.uniform(0, 2 if change == "mirror" else 1, size=(B, T, HV))
    if change == "long":
        found["q"], found["k"] = 3 * q, 5 * k
        found["k"][:, 3:5] = 0
    if change == "strong":
        g[:, [5, 6, 40]] = -30
        g[:, 20] = -1e4
    if change == "reset":
        g[:, [0, 7, 64]] = -np.inf
    if change == "repeat":
        found["k"] = np.repeat(k[:, :1], T, axis=1)
    if change == "silent":
        beta[:, ::2] = 0
    found |= {key: x for key, x in (("g", g), ("beta", beta)) if key in op.extras}
    found["initial_state"] = rng.normal(size=(n_states, HV, Dk, Dv))
    return {key: torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32)) for key, x in found.items()}


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def _answers(run, inputs: dict[str, Tensor], seed: int) -> dict[str, Tensor]:
    """Outputs and gradients in float64, rounded once: o, final_state, and d_ of every input, of o and of the state."""
    leaves = {key: x.double().requires_grad_() for key, x in inputs.items()}
    o, final_state = run(leaves)
    rng = np.random.default_rng(seed + 1)
    arriving = [torch.from_numpy(rng.normal(size=tuple(x.shape)).astype(np.float32)) for x in (o, final_state)]
    gradients = torch.autograd.grad([o, final_state], list(leaves.values()), [x.double() for x in arriving])
    # e^-inf has no slope, but autograd forms 0 times infinity there
    found = {f"d_{key}": x.nan_to_num(0.0) for key, x in zip(leaves, gradients, strict=True)}
    found |= {"o": o, "final_state": final_state, "d_o": arriving[0], "d_final_state": arriving[1]}
    return {key: x.detach().float().contiguous() for key, x in found.items()}


def vector_cases() -> list[tuple[str, dict]]:
    """All cases: (file name without ending, description with operator, keywords and seed)."""
    found = []
    for name, op in OPERATORS.items():
        for case, (sizes, change, keywords, awkward) in CASES.items():
            needs = {"strong": "g", "reset": "g", "mirror": "beta", "silent": "beta"}.get(change)
            if needs is None or needs in op.extras:
                about = {"operator": name, "sizes": sizes, "change": change, "keywords": keywords, "awkward": awkward}
                found.append((f"{name}-{case}", about | {"seed": 1000 + 10 * len(found)}))
    return found


def _compute(about: dict) -> dict[str, Tensor]:
    """Inputs and answers of one case of an operator."""
    keywords = _torch_keywords(about["keywords"])
    n_states = len(about["keywords"].get("cu_seqlens", [0, 1])) - 1
    inputs = _build_inputs(about["operator"], about["sizes"], about["change"], n_states, about["seed"])
    recurrent = OPERATORS[about["operator"]].recurrent
    return inputs | _answers(lambda x: recurrent(**x, output_final_state=True, **keywords), inputs, about["seed"])


def _compute_conv() -> dict[str, Tensor]:
    """The short convolution with silu, a bias and a tail from before: [B, T, D], W = 4."""
    rng = np.random.default_rng(7)
    shapes = {"x": (2, 9, 6), "weight": (6, 4), "bias": (6,), "initial_state": (2, 6, 3)}
    inputs = {key: torch.from_numpy(rng.normal(size=shape).astype(np.float32)) for key, shape in shapes.items()}
    return inputs | _answers(lambda x: causal_conv(**x, activation="silu", output_final_state=True), inputs, 7)


def _torch_keywords(keywords: dict) -> dict:
    return {key: torch.tensor(x) if key == "cu_seqlens" else x for key, x in keywords.items()}


def write_vectors(folder: Path) -> int:
    """Write all vectors; returns how many cases. A folder that holds anything but vectors is refused."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--out: {folder} is a file, expected a folder")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "manifest.json").is_file():
        raise ValueError(f"--out: {folder} holds other files and no manifest.json; choose an empty folder")
    manifest = {"format": FORMAT, "tolerance": TOLERANCE, "cases": {}}
    everything = [(name, about, _compute(about)) for name, about in vector_cases()]
    conv = {
        "operator": "causal_conv",
        "keywords": {"activation": "silu"},
        "awkward": "a tail from before, a bias",
        "seed": 7,
    }
    for name, about, tensors in [*everything, ("causal_conv", conv, _compute_conv())]:
        write_bytes(folder / f"{name}.safetensors", save({key: tensors[key] for key in sorted(tensors)}))
        entry = {key: about[key] for key in ("operator", "keywords", "awkward", "seed")}
        entry["equation"] = EQUATIONS[about["operator"]] + ("" if name == "causal_conv" else ";  o_t = scale S_t^T q_t")
        entry["tensors"] = {key: {"shape": list(x.shape), "dtype": "float32"} for key, x in sorted(tensors.items())}
        manifest["cases"][name] = entry
    write_text(folder / "manifest.json", json.dumps(manifest, indent=1, sort_keys=True) + "\n")
    return len(manifest["cases"])


def check_vectors(folder: Path) -> list[str]:
    """Run the chunked forms (and the convolution) on the vectors in folder; returns a sentence per disagreement.

    Raises ValueError that names the folder where the files aren't whole.
    """
    try:
        return _disagreements(folder)
    except (json.JSONDecodeError, UnicodeDecodeError, *NOT_WHOLE) as error:
        what = f"{type(error).__name__}: {error}"
        raise ValueError(f"--check: the vectors in {folder} are damaged, write them again ({what[:200]})") from None


def _disagreements(folder: Path) -> list[str]:
    if not (folder / "manifest.json").is_file():
        raise ValueError(f"--check: {folder} has no manifest.json; write one with --out")
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    if manifest.get("format") != FORMAT:
        raise ValueError(f"--check: format {manifest.get('format')} of {folder}, this version reads {FORMAT}")
    wrong = []
    for name, entry in sorted(manifest["cases"].items()):
        if not (folder / f"{name}.safetensors").is_file():
            raise ValueError(f"--check: {folder} has no {name}.safetensors; write the vectors again")
        stored = load_file(folder / f"{name}.safetensors")
        outputs = {"o", "final_state", *(key for key in stored if key.startswith("d_"))}
        inputs = {key: x.requires_grad_() for key, x in stored.items() if key not in outputs}
        op = causal_conv if entry["operator"] == "causal_conv" else OPERATORS[entry["operator"]].chunk
        o, final_state = op(**inputs, output_final_state=True, **_torch_keywords(entry["keywords"]))
        arriving = [stored["d_o"], stored["d_final_state"]]
        gradients = torch.autograd.grad([o, final_state], list(inputs.values()), arriving)
        got = {"o": o, "final_state": final_state} | {f"d_{k}": x for k, x in zip(inputs, gradients, strict=True)}
        for key, x in got.items():
            size = stored[key].abs().max().clamp(min=1e-30)
            error = ((x.detach() - stored[key]).abs().max() / size).item()
            limit = manifest["tolerance"].get(key, manifest["tolerance"]["gradient"])
            if not error <= limit:
                wrong.append(f"{name}: {key} is off by {error:.1e} of its largest entry, {limit:.0e} is allowed")
    return wrong


def main(argv: list[str]) -> int:
    """Write or check vectors; returns the exit status: 1 if some disagree, 2 if a folder can't be used."""
    parser = argparse.ArgumentParser(prog="python -m reference vectors", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--out", type=Path, metavar="DIR", help="write the vectors into this folder")
    what.add_argument("--check", type=Path, metavar="DIR", help="run our chunked forms on the vectors of this folder")
    chosen = parser.parse_args(argv)
    try:
        if chosen.out is not None:
            print(f"{write_vectors(chosen.out)} cases and manifest.json written to {chosen.out}")
            return 0
        wrong = check_vectors(chosen.check)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    print("\n".join(wrong) if wrong else f"all vectors of {chosen.check} agree")
    return 1 if wrong else 0
