"""`python -m reference experiment prefix_reuse`: branching conversations from cached prefixes, counted.

A softmax layer's cache can be cut at any token. A recurrent state can't, so a hybrid goes on only from where somebody
kept the state. A trace of conversations (requests.py, beside this file) runs through a store with a memory budget,
least recently used out first, and for each request the tokens that have to be computed again are counted. Keys and
values are held once for all prompts that share them, a state is `state_bytes` (reference.model.costs, bfloat16, states
in float32). Where snapshots are taken, in prompts and in answers alike:
  grid_N         after every N tokens
  ends           before the last token of each prompt (it is read again, for its logits) and of each answer
  ends_branches  the same, and where a prompt is seen to leave what was seen before
  prefix_cache   as PrefixCache of reference.model.prefixes: every 256 tokens and at each prompt's end, nothing of
                 answers, and each snapshot with keys and values of its own
  cut_anywhere   all-softmax models: no states; `_all_softmax` is the same model with a softmax layer in each place
Two traces: `chat`, prompts of some thousand tokens, and `long`, where every conversation begins with a document of some
ten thousand. By model, trace and policy, one entry per budget: `recomputed`, the share of all prompts' tokens that was
computed; `GiB` and `snapshots` held at most. `trace` says what no store can spare (`new`, the share of tokens never
seen before), and `check` runs a short trace through PrefixCache and a small HybridLM, counted beside real.
"""

from collections import OrderedDict
from typing import NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from reference.checkpoints.published import published_config
from reference.experiments.untrained.engine import Untrained, markdown_table, run_untrained
from reference.experiments.untrained.requests import Request, TalkHabits, Trace, draw_trace
from reference.model.config import HybridConfig, preset
from reference.model.costs import bytes_of_cache
from reference.model.hybrid import HybridLM
from reference.model.prefixes import PrefixCache

GIB = 2**30
HYBRIDS = {"qwen3_next": "full_attention", "kimi_linear": "latent_attention", "minimax": "full_attention"}
SOFTMAX_ONLY = ("qwen3", "minimax_m2")
PAGE = 64  # tokens of a softmax cache that are given up at a time
TRACES = {
    "chat": TalkHabits(),
    "long": TalkHabits(document=(30_000, 0.7), with_document=1.0, message=(200, 1.0), turns=8),
}


class Policy(NamedTuple):
    """every: tokens between snapshots (0: none of these); before_last: how far before a prompt's end one is taken,
    None: not at all; answers: snapshots in answers too; whole: each snapshot holds its own keys and values."""

    every: int = 0
    before_last: int | None = None
    answers: bool = True
    branches: bool = False
    whole: bool = False


POLICIES = {
    **{f"grid_{N}": Policy(N) for N in (64, 256, 1024, 4096)},
    "ends": Policy(before_last=1),
    "ends_branches": Policy(before_last=1, branches=True),
    "prefix_cache": Policy(256, before_last=0, answers=False, whole=True),
}
CUT_ANYWHERE = Policy(PAGE, before_last=1)  # with states of no bytes: positions are then pages of keys and values


