"""`python -m reference experiment precision`: a state kept in 16 or 8 bits after every token, for 100,000 tokens.

Every rule writes the same keys and values, token by token, with float32 arithmetic; after each token its state is
rounded to a format. It is compared with the same rule in float64, which rounds nothing, and with a softmax cache whose
keys and values are rounded once, when they are written. For each kind of data and format, at each of `positions`:
  state   |S - S64| / |S64|, as root mean square over heads: the error of a read with a random query
  read    |o - o64| / |o64| over reads with the keys of the last 32 written tokens
  miss    |o - v|^2 / |v|^2 over the same reads, with v the last value written under the key; the format "float64" has
          what the rule misses without rounding
Data: `fresh` unit keys, `drifting` ones (k_t = 0.9 k_{t-1} + noise, to unit length), eight keys `rewritten` again and
again in random order, and `seldom`: one token in 16 writes; the others have beta = 0 and v = 0, and the state decays.
Values are normal, beta is uniform in (0, 1) under a delta rule and 1 under an additive one.
`fading` holds what only a decay does to a stored state of normal entries, for each format: the share of entries that
one step changes, and the norm after 1,000 steps over that of the first state.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from reference.experiments.untrained.number_formats import FORMATS, store_
from reference.experiments.untrained.run import Untrained, markdown_table, run_untrained
from reference.ops import decode_step, softmax_attention

DECAYS = {"nines_1": 0.9, "nines_2": 0.99, "nines_3": 0.999, "nines_4": 0.9999}  # a dot would cut a path in two
ADDITIVE = ("linear", *(f"lightning_{name}" for name in DECAYS))
DELTA_STATES = ("deltanet", "gated_deltanet_nines_3", "gated_deltanet", "kda")
SCORE_SCALES = {"softmax_flat": None, "softmax_sharp": 20.0}  # factor of the scores: Dk**-0.5, and one that finds a key
CACHED = ("float32", "bfloat16", "fp8", "fp8_row", "int8_row")  # a row is one token's key or value of one head
DATA = ("fresh", "drifting", "rewritten", "seldom")
REWRITTEN, SELDOM, RECENT = 8, 16, 32
BLOCK_TOKENS = 500  # tokens whose inputs are laid out at a time


class KeyStream(NamedTuple):
    """What is written, token by token.

    k       [T, H, D], of unit length
    v       [T, H, D]
    beta    [T, H]
    writes  [T]: whether a token writes
    key     [T, H]: the number of the key, equal where a key is repeated
    """

    k: Tensor
    v: Tensor
    beta: Tensor
    writes: Tensor
    key: Tensor


def draw_stream(kind: str, T: int, heads: int, D: int, rng: torch.Generator) -> KeyStream:
    """Keys, values and write strengths of one kind of data, float32. Raises ValueError."""
    if kind not in DATA:
        raise ValueError(f"kind: expected one of {list(DATA)}, got {kind!r}")
    k, v = torch.randn(T, heads, D, generator=rng), torch.randn(T, heads, D, generator=rng)
    beta, writes = torch.rand(T, heads, generator=rng), torch.ones(T, dtype=torch.bool)
    key = torch.arange(T)[:, None].expand(T, heads)
    if kind == "drifting":
        for t in range(1, T):
            k[t] = 0.9 * k[t - 1] + math.sqrt(1 - 0.9**2) * k[t]
    elif kind == "rewritten":
        key = torch.randint(REWRITTEN, (T, heads), generator=rng)
        k = k[:REWRITTEN][key, torch.arange(heads)]
    elif kind == "seldom":
        writes = torch.arange(T) % SELDOM == 0
        v, beta = v * writes[:, None, None], beta * writes[:, None]
    return KeyStream(k / k.norm(dim=-1, keepdim=True), v, beta, writes, key)


def log_decays(heads: int, D: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """(of ADDITIVE [models, H], fixed; of DELTA_STATES [BLOCK_TOKENS, models, H, D], drawn anew for each block).

    gated_deltanet: -g log-uniform in (1e-4, 1e-1) per token and head; kda: per token and channel.
    """
    additive = torch.tensor([0.0, *(math.log(x) for x in DECAYS.values())])[:, None].expand(-1, heads)
    delta = torch.zeros(BLOCK_TOKENS, len(DELTA_STATES), heads, D)
    delta[:, DELTA_STATES.index("gated_deltanet_nines_3")] = math.log(DECAYS["nines_3"])
    for name, channels in (("gated_deltanet", 1), ("kda", D)):
        delta[:, DELTA_STATES.index(name)] = -(10 ** (3 * torch.rand(BLOCK_TOKENS, heads, channels, generator=rng) - 4))
    return additive, delta


class States:
    """The states of several rules in several formats, S [formats, models, H, D, D]; exact: in float64, unrounded."""

    def __init__(self, models: tuple[str, ...], forms: list[str], heads: int, D: int, rng: torch.Generator):
        self.models, self.forms, self.heads, self.rng = models, forms, heads, rng
        self.S = torch.zeros(len(forms), len(models), heads, D, D)
        self.exact = torch.zeros(1, len(models), heads, D, D, dtype=torch.float64)

    def write(self, k: Tensor, v: Tensor, g: Tensor, beta: Tensor | None) -> None:
        """One token: k, v [H, D]; g [models, H] or [models, H, D]; beta [H] or None."""
        g = g.expand(len(self.forms), *g.shape)
        if "bfloat16_twice" in self.forms:
            n = self.forms.index("bfloat16_twice")
            fading = self.S[n].mul_(g[n].exp()[..., None] if g.dim() == 4 else g[n].exp()[..., None, None])
            store_(fading, "bfloat16_twice")
            g = g.clone()
            g[n] = 0
        self._step(self.S, k, v, g, beta)
        for n, form in enumerate(self.forms):
            store_(self.S[n], form, self.rng)

    def write_exact(self, k: Tensor, v: Tensor, g: Tensor, beta: Tensor | None) -> None:
        """The same token written into `exact`."""
        self._step(self.exact, k.double(), v.double(), g[None].double(), None if beta is None else beta.double())

    @staticmethod
    def _step(S: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor | None) -> None:
        rows = S.shape[0] * S.shape[1]
        k, v = (x.expand(rows, *x.shape) for x in (k, v))
        beta = None if beta is None else beta.expand(rows, -1)
        decode_step(k, k, v, g.flatten(0, 1), beta, S.flatten(0, 1), scale=1.0)

    def errors(self, stream: KeyStream, t: int) -> dict[str, dict[str, dict[str, float]]]:
        """After t tokens: model -> format -> {"state", "read", "miss"}, and "float64" -> {"miss"}."""
        q, v = recent_writes(stream, t)
        truth, found = self.exact[0], {}
        o64 = torch.einsum("rhk,mhkv->mrhv", q, truth)
        for m, model in enumerate(self.models):
            found[model] = {"float64": {"miss": _ratio(o64[m] - v, v) ** 2}}
            for n, form in enumerate(self.forms):
                S = self.S[n, m].double()
                o = torch.einsum("rhk,hkv->rhv", q, S)
                by_head = (S - truth[m]).norm(dim=(-2, -1)) / truth[m].norm(dim=(-2, -1))
                state = by_head.pow(2).mean().sqrt().item()
                miss = _ratio(o - v, v) ** 2
                found[model][form] = {"state": state, "read": _ratio(o - o64[m], o64[m]), "miss": miss}
        return found


def recent_writes(stream: KeyStream, t: int) -> tuple[Tensor, Tensor]:
    """(keys of the last RECENT tokens that wrote, what was last written under each): [R, H, D] float64."""
    at = stream.writes[:t].nonzero()[-RECENT:, 0]
    key, heads = stream.key[:t], stream.k.shape[1]
    v = stream.v[at].clone()
    for h in range(heads):
        for r, s in enumerate(at.tolist()):
            again = (key[s + 1 :, h] == key[s, h]).nonzero()
            v[r, h] = stream.v[s + 1 + int(again[-1]), h] if len(again) else v[r, h]
    return stream.k[at].double(), v.double()


def _ratio(x: Tensor, y: Tensor) -> float:
    return (x.norm() / y.norm()).item()


def cache_errors(stream: KeyStream, positions: list[int]) -> dict[str, dict[str, dict[str, list[float]]]]:
    """Softmax attention over keys and values that were rounded when written: as States.errors, without "state"."""
    found: dict[str, dict] = {model: {} for model in SCORE_SCALES}
    for form in ("float64", *CACHED):
        k, v = (stream.k.double(), stream.v.double())
        if form != "float64":
            k, v = (store_(x.clone(), form).double() for x in (stream.k, stream.v))
        for model, scale in SCORE_SCALES.items():
            entry: dict[str, list[float]] = {"miss": []} if form == "float64" else {"read": [], "miss": []}
            for t in positions:
                q, last = recent_writes(stream, t)
                kept = stream.writes[:t]
                o = softmax_attention(q[None], k[:t][kept][None], v[:t][kept][None], causal=False, scale=scale)[0]
                entry["miss"].append(_ratio(o - last, last) ** 2)
                if form != "float64":
                    kv = (x[:t][kept][None].double() for x in (stream.k, stream.v))
                    o64 = softmax_attention(q[None], *kv, causal=False, scale=scale)[0]
                    entry["read"].append(_ratio(o - o64, o64))
            found[model][form] = entry
    return found


@torch.no_grad()
def fading(decay: float, form: str, rng: torch.Generator, *, steps: int = 1000, D: int = 32) -> dict[str, float]:
    """A decay without writes: "changed", the share of entries that one step changes, and "left", |S_steps| / |S_0|."""
    S = store_(torch.randn(D, D, generator=rng), form, rng)
    before, first = S.clone(), S.norm()
    for step in range(steps):
        store_(S.mul_(decay), form, rng)
        if step == 0:
            changed = (before != S).double().mean().item()
    return {"changed": changed, "left": (S.norm() / first).item()}


@torch.no_grad()
def measure_precision(seed: int, settings: dict, bar: tqdm) -> dict:
    """{model: {kind of data: {format: {"state", "read", "miss": lists over the positions}}}}, and "fading"."""
    rng, (heads, D) = torch.Generator().manual_seed(seed), (settings["heads"], settings["D"])
    positions, forms = settings["positions"], list(FORMATS)
    found: dict[str, dict] = {}
    for kind in settings["data"]:
        stream = draw_stream(kind, positions[-1], heads, D, rng)
        groups = [States(ADDITIVE, forms, heads, D, rng), States(DELTA_STATES, forms, heads, D, rng)]
        for t in range(positions[-1]):
            if t % BLOCK_TOKENS == 0:
                additive, delta = log_decays(heads, D, rng)
            betas = (None, stream.beta[t])
            for states, g, beta in zip(groups, (additive, delta[t % BLOCK_TOKENS]), betas, strict=True):
                states.write(stream.k[t], stream.v[t], g, beta)
                states.write_exact(stream.k[t], stream.v[t], g, beta)
            if t + 1 in positions:
                for states in groups:
                    for model, by_form in states.errors(stream, t + 1).items():
                        for form, errors in by_form.items():
                            entry = found.setdefault(model, {}).setdefault(kind, {}).setdefault(form, {})
                            for name, x in errors.items():
                                entry.setdefault(name, []).append(x)
            bar.update()
        for model, by_form in cache_errors(stream, positions).items():
            found.setdefault(model, {})[kind] = by_form
    once = [form for form in forms if form != "bfloat16_twice"]  # the same as bfloat16 where nothing is written
    only_decay = {name: {form: fading(x, form, rng, D=D) for form in once} for name, x in DECAYS.items()}
    return found | {"fading": only_decay}


def precision_table(record: dict) -> str:
    """Relative error of reads at the last position, mean over seeds, for each kind of data."""
    at = f"{record['config']['positions'][-1]:,}"
    parts = []
    for kind in record["config"]["data"]:
        rows = []
        for model in (*ADDITIVE, *DELTA_STATES, *SCORE_SCALES):
            by_form = record["summary"][model][kind]
            rows.append([model, *(by_form[f]["read"]["mean"][-1] if f in by_form else "" for f in FORMATS)])
        parts.append(f"{kind}: error of reads after {at} tokens\n\n{markdown_table(['rule', *FORMATS], rows)}")
    rows = [[x, *(y["changed"]["mean"] for y in by.values())] for x, by in record["summary"]["fading"].items()]
    head = ["decay", *record["summary"]["fading"]["nines_1"]]
    parts.append(f"only a decay: share of entries that one step changes\n\n{markdown_table(head, rows)}")
    return "\n\n".join(parts)


def ticks_of_precision(settings: dict) -> int:
    """One for each token of each kind of data."""
    return settings["positions"][-1] * len(settings["data"])


PRECISION = Untrained(
    "precision",
    settings={"positions": [64, 256, 1024, 4096, 16384, 65536, 100_000], "heads": 2, "D": 32, "data": list(DATA)},
    quick={"positions": [64, 256, 1024, 4096]},
    measure=measure_precision,
    steps=ticks_of_precision,
    table=precision_table,
    details=__doc__,
)


def main(argv: list[str]) -> int:
    """`python -m reference experiment precision`."""
    return run_untrained(PRECISION, argv)
