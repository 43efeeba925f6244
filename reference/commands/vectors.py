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

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from reference.conformance.cases import compute_case, compute_conv, torch_keywords, vector_cases
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
    "gdn2": "S' = Diag(e^{g_t}) S_{t-1};  u_t = w_t v_t - S'^T (b_t k_t);  S_t = S' + k_t u_t^T",
    "two_key_rule": "S' = e^{g_t} S_{t-1};  u_t = beta_t (v_t - S'^T p_t);  S_t = S' + k_t u_t^T",
    "causal_conv": "y_t = silu(sum_i weight[W-1-i] x_{t-i} + bias)",
}


def write_vectors(folder: Path) -> int:
    """Write all vectors; returns how many cases. A folder that holds anything but vectors is refused."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--out: {folder} is a file, expected a folder")
    if folder.is_dir() and any(folder.iterdir()) and not _is_ours(folder / "manifest.json"):
        raise ValueError(f"--out: {folder} holds other files and no manifest.json of vectors; choose an empty folder")
    manifest = {"format": FORMAT, "tolerance": TOLERANCE, "cases": {}}
    everything = [(name, about, compute_case(about)) for name, about in vector_cases()]
    conv = {
        "operator": "causal_conv",
        "keywords": {"activation": "silu"},
        "awkward": "a tail from before, a bias",
        "seed": 7,
    }
    for name, about, tensors in [*everything, ("causal_conv", conv, compute_conv())]:
        write_bytes(folder / f"{name}.safetensors", save({key: tensors[key] for key in sorted(tensors)}))
        entry = {key: about[key] for key in ("operator", "keywords", "awkward", "seed")}
        entry["equation"] = EQUATIONS[about["operator"]] + ("" if name == "causal_conv" else ";  o_t = scale S_t^T q_t")
        entry["tensors"] = {key: {"shape": list(x.shape), "dtype": "float32"} for key, x in sorted(tensors.items())}
        manifest["cases"][name] = entry
    write_text(folder / "manifest.json", json.dumps(manifest, indent=1, sort_keys=True) + "\n")
    return len(manifest["cases"])


def _is_ours(path: Path) -> bool:
    """Whether some version of write_vectors wrote this manifest: many programs call a file of theirs manifest.json."""
    try:
        return {"format", "tolerance", "cases"} <= json.loads(path.read_text(encoding="utf-8")).keys()
    except (OSError, ValueError, RecursionError, AttributeError):
        return False


def _read_manifest(path: Path) -> dict:
    """manifest.json; ValueError where it isn't what write_vectors writes."""
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if manifest["format"] != FORMAT:
            raise ValueError(f"--check: format {manifest['format']} of {path}, this version reads {FORMAT}")
        cases = manifest["cases"].items()
        whole = all({"operator", "keywords", "tensors"} <= entry.keys() for _, entry in cases)
        known = {entry["operator"] for _, entry in cases} <= set(EQUATIONS)
        if not (whole and known and "gradient" in manifest["tolerance"]):
            raise KeyError
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError, KeyError, TypeError, AttributeError):
        raise ValueError(f"--check: {path} isn't a manifest that --out has written") from None
    return manifest


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
    manifest = _read_manifest(folder / "manifest.json")
    wrong = []
    for name, entry in sorted(manifest["cases"].items()):
        if not (folder / f"{name}.safetensors").is_file():
            raise ValueError(f"--check: {folder} has no {name}.safetensors; write the vectors again")
        try:
            stored = load_file(folder / f"{name}.safetensors")
        except (SafetensorError, OSError) as error:
            raise ValueError(f"--check: {folder / name}.safetensors can't be read ({error})") from None
        if stored.keys() != entry["tensors"].keys():
            raise ValueError(f"--check: {name}.safetensors holds {sorted(stored)}, expected {sorted(entry['tensors'])}")
        outputs = {"o", "final_state", *(key for key in stored if key.startswith("d_"))}
        inputs = {key: x.requires_grad_() for key, x in stored.items() if key not in outputs}
        op = causal_conv if entry["operator"] == "causal_conv" else OPERATORS[entry["operator"]].chunk
        o, final_state = op(**inputs, output_final_state=True, **torch_keywords(entry["keywords"]))
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