class Store:
    """Positions of a trace whose caches are kept. bytes: what they hold now."""

    def __init__(self, trace: Trace, policy: Policy, token_bytes: int, state_bytes: int, budget: float):
        self.trace, self.policy, self.budget = trace, policy, budget
        self.token_bytes, self.state_bytes, self.bytes = token_bytes, state_bytes, 0
        self.kept: OrderedDict[tuple[int, int], None] = OrderedDict()  # (node, tokens from the root), oldest first
        self.inside: dict[int, list[int]] = {}  # node -> positions kept in it, ascending
        self.beneath: dict[int, int] = {}  # node -> positions kept in nodes that follow it
        self.seen: dict[int, int] = {}  # node -> up to which position it was ever read
        self.most_bytes = self.most_kept = 0

    def request(self, request: Request) -> int:
        """Prompt and answer pass through; returns the tokens of the prompt that were computed."""
        trace, policy = self.trace, self.policy
        path, L = trace.path(request.prompt), trace.end[request.prompt]
        begin = self._longest(path, L - 1)
        wanted = self._multiples(begin, L)
        if policy.before_last is not None:
            wanted.add(L - policy.before_last)
        junction = max((self.seen[n] for n in path if n in self.seen), default=0)
        if policy.branches and begin < junction < L:
            wanted.add(junction)
        stop = L
        if policy.answers:
            path, stop = [*path, request.answer], trace.end[request.answer] - 1  # the last token is not read any more
            wanted |= self._multiples(L, stop) | ({stop} if policy.before_last is not None else set())
        self._keep_all(path, sorted(x for x in wanted if begin < x <= stop))
        for n in path:
            self.seen[n] = max(self.seen.get(n, 0), min(trace.end[n], stop))
        return L - begin

    def _multiples(self, begin: int, stop: int) -> set[int]:
        N = self.policy.every
        return set(range((begin // N + 1) * N, stop + 1, N)) if N else set()

    def _longest(self, path: list[int], limit: int) -> int:
        """The tokens up to `limit` that need not be computed: up to the last state kept on the path, which counts as
        used; without states, all that is held."""
        for n in reversed(path):
            if not self.state_bytes:
                if self._covered(n):
                    return min(self.trace.start(n) + self._covered(n), limit)
                continue
            here = [x for x in self.inside.get(n, ()) if x <= limit]
            if here:
                self.kept.move_to_end((n, here[-1]))
                return here[-1]
        return 0

    def _keep_all(self, path: list[int], positions: list[int]) -> None:
        """Keep what fits, the first position first; the oldest go."""
        node = 0
        for x in positions:
            while self.trace.end[path[node]] < x:
                node += 1
            if self.policy.whole and self._size(x) > self.budget:
                continue
            key = (path[node], x)
            if key not in self.kept:
                self._change(key, +1)
            self.kept[key] = None
            self.kept.move_to_end(key)
            if self.state_bytes:
                self._evict()
        if not self.state_bytes:  # all pages of the path were read: the nearer to the root, the later they go
            for n in reversed(path):
                for x in reversed(self.inside.get(n, ())):
                    self.kept.move_to_end((n, x))
            self._evict()

    def _evict(self) -> None:
        while self.bytes > self.budget:
            self._change(self.kept.popitem(last=False)[0], -1)
        self.most_bytes, self.most_kept = max(self.most_bytes, self.bytes), max(self.most_kept, len(self.kept))

    def _size(self, tokens: int) -> int:
        return self.state_bytes + self.token_bytes * tokens

    def _change(self, key: tuple[int, int], sign: int) -> None:
        """A position comes (+1) or goes (-1): counts and bytes along its path."""
        node, x = key
        before = self._covered(node)
        here = self.inside.setdefault(node, [])
        if sign > 0:
            here.append(x)
            here.sort()
        else:
            here.remove(x)
        tokens, above = self._covered(node) - before, self.trace.parent[node]
        while above >= 0:
            before = self._covered(above)
            self.beneath[above] = self.beneath.get(above, 0) + sign
            tokens += self._covered(above) - before
            above = self.trace.parent[above]
        self.bytes += sign * self._size(x) if self.policy.whole else sign * self.state_bytes + self.token_bytes * tokens

    def _covered(self, node: int) -> int:
        """Tokens of the node that some kept position needs."""
        if self.beneath.get(node, 0):
            return self.trace.tokens[node]
        here = self.inside.get(node)
        return here[-1] - self.trace.start(node) if here else 0


def new_tokens(trace: Trace) -> int:
    """Tokens of prompts that were in no earlier prompt or answer: what even an endless store has to compute."""
    seen, found = set(), 0
    for request in trace.requests:
        path = trace.path(request.prompt)
        found += sum(trace.tokens[n] for n in path if n not in seen)
        seen |= {*path, request.answer}
    return found


def run_trace(trace: Trace, policy: Policy, token_bytes: int, state_bytes: int, budget: float) -> dict[str, float]:
    store = Store(trace, policy, token_bytes, state_bytes, budget)
    computed = sum(store.request(request) for request in trace.requests)
    found = {"recomputed": computed / trace.prompt_tokens, "GiB": store.most_bytes / GIB}
    return found | {"snapshots": store.most_kept}


def model_bytes(config: HybridConfig, element_bytes: int = 2) -> tuple[int, int]:
    """(bytes of one token's keys and values, bytes of all states)."""
    states = bytes_of_cache(config, 0, element_bytes=element_bytes)
    return bytes_of_cache(config, 1, element_bytes=element_bytes) - states, states


def cast() -> dict[str, HybridConfig]:
    """The published models, and each hybrid with softmax in every layer."""
    found = {family: published_config(family) for family in (*HYBRIDS, *SOFTMAX_ONLY)}
    for family, kind in HYBRIDS.items():
        config = found[family]
        found[f"{family}_all_softmax"] = config.with_layers((kind,) * config.num_hidden_layers)
    return found


SMALL_TALK = TalkHabits(2, (20, 40), (6, 0.6), (30, 0.5), 0.2, (8, 0.6), 4, 0.15, 0.2, 3)


@torch.no_grad()
def check_on_a_model(requests: int, every: int, budget: int, rng: np.random.Generator) -> dict[str, int]:
    """A short trace as real ids through PrefixCache; tokens are counted where the model reads them."""
    trace, model = draw_trace(requests, SMALL_TALK, rng), HybridLM(preset("tiny")).eval()
    policy = Policy(every, before_last=0, answers=False, whole=True)
    store = Store(trace, policy, *model_bytes(model.config, 4), budget)
    ids = [torch.from_numpy(rng.integers(model.config.vocab_size, size=n)) for n in trace.tokens]
    read: list[int] = []
    hook = model.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0].shape[1]))
    prefixes, counted, differ = PrefixCache(model, every=every, budget_bytes=budget), 0, 0
    for request in trace.requests:
        expected, before = store.request(request), sum(read)
        prefixes.prefill(torch.cat([ids[n] for n in trace.path(request.prompt)])[None])
        counted += expected
        differ += (sum(read) - before != expected) or prefixes.statistics().stored_bytes != store.bytes
    hook.remove()
    found = {"requests": requests, "prompt_tokens": trace.prompt_tokens, "counted": counted, "read": sum(read)}
    return found | {"requests_that_differ": differ, "bytes": store.bytes, "most_bytes": store.most_bytes}


