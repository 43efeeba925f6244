"""`python -m reference experiment constructions`: what a delta rule with beta = 2 computes, built by hand.

With |k| = 1 a write of v = 0 is S <- (I - beta k k^T) S. At beta = 2 this is a reflection, which loses nothing:
  parity      one number, k = 1: each 1 of the text turns its sign, S = (-1)^count
  S3, S5      k = (e_i - e_j) / sqrt 2 swaps the rows i and j of S: a permutation of n things is tracked exactly
The state begins with n ordinary writes (k = v = e_i, beta = 1), so that no initial state is needed. `swaps` are one
swap per token; `any` draws a whole permutation per token, which takes n - 1 writes.
Every token reads one row (q = e_r, for r = 0, 1, ..., n - 1 and again), and the answer is the row's largest entry.
  operators   beta = 2 through the book's operators: wrong answers, and drift, the largest |o - what it should be|
  betas       at other strengths, in float64: accuracy by window of tokens, first_wrong: tokens before the
              first wrong answer
  decays      beta = 2 with a decay before every write: first_wrong
  stored      the state rounded to a format after every write: at beta = 2, the same with keys in bfloat16, and at 1.9
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from reference.experiments.untrained.number_formats import FORMATS, store_
from reference.experiments.untrained.run import Untrained, markdown_table, run_untrained
from reference.ops import OPERATORS, chunk_delta_rule, chunk_gated_delta_rule, decode_step

GROUPS = {"parity": (1, 1), "S3_swaps": (3, 1), "S5_swaps": (5, 1), "S5_any": (5, 4)}  # n, writes per token
BETAS = {"2": 2.0, "1_99": 1.99, "1_9": 1.9, "1_5": 1.5, "1": 1.0, "half": 0.5}
CONSTRUCTION_DECAYS = {"nines_1": 0.9, "nines_2": 0.99, "nines_3": 0.999}
DELTA_RULES = ("delta_rule", "gated_delta_rule", "kda")
BETA_CASES = ("beta_2", "beta_2_keys_bfloat16", "beta_1_9")  # of a stored state


class Tracking(NamedTuple):
    """Writes that track permutations, and the right answers.

    q, k, v  [B, T, 1, n]
    beta     [B, T, 1]
    asked    [T]: the last write of each token
    answer   [B, T]: row r of S should be e_answer; for parity (n = 1) S should be the answer, 1 or -1
    """

    q: Tensor
    k: Tensor
    v: Tensor
    beta: Tensor
    asked: Tensor
    answer: Tensor


def draw_tracking(
    task: str, tokens: int, streams: int, rng: torch.Generator, *, beta: float = 2.0, integer_keys: bool = False
) -> Tracking:
    """Random bits or swaps, after the writes that make S = I; float32.

    task          of GROUPS
    tokens        of each text; a token takes one write or several
    streams       texts
    beta          of unit keys
    integer_keys  k = e_i - e_j and beta / 2 instead, the same reflection without a square root
    ValueError if the task is unknown.
    """
    if task not in GROUPS:
        raise ValueError(f"task: expected one of {list(GROUPS)}, got {task!r}")
    n, writes = GROUPS[task]
    T, rows = n + tokens * writes, torch.arange(streams)
    eye, length = torch.eye(n), 1.0 if integer_keys else math.sqrt(2)
    first = eye.expand(streams, n, n)
    k, v, strength = torch.zeros(streams, T, n), torch.zeros(streams, T, n), torch.ones(streams, T)
    k[:, :n], v[:, :n] = first, first
    answer = torch.zeros(streams, T, dtype=torch.long)
    held = torch.arange(n).repeat(streams, 1)  # row r of S is e_held[r]
    if task == "parity":
        bits = torch.randint(2, (streams, tokens), generator=rng)
        k[:, 1:], strength[:, 1:], answer[:, 1:] = 1.0, beta * bits, 1 - 2 * (bits.cumsum(1) % 2)
    for t in range(n, T) if task != "parity" else ():
        step = (t - n) % writes
        if writes == 1:  # two different rows
            i = torch.randint(n, (streams,), generator=rng)
            j = (i + torch.randint(1, n, (streams,), generator=rng)) % n
        else:  # the last row that is still free, with any up to it: all permutations are equally likely
            i = torch.full((streams,), n - 1 - step)
            j = torch.randint(n - step, (streams,), generator=rng)
        k[:, t] = (eye[i] - eye[j]) / length
        strength[:, t] = torch.where(i == j, 0.0, beta / 2 if integer_keys else beta)
        held[rows, i], held[rows, j] = held[rows, j], held[rows, i]
        answer[:, t] = held[rows, t % n]
    at = torch.arange(T)
    q = eye[at % n].expand(streams, T, n)
    asked = (at >= n) & ((at - n) % writes == writes - 1)
    return Tracking(q[:, :, None], k[:, :, None], v[:, :, None], strength[..., None], asked, answer)


def check_reads(o: Tensor, track: Tracking) -> tuple[Tensor, float]:
    """What was read, o [B, T, 1, n] -> (right [B, tokens], the largest distance from what it should be)."""
    o, answer = o[:, track.asked, 0], track.answer[:, track.asked]
    if o.shape[-1] == 1:
        return o[..., 0] * answer > 0, (o[..., 0] - answer).abs().max().item()
    return o.argmax(-1) == answer, (o - torch.eye(o.shape[-1])[answer]).abs().max().item()


def first_wrong(right: Tensor) -> float:
    """Tokens before the first wrong answer (all, if there is none): mean over streams."""
    return right.long().cumprod(1).sum(1).double().mean().item()


def by_window(right: Tensor, edges: list[int]) -> list[float]:
    """Accuracy over the tokens from one edge to the next."""
    ends = [*edges[1:], right.shape[1]]
    return [right[:, a:b].double().mean().item() for a, b in zip(edges, ends, strict=True)]


def through_operators(track: Tracking, names: tuple[str, ...] = DELTA_RULES) -> dict[str, dict[str, float]]:
    """Delta rules, recurrent and in chunks, without decay: wrong answers and drift."""
    g, found = torch.zeros_like(track.beta), {}
    for name in names:
        operator = OPERATORS[name]
        given = {"g": torch.zeros_like(track.k) if operator.channel_decay else g, "beta": track.beta}
        extras = [given[x] for x in operator.extras]
        for form, run in (("recurrent", operator.recurrent), ("chunk", operator.chunk)):
            right, drift = check_reads(run(track.q, track.k, track.v, *extras, scale=1.0)[0], track)
            found[f"{form}_{name}"] = {"wrong": int((~right).sum()), "drift": drift}
    return found


def at_other_strengths(task: str, settings: dict, rng: torch.Generator) -> dict[str, dict]:
    """Accuracy by window and the first wrong answer at each beta, in float64: no rounding to blame."""
    found = {}
    for name, beta in BETAS.items():
        track = draw_tracking(task, settings["tokens"], settings["streams"], rng, beta=beta)
        q, k, v, strength = (x.double() for x in (track.q, track.k, track.v, track.beta))
        k = k / k.norm(dim=-1, keepdim=True).clamp(min=0.5)  # a key is of unit length, or 0 where nothing is written
        right, _ = check_reads(chunk_delta_rule(q, k, v, strength, scale=1.0)[0], track)
        found[f"beta_{name}"] = {"accuracy": by_window(right, settings["windows"]), "first_wrong": first_wrong(right)}
    return found


def with_decay(task: str, settings: dict, rng: torch.Generator) -> dict[str, dict]:
    """The first wrong answer at beta = 2 when the state decays before every write."""
    found = {}
    for name, alpha in CONSTRUCTION_DECAYS.items():
        track = draw_tracking(task, settings["tokens"], settings["streams"], rng)
        g = torch.full_like(track.beta, math.log(alpha))
        right, _ = check_reads(chunk_gated_delta_rule(track.q, track.k, track.v, g, track.beta, scale=1.0)[0], track)
        found[f"decay_{name}"] = {"first_wrong": first_wrong(right)}
    return found


@torch.no_grad()
def stored_in(task: str, settings: dict, rng: torch.Generator) -> dict[str, dict]:
    """The state rounded after every write: {case: {format: {"accuracy" by window, "first_wrong", "drift"}}}."""
    track = draw_tracking(task, settings["tokens"], settings["streams"], rng)
    forms = [form for form in FORMATS if form != "bfloat16_twice"]  # the same as bfloat16 where nothing decays
    streams, T, _, n = track.k.shape
    weaker = torch.where(track.beta == 2, 1.9, track.beta)
    k = torch.stack([track.k, track.k.bfloat16().float(), track.k])[:, None].expand(-1, len(forms), *track.k.shape)
    beta = torch.stack([track.beta, track.beta, weaker])[:, None].expand(-1, len(forms), *track.beta.shape)
    state, o = (
        torch.zeros(len(BETA_CASES), len(forms), streams, n, n),
        torch.empty(T, len(BETA_CASES), len(forms), streams, n),
    )
    rows = (len(BETA_CASES) * len(forms), streams)
    for t in range(T):
        q_t, v_t = (x[:, t, 0].expand(*rows, n) for x in (track.q, track.v))
        k_t, beta_t = k[:, :, :, t, 0].reshape(*rows, n), beta[:, :, :, t, 0].reshape(rows)
        o[t] = decode_step(q_t, k_t, v_t, None, beta_t, state.view(*rows, n, n), scale=1.0).view_as(o[t])
        for case in state:
            for form, S in zip(forms, case, strict=True):
                store_(S, form, rng)
    found: dict[str, dict] = {case: {} for case in BETA_CASES}
    for c, case in enumerate(BETA_CASES):
        for f, form in enumerate(forms):
            right, drift = check_reads(o[:, c, f].transpose(0, 1)[:, :, None], track)
            entry = {"accuracy": by_window(right, settings["windows"]), "first_wrong": first_wrong(right)}
            found[case][form] = entry | {"drift": drift}
    return found


def measure_constructions(seed: int, settings: dict, bar: tqdm) -> dict:
    """{group: {"operators", "betas", "decays", "stored"}} as the module's docstring says; of permutations also
    "integer_keys": operators without a square root in the keys."""
    rng, found = torch.Generator().manual_seed(seed), {}
    for task in GROUPS:
        long = draw_tracking(task, settings["long_tokens"], settings["long_streams"], rng)
        found[task] = {"operators": through_operators(long)}
        if task != "parity":
            whole = draw_tracking(task, settings["long_tokens"], settings["long_streams"], rng, integer_keys=True)
            found[task]["integer_keys"] = through_operators(whole, ("delta_rule",))
        bar.update()
        found[task] |= {"betas": at_other_strengths(task, settings, rng), "decays": with_decay(task, settings, rng)}
        found[task]["stored"] = stored_in(task, settings, rng)
        bar.update()
    return found


def constructions_table(record: dict) -> str:
    """Wrong answers and drift by operator; tokens before the first wrong answer; the same of stored states."""
    config, summary = record["config"], record["summary"]
    names = list(summary["parity"]["operators"])
    rows = []
    for task, entry in summary.items():
        for kind in ("operators", "integer_keys"):
            if kind in entry:
                y = [entry[kind].get(x) for x in names]
                cells = ["" if x is None else f"{x['wrong']['high']} / {x['drift']['high']:.1e}" for x in y]
                rows.append([task if kind == "operators" else f"{task}, integer keys", *cells])
    title = f"beta = 2: wrong answers / drift in {config['long_tokens']:,} tokens"
    parts = [f"{title}\n\n{markdown_table(['task', *names], rows)}"]
    head = ["task", *BETAS, *(f"beta 2, decay {x}" for x in CONSTRUCTION_DECAYS.values())]
    rows = []
    for task, x in summary.items():
        entries = [*x["betas"].values(), *x["decays"].values()]
        rows.append([task, *(y["first_wrong"]["mean"] for y in entries)])
    parts.append(f"tokens before the first wrong answer, of {config['tokens']:,}\n\n{markdown_table(head, rows)}")
    for case in BETA_CASES:
        forms = list(summary["parity"]["stored"][case])
        for what in ("first_wrong", "drift"):
            rows = [[task, *(x["stored"][case][f][what]["mean"] for f in forms)] for task, x in summary.items()]
            parts.append(f"state stored in, {case}: {what}\n\n{markdown_table(['task', *forms], rows)}")
    return "\n\n".join(parts)


def ticks_of_constructions(settings: dict) -> int:
    """Two for each group."""
    return 2 * len(GROUPS)


CONSTRUCTIONS = Untrained(
    "constructions",
    settings={
        "tokens": 10_000,
        "streams": 8,
        "windows": [0, 4, 16, 64, 256, 1024, 4096],
        "long_tokens": 30_000,
        "long_streams": 2,
    },
    quick={"tokens": 5000, "long_tokens": 10_000},
    measure=measure_constructions,
    steps=ticks_of_constructions,
    table=constructions_table,
    details=__doc__,
)


def main(argv: list[str]) -> int:
    """`python -m reference experiment constructions`."""
    return run_untrained(CONSTRUCTIONS, argv)
