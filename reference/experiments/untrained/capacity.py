"""`python -m reference experiment capacity`: how many pairs a matrix holds, by the rule that wrote them. No training.

A draw: random unit keys [Dk], each with its own value from a codebook of random unit vectors [Dv]. Each rule writes
the pairs once, one after the other, through the operators of reference.ops in float64, and every pair is read back:
  accuracy  share of pairs whose value is the codebook's nearest to what was read (chance: 1 / codebook)
  error     mean squared error of the read, in units of |v|^2 = 1: an empty memory has 1
Three questions, by model:
  unique      error and accuracy against the number of pairs, by Dk; pairs_at_90: where accuracy falls through 0.9
  correlated  against the mean cosine between two keys, at 8 pairs and at Dk pairs
  overwrite   each key rewritten R times with new values, in random order; stale: share of reads that answer with an
              older value of the same key
`best` is not a rule: it is the matrix of least squared error for the last values (pseudo-inverse), and `ridge` the same
with a penalty of 0.1 |S|^2; both see all pairs at once. `delta_8_passes` goes through the pairs eight times.
`theory` holds the expected errors: see expected_error.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from reference.experiments.untrained.run import Untrained, markdown_table, run_untrained
from reference.ops import chunk_delta_rule, chunk_lightning_attention, chunk_linear_attention

# How a rule writes: g, the log of a decay; beta, the strength of a delta rule; passes, how often it writes all pairs.
RULES = {
    "hebb": {},
    "lightning_99_percent": {"g": math.log(0.99)},
    "delta": {"beta": 1.0},
    "delta_beta_half": {"beta": 0.5},
    "delta_beta_third": {"beta": 0.3},
    "delta_beta_tenth": {"beta": 0.1},
    "delta_8_passes": {"beta": 1.0, "passes": 8},
}
FITS = {"best": 0.0, "ridge": 0.1}
WRITERS = (*RULES, *FITS)


def write_pairs(rule: str, k: Tensor, v: Tensor, S: Tensor | None = None) -> Tensor:
    """Write pairs by a rule of RULES: k [B, P, Dk], v [B, P, Dv] -> S [B, Dk, Dv]; S: the state to begin with."""
    how = RULES[rule]
    for _ in range(how.get("passes", 1)):
        S = _write_once(how, k[:, :, None], v[:, :, None], None if S is None else S[:, None])
    return S


def _write_once(how: dict, k: Tensor, v: Tensor, S: Tensor | None) -> Tensor:
    keywords = {"scale": 1.0, "initial_state": S, "output_final_state": True}
    if "beta" in how:
        beta = torch.full(k.shape[:3], how["beta"], dtype=k.dtype)
        return chunk_delta_rule(k, k, v, beta, **keywords)[1][:, 0]
    if "g" in how:
        return chunk_lightning_attention(k, k, v, torch.full((1,), how["g"], dtype=k.dtype), **keywords)[1][:, 0]
    return chunk_linear_attention(k, k, v, **keywords)[1][:, 0]


def fit_pairs(k: Tensor, v: Tensor, penalty: float) -> Tensor:
    """argmin_S |K S - V|^2 + penalty |S|^2, of the smallest norm if there are several: [B, Dk, Dv]."""
    if penalty == 0:
        return torch.linalg.pinv(k) @ v
    eye = torch.eye(k.shape[-1], dtype=k.dtype)
    return torch.linalg.solve(k.mT @ k + penalty * eye, k.mT @ v)


class Score(NamedTuple):
    """What reads of all pairs come to; accuracy and error as in the module's docstring."""

    accuracy: float
    error: float
    stale: float  # share of reads that answer with an older value of the same key


def score_reads(S: Tensor, k: Tensor, codebook: Tensor, truth: Tensor, older: Tensor | None = None) -> Score:
    """Read all pairs.

    S         [B, Dk, Dv]
    k         [B, P, Dk]
    codebook  [B, N, Dv]
    truth     [B, P], the row of the codebook that is each pair's last value
    older     [B, P, R - 1], the rows of its older values; None: no pair has any
    """
    o = k @ S
    v = codebook.gather(1, truth[..., None].expand(-1, -1, codebook.shape[-1]))
    answer = (o @ codebook.mT).argmax(-1)
    stale = 0.0 if older is None else (answer[..., None] == older).any(-1).double().mean().item()
    error = (o - v).square().sum(-1).mean().item()
    return Score((answer == truth).double().mean().item(), error, stale)


def unit_rows(*shape: int, rng: torch.Generator) -> Tensor:
    """Random vectors of length 1 along the last axis, float64."""
    x = torch.randn(*shape, generator=rng, dtype=torch.float64)
    return x / x.norm(dim=-1, keepdim=True)


