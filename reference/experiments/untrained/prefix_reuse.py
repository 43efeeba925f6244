"""`python -m reference experiment prefix_reuse`: branching conversations from cached prefixes, counted.

A softmax layer's cache can be cut at any token. A recurrent state can't, so a hybrid resumes only where a snapshot of
its states was taken. A trace of conversations (requests.py) runs through a store with a memory budget that evicts the
least recently used (prefix_store.py), and the tokens that each request has to compute are counted. Keys and values are
held once for all prompts that share them; sizes are those of reference.model.costs, in bfloat16, states in float32.
Where snapshots are taken, in prompts and in answers alike:
  grid_N         after every N tokens
  ends           before the last token of each prompt (it is read again, for its logits) and of each answer
  ends_branches  the same, and where a prompt is seen to leave what was seen before
  prefix_cache   as PrefixCache of reference.model.prefixes: every 256 tokens and at each prompt's end, nothing of
                 answers, and each snapshot with keys and values of its own
  cut_anywhere   all-softmax models: no states; `_all_softmax` is the same model with a softmax layer in each place
Two traces: `chat`, prompts of some thousand tokens, and `long`, where every conversation begins with a document of some
ten thousand. By model, trace and policy, one entry per budget: `recomputed`, the share of all prompts' tokens that was
computed; `GiB` and `snapshots`, the most that were held. `trace` describes the traces; its `new` is the share of tokens
never seen before, which every store has to compute. `check` runs a short trace through PrefixCache and a small
HybridLM, and compares the tokens counted with those that the model read.
"""

import numpy as np
import torch
from tqdm import tqdm

from reference.checkpoints.published import published_config
from reference.experiments.untrained.prefix_store import CUT_ANYWHERE, POLICIES, Policy, Store
from reference.experiments.untrained.requests import TalkHabits, Trace, draw_trace
from reference.experiments.untrained.run import Untrained, markdown_table, run_untrained
from reference.model.config import HybridConfig, preset
from reference.model.costs import bytes_of_cache
from reference.model.hybrid import HybridLM
from reference.model.prefixes import PrefixCache

GIB = 2**30
HYBRIDS = {"qwen3_next": "full_attention", "kimi_linear": "latent_attention", "minimax": "full_attention"}
SOFTMAX_ONLY = ("qwen3", "minimax_m2")
TRACES = {
    "chat": TalkHabits(),
    "long": TalkHabits(document=(30_000, 0.7), with_document=1.0, message=(200, 1.0), turns=8),
}


def new_tokens(trace: Trace) -> int:
    """Tokens of prompts that were in no earlier prompt or answer: even a store without a limit has to compute them."""
    seen, found = set(), 0
    for request in trace.requests:
        path = trace.path(request.prompt)
        found += sum(trace.tokens[n] for n in path if n not in seen)
        seen |= {*path, request.answer}
    return found


def run_trace(trace: Trace, policy: Policy, token_bytes: int, state_bytes: int, budget: float) -> dict[str, float]:
    """{"recomputed", "GiB", "snapshots"} of one store (see the module's docstring; arguments as of Store)."""
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
    """A short trace as real ids through PrefixCache: tokens counted by a Store beside those that the model reads.

    requests       of the trace
    every, budget  tokens between snapshots, and bytes, of both
    "requests_that_differ" counts those whose tokens or held bytes aren't the same in both.
    """
    trace = draw_trace(requests, SMALL_TALK, rng)
    model = HybridLM(preset("tiny")).eval()
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
    """{model: {trace: {policy: lists over the budgets}}}, and "trace" and "check"; a budget of None has no limit."""
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
    """Requests, lengths of prompts, and "new": the share of prompt tokens that no earlier request had."""
    lengths = [trace.end[r.prompt] for r in trace.requests]
    found = {"requests": len(lengths), "prompt_tokens": sum(lengths), "longest_prompt": max(lengths)}
    return found | {"mean_prompt": sum(lengths) / len(lengths), "new": new_tokens(trace) / trace.prompt_tokens}


def prefix_reuse_table(record: dict) -> str:
    """For each trace the share of prompt tokens computed, by model and policy; then the check on a real model."""
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


def ticks_of_prefix_reuse(settings: dict) -> int:
    """One for each run of a trace: hybrids with every policy and as all-softmax models, and all-softmax models."""
    runs = len(HYBRIDS) * (len(POLICIES) + 1) + len(SOFTMAX_ONLY)
    return len(TRACES) * len(settings["budgets_GiB"]) * runs


PREFIX_REUSE = Untrained(
    "prefix_reuse",
    settings={"requests": 1000, "budgets_GiB": [1, 4, 16, 64, 256, None], "check_requests": 40},
    quick={"requests": 200},
    measure=measure_prefix_reuse,
    steps=ticks_of_prefix_reuse,
    table=prefix_reuse_table,
    details=__doc__,
)


def main(argv: list[str]) -> int:
    """`python -m reference experiment prefix_reuse`."""
    return run_untrained(PREFIX_REUSE, argv)
