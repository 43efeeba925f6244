"""Small inputs that are awkward for ports of the operators, and the right answers, in float64, one token at a time."""

import numpy as np
import torch
from torch import Tensor

from reference.ops import OPERATORS, causal_conv

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
    "tiny_keys": ({"T": 20}, "tiny", {"use_qk_l2norm_in_kernel": True}, "keys of a length near the root of eps"),
    "packed": ({"T": 40}, None, {"cu_seqlens": [0, 1, 18, 40]}, "three sequences in one row, a state for each"),
}


def build_inputs(name: str, sizes: dict[str, int], change: str | None, n_states: int, seed: int) -> dict[str, Tensor]:
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
    if change == "tiny":
        found["k"] = 1e-3 * k
    if change == "strong":
        g[:, [5, 6, 40]] = -30
        g[:, 20] = -1e4
    if change == "reset":
        g[:, [0, 7, 64]] = -np.inf
    if change == "repeat":
        found["k"] = np.repeat(k[:, :1], T, axis=1)
    if change == "silent":
        beta[:, ::2] = 0
    rest = {"g": g, "beta": beta}
    if "p" in op.extras:
        rest["p"] = 0.9 * found["k"] + 0.1 * rng.normal(size=k.shape) * np.abs(found["k"]).max()
    if "b" in op.extras:
        rest |= {key: rng.uniform(0, 1, size=(B, T, HV, axis)) for key, axis in (("b", Dk), ("w", Dv))}
    found |= {key: rest[key] for key in op.extras}
    found["initial_state"] = rng.normal(size=(n_states, HV, Dk, Dv))
    return {key: torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32)) for key, x in found.items()}


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def answers(run, inputs: dict[str, Tensor], seed: int) -> dict[str, Tensor]:
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


def compute_case(about: dict) -> dict[str, Tensor]:
    """Inputs and answers of one case of an operator."""
    keywords = torch_keywords(about["keywords"])
    n_states = len(about["keywords"].get("cu_seqlens", [0, 1])) - 1
    inputs = build_inputs(about["operator"], about["sizes"], about["change"], n_states, about["seed"])
    recurrent = OPERATORS[about["operator"]].recurrent
    return inputs | answers(lambda x: recurrent(**x, output_final_state=True, **keywords), inputs, about["seed"])


def compute_conv() -> dict[str, Tensor]:
    """The short convolution with silu, a bias and a tail from before: [B, T, D], W = 4."""
    rng = np.random.default_rng(7)
    shapes = {"x": (2, 9, 6), "weight": (6, 4), "bias": (6,), "initial_state": (2, 6, 3)}
    inputs = {key: torch.from_numpy(rng.normal(size=shape).astype(np.float32)) for key, shape in shapes.items()}
    return inputs | answers(lambda x: causal_conv(**x, activation="silu", output_final_state=True), inputs, 7)


def torch_keywords(keywords: dict) -> dict:
    """The keywords of a case as our operators take them: cu_seqlens as a tensor."""
    return {key: torch.tensor(x) if key == "cu_seqlens" else x for key, x in keywords.items()}