def correlated_keys(draws: int, pairs: int, Dk: int, cosine: float, rng: torch.Generator) -> Tensor:
    """Unit keys [draws, pairs, Dk] with an expected cosine of `cosine` between any two: all share one component."""
    common = unit_rows(draws, 1, Dk, rng=rng)
    own = unit_rows(draws, pairs, Dk, rng=rng)
    own = own - (own * common).sum(-1, keepdim=True) * common
    return math.sqrt(cosine) * common + math.sqrt(1 - cosine) * own / own.norm(dim=-1, keepdim=True)


def expected_error(pairs: int, Dk: int, beta: float | None) -> float:
    """The mean over pairs and draws of `error`, exactly, for independent uniform unit keys and independent values.

    beta None: Hebb's rule, (pairs - 1) / Dk: each other pair adds |v|^2 (k·k')^2, whose mean is 1 / Dk.
    Else the delta rule. N = E|S|^2 grows with each write by beta^2 - (2 beta - beta^2) N / Dk. For one pair, with
    m = S^T k: c = E m·v starts at beta and M = E|m|^2 at (1 - beta)^2 N / Dk + beta^2; each later write, by a key k',
    does m += beta (k·k') (v' - S^T k'), and E (k·k')^2 |S^T k'|^2 = (N + 2 M) / (Dk (Dk + 2)) for k' uniform on the
    sphere. The error is M - 2 c + 1.
    """
    if beta is None:
        return (pairs - 1) / Dk
    norms = [0.0]
    for _ in range(pairs):
        norms.append(norms[-1] * (1 - (2 * beta - beta**2) / Dk) + beta**2)
    total = 0.0
    for n in range(pairs):
        M, c = (1 - beta) ** 2 * norms[n] / Dk + beta**2, beta
        for N in norms[n + 1 : pairs]:
            M = M * (1 - 2 * beta / Dk) + beta**2 * (1 / Dk + (N + 2 * M) / (Dk * (Dk + 2)))
            c *= 1 - beta / Dk
        total += M - 2 * c + 1
    return total / pairs


def pairs_at(pairs: list[int], accuracy: list[float], level: float = 0.9) -> float:
    """Where a falling curve crosses `level`, on straight lines between its points; the last point if it doesn't."""
    for n in range(1, len(pairs)):
        if accuracy[n] < level <= accuracy[n - 1]:
            share = (accuracy[n - 1] - level) / (accuracy[n - 1] - accuracy[n])
            return pairs[n - 1] + share * (pairs[n] - pairs[n - 1])
    return float(pairs[0] if accuracy[0] < level else pairs[-1])


def unique_keys(Dk: int, settings: dict, rng: torch.Generator) -> dict[str, dict]:
    """model -> {"pairs", "accuracy", "error", "pairs_at_90"}: the first pairs of the same draws, more and more."""
    draws, pairs = settings["draws"], [round(x * Dk) for x in settings["fill"]]
    k, codebook = unit_rows(draws, pairs[-1], Dk, rng=rng), _codebook(settings, rng)
    truth = _choose(draws, pairs[-1], settings["codebook"], rng)
    v = codebook.gather(1, truth[..., None].expand(-1, -1, settings["Dv"]))
    found = {model: {"pairs": pairs, "accuracy": [], "error": []} for model in WRITERS}
    for P in pairs:
        for model, entry in found.items():
            S = _memory(model, k[:, :P], v[:, :P])
            score = score_reads(S, k[:, :P], codebook, truth[:, :P])
            entry["accuracy"].append(score.accuracy)
            entry["error"].append(score.error)
    return {m: entry | {"pairs_at_90": pairs_at(pairs, entry["accuracy"])} for m, entry in found.items()}


def overwritten(pairs: int, settings: dict, rng: torch.Generator) -> dict[str, dict]:
    """model -> {"accuracy", "error", "stale"}, lists over settings["rewrites"]."""
    draws, Dk = settings["draws"], settings["Dk"]
    found = {model: {"accuracy": [], "error": [], "stale": []} for model in WRITERS}
    for R in settings["rewrites"]:
        k, codebook = unit_rows(draws, pairs, Dk, rng=rng), _codebook(settings, rng)
        values = _choose(draws, pairs * R, settings["codebook"], rng).view(draws, R, pairs)
        order = torch.stack([_choose(draws, pairs, pairs, rng) for _ in range(R)], 1)  # [draws, R, pairs]
        written = values.gather(2, order).flatten(1)
        keys = k.gather(1, order.flatten(1)[..., None].expand(-1, -1, Dk))
        v = codebook.gather(1, written[..., None].expand(-1, -1, settings["Dv"]))
        last = codebook.gather(1, values[:, -1, :, None].expand(-1, -1, settings["Dv"]))
        for model, entry in found.items():
            S = _memory(model, keys, v) if model in RULES else fit_pairs(k, last, FITS[model])
            score = score_reads(S, k, codebook, values[:, -1], values[:, :-1].transpose(1, 2))
            for name, x in score._asdict().items():
                entry[name].append(x)
    return found