def measure_prefix_reuse(seed: int, settings: dict, bar: tqdm) -> dict:
    rng = np.random.default_rng(seed)
    traces = {name: draw_trace(settings["requests"], habits, rng) for name, habits in TRACES.items()}
    budgets = [x * GIB if x else float("inf") for x in settings["budgets_GiB"]]
    found: dict[str, dict] = {}
    for model, config in cast().items():
        token_bytes, state_bytes = model_bytes(config)
        found[model] = {"token_bytes": token_bytes, "state_bytes": state_bytes}
        for name, trace in traces.items():
            found[model][name] = {}
            for policy, how in (POLICIES if state_bytes else {"cut_anywhere": CUT_ANYWHERE}).items():
                runs = []
                for budget in budgets:
                    runs.append(run_trace(trace, how, token_bytes, state_bytes, budget))
                    bar.update()
                found[model][name][policy] = {key: [run[key] for run in runs] for key in runs[0]}
    found["trace"] = {name: describe_trace(trace) for name, trace in traces.items()}
    found["check"] = check_on_a_model(settings["check_requests"], 16, 2**21, rng)
    return found


def describe_trace(trace: Trace) -> dict[str, float]:
    lengths = [trace.end[r.prompt] for r in trace.requests]
    found = {"requests": len(lengths), "prompt_tokens": sum(lengths), "longest_prompt": max(lengths)}
    return found | {"mean_prompt": sum(lengths) / len(lengths), "new": new_tokens(trace) / trace.prompt_tokens}


def prefix_reuse_table(record: dict) -> str:
    config, summary, parts = record["config"], record["summary"], []
    heads = ["unlimited" if x is None else f"{x} GiB" for x in config["budgets_GiB"]]
    for trace, about in summary["trace"].items():
        rows = []
        for model in cast():
            for policy, x in summary[model][trace].items():
                shares = [f"{100 * y:.1f}%" for y in x["recomputed"]["mean"]]
                rows.append([model, policy, *shares, f"{x['GiB']['mean'][-1]:.1f} GiB"])
        title = (
            f"{trace}, prompts of {about['mean_prompt']['mean']:,.0f} tokens: share of prompt tokens that is computed "
            f"(never seen before: {100 * about['new']['mean']:.1f}%)"
        )
        parts.append(f"{title}\n\n{markdown_table(['model', 'snapshots', *heads, 'unlimited holds'], rows)}")
    check = summary["check"]
    parts.append(
        f"a real model read {check['read']['mean']:,.0f} tokens, counted were {check['counted']['mean']:,.0f}; "
        f"requests that differ: {check['requests_that_differ']['high']}"
    )
    return "\n\n".join(parts)


PREFIX_REUSE = Untrained(
    "prefix_reuse",
    "Branching conversations from cached prefixes: snapshots against a cache that can be cut",
    {"requests": 1000, "budgets_GiB": [1, 4, 16, 64, 256, None], "check_requests": 40},
    {"requests": 200},
    measure_prefix_reuse,
    lambda settings: (
        len(TRACES) * len(settings["budgets_GiB"]) * (len(HYBRIDS) * (len(POLICIES) + 1) + len(SOFTMAX_ONLY))
    ),
    prefix_reuse_table,
)


def main(argv: list[str]) -> int:
    return run_untrained(PREFIX_REUSE, argv)