def correlated(pairs: int, settings: dict, rng: torch.Generator) -> dict[str, dict]:
    """model -> {"accuracy", "error"}, lists over settings["cosines"]."""
    draws = settings["draws"]
    found = {model: {"accuracy": [], "error": []} for model in WRITERS}
    for cosine in settings["cosines"]:
        k, codebook = correlated_keys(draws, pairs, settings["Dk"], cosine, rng), _codebook(settings, rng)
        truth = _choose(draws, pairs, settings["codebook"], rng)
        v = codebook.gather(1, truth[..., None].expand(-1, -1, settings["Dv"]))
        for model, entry in found.items():
            score = score_reads(_memory(model, k, v), k, codebook, truth)
            entry["accuracy"].append(score.accuracy)
            entry["error"].append(score.error)
    return found


def _memory(model: str, k: Tensor, v: Tensor) -> Tensor:
    return write_pairs(model, k, v) if model in RULES else fit_pairs(k, v, FITS[model])


def _codebook(settings: dict, rng: torch.Generator) -> Tensor:
    return unit_rows(settings["draws"], settings["codebook"], settings["Dv"], rng=rng)


def _choose(draws: int, n: int, among: int, rng: torch.Generator) -> Tensor:
    """n different numbers below `among` for each draw: [draws, n]."""
    return torch.rand(draws, among, generator=rng).argsort(-1)[:, :n]


def measure_capacity(seed: int, settings: dict, bar: tqdm) -> dict:
    """{model: {"unique", "correlated", "overwrite"}} as the module's docstring says, and "theory"."""
    rng = torch.Generator().manual_seed(seed)
    found: dict[str, dict] = {model: {"unique": {}, "correlated": {}, "overwrite": {}} for model in WRITERS}
    single = {m: how.get("beta") for m, how in RULES.items() if not how.keys() & {"g", "passes"}}
    theory: dict[str, dict] = {model: {} for model in (*single, "best")}
    for Dk in settings["Dks"]:
        for model, entry in unique_keys(Dk, settings, rng).items():
            found[model]["unique"][f"Dk_{Dk}"] = entry
        pairs = found["hebb"]["unique"][f"Dk_{Dk}"]["pairs"]
        for model, beta in single.items():
            theory[model][f"Dk_{Dk}"] = [expected_error(P, Dk, beta) for P in pairs]
        theory["best"][f"Dk_{Dk}"] = [max(0.0, 1 - Dk / P) for P in pairs]
        bar.update()
    for name, look, counts in (("correlated", correlated, (8, 64)), ("overwrite", overwritten, (16, 32))):
        for pairs in counts:
            for model, entry in look(pairs, settings, rng).items():
                found[model][name][f"pairs_{pairs}"] = entry
            bar.update()
    return found | {"theory": theory}


def capacity_table(record: dict) -> str:
    """Means over seeds: pairs held at 90%, at the cosines, after the rewrites."""
    config, summary = record["config"], record["summary"]
    held = [[m, *(summary[m]["unique"][f"Dk_{D}"]["pairs_at_90"]["mean"] for D in config["Dks"])] for m in WRITERS]
    parts = ["pairs at 90% accuracy\n\n" + markdown_table(["rule", *(f"Dk {D}" for D in config["Dks"])], held)]
    for name, at, points in (("correlated", "cosine", config["cosines"]), ("overwrite", "writes", config["rewrites"])):
        for pairs in summary["hebb"][name]:
            rows = [[m, *summary[m][name][pairs]["accuracy"]["mean"]] for m in WRITERS]
            title = f"accuracy, {name} keys, {pairs.replace('_', ' ')}, Dk {config['Dk']}"
            parts.append(f"{title}\n\n" + markdown_table(["rule", *(f"{at} {x}" for x in points)], rows))
    return "\n\n".join(parts)


def ticks_of_capacity(settings: dict) -> int:
    """One for each key size, four for the other questions."""
    return len(settings["Dks"]) + 4


CAPACITY = Untrained(
    "capacity",
    settings={
        "draws": 50,
        "codebook": 512,
        "Dv": 64,
        "Dks": [16, 32, 64, 128],
        "fill": [0.125, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 2, 2.5, 3, 4],
        "Dk": 64,
        "cosines": [0.0, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 0.9],
        "rewrites": [1, 2, 4, 8, 16],
    },
    quick={"draws": 10},
    measure=measure_capacity,
    steps=ticks_of_capacity,
    table=capacity_table,
    details=__doc__,
)


def main(argv: list[str]) -> int:
    """`python -m reference experiment capacity`."""
    return run_untrained(CAPACITY, argv)
