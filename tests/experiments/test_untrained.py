"""Experiments without training: what is exact is exact, what is random has its expected mean, counts are real."""

import importlib
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from tqdm import tqdm

from reference.__main__ import main
from reference.book.manifest import ROOT
from reference.equations import delta_step, hebbian_step
from reference.experiments.catalogue import CATALOGUE, Experiment
from reference.experiments.untrained.capacity import (
    CAPACITY,
    FITS,
    RULES,
    correlated_keys,
    expected_error,
    fit_pairs,
    pairs_at,
    score_reads,
    unit_rows,
    write_pairs,
)
from reference.experiments.untrained.constructions import (
    CONSTRUCTIONS,
    GROUPS,
    by_window,
    check_reads,
    draw_tracking,
    first_wrong,
    stored_in,
    through_operators,
)
from reference.experiments.untrained.number_formats import FORMATS, store_
from reference.experiments.untrained.precision import (
    ADDITIVE,
    DATA,
    DELTA_STATES,
    PRECISION,
    States,
    cache_errors,
    draw_stream,
    fading,
    measure_precision,
    recent_writes,
)
from reference.experiments.untrained.prefix_reuse import (
    PREFIX_REUSE,
    cast,
    check_on_a_model,
    model_bytes,
    new_tokens,
    run_trace,
)
from reference.experiments.untrained.prefix_store import CUT_ANYWHERE, POLICIES, Policy, Store
from reference.experiments.untrained.requests import Request, TalkHabits, Trace, draw_trace
from reference.experiments.untrained.run import (
    Untrained,
    over_seeds,
    run_seeds,
    run_untrained,
    runs_of_seeds,
    summary_over_seeds,
)
from reference.ops import decode_step

ALL = {"capacity": CAPACITY, "constructions": CONSTRUCTIONS, "precision": PRECISION, "prefix_reuse": PREFIX_REUSE}
SILENT = tqdm(disable=True)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# ---------------------------------------------------------------- the command line


def counting(seed: int, settings: dict, bar: tqdm) -> dict:
    return {"a": {"x": seed + 0.123456, "curve": [seed, 2.0 * seed]}, "b": {"x": 1}}


TOY = Untrained(
    "toy", settings={"size": 3}, quick={"size": 1}, measure=counting, steps=lambda _: 1, table=lambda _: "table"
)


@pytest.fixture(autouse=True)
def listed(monkeypatch):
    monkeypatch.setitem(CATALOGUE, "toy", Experiment("untrained", "a toy", "a moment"))


def run_toy(settings: dict, seeds: int, out: Path) -> dict:
    return run_seeds(TOY, settings, runs_of_seeds(TOY, settings, out), seeds)


def test_runs_are_kept_seed_by_seed_and_not_repeated(tmp_path):
    out = tmp_path / "toy.json"
    first = run_toy({"size": 3}, 2, out)
    assert [run["seed"] for run in first["runs"]] == [0, 1] and first["runs"][1]["found"]["a"]["x"] == 1.123
    kept = json.loads(out.read_text())
    assert kept == json.loads(json.dumps(first)) and set(kept) >= {"config", "machine", "seconds", "summary", "runs"}
    kept["runs"][0]["found"]["a"]["x"] = 100.0  # to see that it is not run again
    out.write_text(json.dumps(kept))
    again = run_toy({"size": 3}, 3, out)
    assert again["summary"]["a"]["x"] == {"mean": 34.42, "low": 1.123, "high": 100.0}
    assert again["summary"]["a"]["curve"] == {"mean": [1.0, 2.0], "low": [0, 0.0], "high": [2, 4.0]}
    assert [run["seed"] for run in run_toy({"size": 3}, 1, out)["runs"]] == [0]
    cut = json.loads(out.read_text())
    cut["runs"] = cut["runs"][1:]
    out.write_text(json.dumps(cut))
    assert [run["seed"] for run in run_toy({"size": 3}, 1, out)["runs"]] == [0]
    assert [run["seed"] for run in json.loads(out.read_text())["runs"]] == [0, 1, 2]  # those not asked for stay
    with pytest.raises(ValueError, match="holds runs of another configuration"):
        run_toy({"size": 4}, 1, out)


def test_metrics_are_the_last_line_and_lists_over_seeds(tmp_path, capsys):
    assert run_untrained(TOY, ["--quick", "--seeds", "2", "--json", "--out", str(tmp_path / "q.json")]) == 0
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert line["quick"] is True and line["seeds"] == 2
    assert line["metrics"] == {"a": {"x": [0.1235, 1.123], "curve": [[0, 0.0], [1, 2.0]]}, "b": {"x": [1, 1]}}
    assert json.loads((tmp_path / "q.json").read_text())["config"] == {"size": 1}


@pytest.mark.parametrize("arguments", [["--seeds", "0"], ["--threads", "-1"], ["--out", "."]])
def test_bad_options_are_named(arguments, capsys):
    with pytest.raises(SystemExit):
        run_untrained(TOY, arguments)
    assert arguments[0] in capsys.readouterr().err


def test_a_stored_run_of_other_settings_is_not_overwritten(tmp_path, capsys):
    out = tmp_path / "x.json"
    out.write_text(json.dumps({"config": {"size": 9}, "runs": []}))
    with pytest.raises(SystemExit):
        run_untrained(TOY, ["--out", str(out)])
    assert "another configuration" in capsys.readouterr().err and '"size": 9' in out.read_text()


@pytest.mark.parametrize("name", ALL)
def test_every_experiment_is_listed_and_its_stored_result_is_of_its_settings(name):
    assert name in CATALOGUE and ALL[name].name == name
    record = json.loads((ROOT / "figures" / "data" / f"{name}.json").read_text())
    assert record["config"] == json.loads(json.dumps(ALL[name].settings)) and len(record["runs"]) >= 3
    assert record["summary"] == summary_over_seeds(over_seeds([run["found"] for run in record["runs"]]))
    assert record["machine"]["torch"] and record["seconds"] > 0

    def keys(x: object) -> set[str]:
        return set(x) | {k for y in x.values() for k in keys(y)} if isinstance(x, dict) else set()

    assert not [key for key in keys(record["summary"]) if "." in key]  # a claim's path is cut at dots


# ---------------------------------------------------------------- capacity


def test_rules_write_what_the_equations_write():
    k, v = unit_rows(1, 20, 8, rng=seeded()), unit_rows(1, 20, 4, rng=seeded(1))
    for rule, how in RULES.items():
        S = np.zeros((8, 4))
        for _ in range(how.get("passes", 1)):
            for a, b in zip(k[0].numpy(), v[0].numpy(), strict=True):
                S = math.exp(how.get("g", 0.0)) * S
                S = delta_step(S, a, b, how["beta"]) if "beta" in how else hebbian_step(S, a, b)
        torch.testing.assert_close(write_pairs(rule, k, v)[0], torch.from_numpy(S), atol=1e-12, rtol=0)


def test_no_matrix_misses_less_than_the_best_and_up_to_Dk_pairs_it_misses_nothing():
    for pairs in (8, 16, 40):
        k, v = unit_rows(30, pairs, 16, rng=seeded()), unit_rows(30, pairs, 8, rng=seeded(1))
        misses = {rule: (k @ write_pairs(rule, k, v) - v).square().sum((1, 2)) for rule in RULES}
        misses |= {name: (k @ fit_pairs(k, v, x) - v).square().sum((1, 2)) for name, x in FITS.items()}
        for name, miss in misses.items():
            assert (misses["best"] <= miss + 1e-12).all(), name
        if pairs <= 16:
            assert misses["best"].max() < 1e-15
        else:  # the projection that is left over has rank pairs - 16
            assert abs(misses["best"].mean() / pairs - (1 - 16 / pairs)) < 0.02


@pytest.mark.parametrize("beta", [None, 1.0, 0.3])
def test_errors_are_those_that_theory_expects(beta):
    draws, Dk, pairs = 3000, 8, 24
    k, v = unit_rows(draws, pairs, Dk, rng=seeded()), unit_rows(draws, pairs, 5, rng=seeded(1))
    rule = {None: "hebb", 1.0: "delta", 0.3: "delta_beta_third"}[beta]
    by_draw = (k @ write_pairs(rule, k, v) - v).square().sum(-1).mean(1)
    standard_error = (by_draw.std() / draws**0.5).item()
    assert abs(by_draw.mean().item() - expected_error(pairs, Dk, beta)) < 4 * standard_error
    assert standard_error < 0.01 * expected_error(pairs, Dk, beta)  # a test that could fail


def test_scores_count_nearest_and_stale_values():
    codebook = torch.eye(4, dtype=torch.float64)[None]
    k = torch.eye(3, dtype=torch.float64)[None]
    S = torch.tensor([[[1.0, 0, 0, 0], [0, 0, 0.9, 0], [0, 0, 0, 2.0]]], dtype=torch.float64)
    score = score_reads(S, k, codebook, torch.tensor([[0, 1, 3]]), torch.tensor([[[1], [2], [1]]]))
    assert score.accuracy == pytest.approx(2 / 3) and score.stale == pytest.approx(1 / 3)
    assert score.error == pytest.approx((0 + 0.81 + 1 + 1) / 3)


def test_keys_have_the_cosine_that_was_asked_for():
    for cosine in (0.0, 0.3, 0.9):
        k = correlated_keys(400, 6, 32, cosine, seeded())
        assert (k.norm(dim=-1) - 1).abs().max() < 1e-12
        between = (k @ k.mT)[:, ~torch.eye(6, dtype=torch.bool)]
        assert abs(between.mean() - cosine) < 0.01


def test_where_a_curve_falls_through():
    assert pairs_at([1, 2, 4], [1.0, 0.95, 0.85]) == pytest.approx(3)
    assert pairs_at([1, 2], [1.0, 1.0]) == 2 and pairs_at([1, 2], [0.5, 0.4]) == 1


# ---------------------------------------------------------------- constructions


@pytest.mark.parametrize("task", GROUPS)
def test_answers_follow_the_permutation_matrices(task):
    track = draw_tracking(task, 50, 3, seeded())
    n, writes = GROUPS[task]
    assert track.asked.sum() == 50 and track.q.shape == (3, n + 50 * writes, 1, n)
    for b in range(3):
        S = torch.zeros(n, n, dtype=torch.float64)
        for t in range(track.q.shape[1]):
            k, v, beta = track.k[b, t, 0].double(), track.v[b, t, 0].double(), track.beta[b, t, 0].double()
            S = S + torch.outer(k, beta * (v - S.T @ k))
            if track.asked[t]:
                o, answer = S.T @ track.q[b, t, 0].double(), track.answer[b, t]
                wanted = answer.double()[None] if n == 1 else torch.eye(n, dtype=torch.float64)[answer]
                assert (o - wanted).abs().max() < 1e-5
    if task == "S5_any":  # whole permutations: after each token all five answers occur about equally often
        many = draw_tracking(task, 400, 20, seeded())
        counts = torch.bincount(many.answer[:, many.asked].flatten(), minlength=5)
        assert (counts / counts.sum() - 0.2).abs().max() < 0.02


@pytest.mark.parametrize("task", GROUPS)
def test_beta_two_tracks_ten_thousand_tokens_through_every_operator(task):
    writes = GROUPS[task][1]
    track = draw_tracking(task, 10_000 // writes, 1, seeded())
    found = through_operators(track)
    assert len(found) == 6 and all(x["wrong"] == 0 for x in found.values())
    # a key of float32 is too short by up to 2^-24; in chunks these add up, 4 x 2^-24 a write at most
    limit = 0.0 if task == "parity" else 4 * 2**-24 * 10_000
    assert all(x["drift"] <= limit for x in found.values())
    if task != "parity":  # without a square root every number is whole, and nothing drifts at all
        whole = through_operators(draw_tracking(task, 10_000 // writes, 1, seeded(), integer_keys=True))
        assert all(x == {"wrong": 0, "drift": 0.0} for x in whole.values())


def test_up_to_one_beta_cannot_turn_a_sign():
    for beta in (0.3, 1.0):
        track = draw_tracking("parity", 2000, 4, seeded(), beta=beta)
        found = through_operators(track, ("delta_rule",))["recurrent_delta_rule"]
        odd = (track.answer[:, track.asked] < 0).sum()
        assert found["wrong"] >= odd  # never negative: every odd count is answered wrongly
    with pytest.raises(ValueError, match=r"task: expected one of .* got 'S4'"):
        draw_tracking("S4", 3, 1, seeded())


def test_reading_counts_windows_and_the_first_mistake():
    right = torch.tensor([[True, True, False, True], [True, True, True, True]])
    assert first_wrong(right) == 3.0 and by_window(right, [0, 2]) == [1.0, 0.75]
    track = draw_tracking("S3_swaps", 4, 1, seeded())
    perfect = torch.eye(3)[track.answer][:, :, None]
    assert check_reads(perfect, track)[0].all() and check_reads(perfect, track)[1] == 0.0
    assert not check_reads(perfect.roll(1, -1), track)[0].any()


def test_a_coarse_state_cleans_itself_and_a_dithered_one_does_not():
    settings = {"tokens": 1500, "streams": 4, "windows": [0, 1000]}
    found = stored_in("S5_swaps", settings, seeded())
    assert set(found) == {"beta_2", "beta_2_keys_bfloat16", "beta_1_9"}
    for form, entry in found["beta_2"].items():
        assert entry["accuracy"] == [1.0, 1.0] and entry["first_wrong"] == 1500, form
    assert found["beta_2"]["bfloat16"]["drift"] <= 2**-23
    assert found["beta_1_9"]["fp8"]["accuracy"][-1] == 1.0
    assert found["beta_1_9"]["bfloat16_stochastic"]["accuracy"][-1] < 0.6


# ---------------------------------------------------------------- precision


@pytest.mark.parametrize("form", FORMATS)
def test_storing_twice_is_storing_once_and_errors_stay_within_half_a_step(form):
    S = 3 * torch.randn(4, 16, 32, generator=seeded())
    once = store_(S.clone(), form, seeded())
    if "stochastic" not in form:
        torch.testing.assert_close(store_(once.clone(), form), once, rtol=2**-22, atol=0)
    largest = S.abs().amax(-1, keepdim=True)
    half_step = {
        "float32": 0.0 * S,
        "bfloat16": 2**-9 * S.abs() * 2,
        "fp8": 2**-5 * S.abs() * 2 + 2**-10,
        "int8": largest / 254,
    }[form.split("_")[0]]
    if form.startswith("fp8_"):  # below its smallest normal number e4m3 has steps of 2^-9, scaled with the row
        half_step = 2**-4 * S.abs() + 2**-10 * largest / 224
    if "stochastic" in form:
        half_step = 2 * half_step
    assert ((once - S).abs() <= half_step * (1 + 1e-5)).all()
    assert not store_(torch.zeros(2, 3), form, seeded()).any()
    with pytest.raises(ValueError, match=r"form: expected one of .* got 'int4'"):
        store_(S, "int4")


@pytest.mark.parametrize("form", ["bfloat16_stochastic", "int8_stochastic"])
def test_stochastic_rounding_has_the_right_mean(form):
    x = torch.tensor([[1.0, -0.3, 0.2503, 1e-3]]).repeat(40_000, 1)
    stored = store_(x.clone(), form, seeded()).double()
    error = (stored.mean(0) - x[0].double()).abs()
    assert (error <= 4 * stored.std(0) / 200 + 1e-8).all()
    assert stored[:, 2].unique().numel() == 2  # one of its two neighbours


def test_a_decay_near_one_does_nothing_to_bfloat16_and_shows_in_the_bits():
    # an entry x moves if 1 - decay is more than half a step, and a step of bfloat16 is 2^-8 to 2^-7 of x
    for decay, share in ((1 - 2**-9.1, 0.0), (0.999, 0.0), (0.9999, 0.0), (1 - 2**-7.9, 1.0), (0.9, 1.0)):
        assert fading(decay, "bfloat16", seeded(), steps=1)["changed"] == share, decay
    assert 0.2 < fading(0.997, "bfloat16", seeded(), steps=1)["changed"] < 0.9
    assert fading(0.999, "bfloat16", seeded())["left"] == 1.0
    for form in ("float32", "bfloat16_stochastic", "int8_row", "fp8_row"):
        assert fading(0.999, form, seeded())["left"] == pytest.approx(0.999**1000, rel=0.05), form
    assert torch.tensor(0.999, dtype=torch.bfloat16) == 1.0


def test_states_are_written_by_the_rules_of_the_equations():
    rng, D, T = seeded(), 8, 40
    stream = draw_stream("fresh", T, 2, D, rng)
    g = -torch.rand(T, 2, 2, D, generator=rng)
    states = States(("a", "b"), ["float32", "bfloat16_twice"], 2, D, rng)
    S = np.zeros((2, 2, D, D))
    for t in range(T):
        states.write(stream.k[t], stream.v[t], g[t], stream.beta[t])
        states.write_exact(stream.k[t], stream.v[t], g[t], stream.beta[t])
        for m in range(2):
            for h in range(2):
                k, v, beta = (x[t, h].double().numpy() for x in (stream.k, stream.v, stream.beta))
                S[m, h] = delta_step(np.exp(g[t, m, h].double().numpy())[:, None] * S[m, h], k, v, beta)
    torch.testing.assert_close(states.exact[0], torch.from_numpy(S), atol=1e-12, rtol=0)
    torch.testing.assert_close(states.S[0].double(), torch.from_numpy(S), atol=1e-5, rtol=0)
    assert torch.equal(states.S[1], states.S[1].bfloat16().float())
    errors = states.errors(stream, T)["a"]
    assert errors["float32"]["read"] < 1e-5 < 1e-3 < errors["bfloat16_twice"]["read"] < 0.1
    assert errors["float64"].keys() == {"miss"}


@pytest.mark.parametrize("kind", DATA)
def test_data_have_their_pattern(kind):
    stream = draw_stream(kind, 400, 2, 32, seeded())
    assert (stream.k.norm(dim=-1) - 1).abs().max() < 1e-5
    neighbours = (stream.k[1:] * stream.k[:-1]).sum(-1).mean().item()
    assert abs(neighbours - {"drifting": 0.9, "rewritten": 1 / 8}.get(kind, 0.0)) < 0.06
    if kind == "rewritten":
        assert len(stream.k[:, 0].unique(dim=0)) == 8
    if kind == "seldom":
        idle = ~stream.writes
        assert stream.writes.sum() == 25 and not stream.v[idle].any() and not stream.beta[idle].any()
    q, v = recent_writes(stream, 400)
    for r in range(len(q)):
        same = (stream.k[:, 1].double() == q[r, 1]).all(-1) & stream.writes
        assert torch.equal(v[r, 1], stream.v[same, 1][-1].double())
    with pytest.raises(ValueError, match=r"kind: expected one of .* got 'stale'"):
        draw_stream("stale", 4, 1, 8, seeded())


def test_an_8_bit_cache_does_not_age():
    stream = draw_stream("fresh", 6000, 1, 32, seeded())
    found = cache_errors(stream, [100, 1000, 6000])
    for model in ("softmax_flat", "softmax_sharp"):
        assert max(found[model]["float32"]["read"]) < 1e-6
        read = found[model]["int8_row"]["read"]
        assert max(read) < 0.02 and read[-1] < 2 * read[0]
    assert found["softmax_sharp"]["float64"]["miss"][-1] < 0.5 < 0.9 < found["softmax_flat"]["float64"]["miss"][-1]


def test_rounding_once_hardly_hurts_lightning_and_rounding_its_decay_apart_stops_it():
    settings = {"positions": [64, 4096], "heads": 1, "D": 32, "data": ["fresh", "seldom"]}
    found = measure_precision(0, settings, SILENT)
    assert set(found) == {*ADDITIVE, *DELTA_STATES, "softmax_flat", "softmax_sharp", "fading"}

    def last(model: str, kind: str, form: str) -> float:
        return found[model][kind][form]["read"][-1]

    assert last("lightning_nines_3", "fresh", "bfloat16") < 0.1
    assert last("lightning_nines_3", "fresh", "bfloat16_twice") > 1.5
    assert last("lightning_nines_3", "seldom", "bfloat16") > 1
    assert last("lightning_nines_3", "seldom", "bfloat16_stochastic") < 0.1
    for form in FORMATS:  # the rule that reads before it writes repairs: its error does not grow with the text
        early, late = found["deltanet"]["fresh"][form]["read"]
        assert late < 2.5 * early, form
    # a sum of T writes in steps of 2^-8 drifts like the square root of T: well above 2^-9, below 2^-8 T^(1/2)
    assert 2**-6 < last("linear", "fresh", "bfloat16") < 2**-8 * 4096**0.5
    assert last("linear", "fresh", "fp8_row") > 2 * last("linear", "fresh", "fp8_power")  # a row follows its largest


def test_what_no_key_reads_is_corrected_by_nobody_but_a_decay():
    stream, left = draw_stream("rewritten", 16_000, 1, 32, seeded()), {}
    keys = torch.linalg.svd(stream.k[:200, 0].unique(dim=0), full_matrices=False)[2]  # eight of 32 directions
    for g in (0.0, -1e-3):
        S, decay = torch.zeros(1, 1, 32, 32), torch.full((1, 1), g)
        for k, v, beta in zip(stream.k, stream.v, stream.beta, strict=True):
            decode_step(k[None], k[None], v[None], decay, beta[None], S, scale=1.0)
            store_(S, "fp8_row")
        read = keys @ S[0, 0]
        left[g] = (S[0, 0] - keys.mT @ read).norm().item() / read.norm().item()
    assert left[0.0] > 2 and left[-1e-3] < 0.7, left  # without rounding both would be 0


# ---------------------------------------------------------------- prefix reuse


def small_trace() -> tuple[Trace, list[int]]:
    """A system prompt of 100 tokens; a message of 50, an answer of 20, a message of 10; another first message of 30."""
    trace = Trace()
    system = trace.add(-1, 100)
    first = trace.add(system, 50)
    answer = trace.add(first, 20)
    second = trace.add(answer, 10)
    other = trace.add(system, 30)
    ends = [trace.add(second, 5), trace.add(other, 5), trace.add(first, 7)]
    trace.requests = [
        Request(first, answer),
        Request(second, ends[0]),
        Request(other, ends[1]),
        Request(first, ends[2]),
    ]
    return trace.finish(), [first, second, other]


def test_a_cache_that_can_be_cut_computes_what_is_new():
    trace, _ = small_trace()
    store = Store(trace, CUT_ANYWHERE, 10, 0, math.inf)
    # the second turn reads the answer's last token and its own 10; a regenerated answer the prompt's last token
    assert [store.request(r) for r in trace.requests] == [150, 11, 30, 1]
    assert store.bytes == 10 * (150 + 19 + 11 + 4 + 30 + 4 + 6)
    assert new_tokens(trace) == 150 + 10 + 30


def test_states_are_reused_where_they_were_kept():
    trace, _ = small_trace()
    expected = {
        Policy(64): [150, 160 + 20 - 128, 130 - 64, 150 - 128],  # grid: 64, 128, then 192
        Policy(before_last=1): [150, 180 - 169, 130, 1],
        Policy(before_last=1, branches=True): [150, 11, 130, 1],  # the branch after the system prompt is kept now
        Policy(100, before_last=0, answers=False, whole=True): [150, 30, 30, 50],  # a prompt's own end is no use to it
    }
    for policy, computed in expected.items():
        store = Store(trace, policy, 10, 1000, math.inf)
        assert [store.request(r) for r in trace.requests] == computed, policy
        again = store.request(trace.requests[2]._replace())
        assert again == {Policy(64): 130 - 128, Policy(100, 0, False, whole=True): 30}.get(policy, 1)
    branches = Store(trace, Policy(before_last=1, branches=True), 10, 1000, math.inf)
    for request in trace.requests:
        branches.request(request)
    assert (0, 100) in branches.kept


def test_the_longest_kept_prefix_is_used_in_whatever_order_they_came():
    trace = Trace()
    first, other = trace.add(-1, 50), trace.add(-1, 10)
    answers = [trace.add(first, 3) for _ in range(3)]
    turns = [trace.add(answer, 4) for answer in answers]
    trace.finish()
    store = Store(trace, Policy(20, before_last=0, answers=False, whole=True), 0, 1, 4)  # room for four states
    # first keeps 20, 40, 50; turns and `other` push 20 and 40 out, and 50 stays young; then first comes again
    prompts = [first, turns[0], other, turns[1], first, turns[2]]
    computed = [store.request(Request(prompt, answers[0])) for prompt in prompts]
    assert computed == [50, 7, 10, 7, 50, 7]


@pytest.mark.parametrize("policy", POLICIES)
def test_bytes_are_those_of_the_kept_positions_whatever_came_and_went(policy):
    trace = draw_trace(150, TalkHabits(), np.random.default_rng(1))
    how, budget = POLICIES[policy], 3 * 10**6
    store = Store(trace, how, 10, 10**5, budget)
    for request in trace.requests:
        assert 1 <= store.request(request) <= trace.end[request.prompt] and store.bytes <= budget
    if how.whole:
        assert store.bytes == sum(10**5 + 10 * x for _, x in store.kept)
    else:
        tokens = {(m, t) for n, x in store.kept for m in trace.path(n) for t in range(*span(trace, m, x))}
        assert store.bytes == 10**5 * len(store.kept) + 10 * len(tokens)
    assert 0 < store.most_bytes <= budget and len(store.kept) < 40


def span(trace: Trace, node: int, stop: int) -> tuple[int, int]:
    return trace.start(node), min(trace.end[node], stop)


def test_more_memory_never_computes_more_and_an_endless_cut_cache_computes_the_least():
    trace = draw_trace(200, TalkHabits(), np.random.default_rng(0))
    least = new_tokens(trace) / trace.prompt_tokens
    cut = [run_trace(trace, CUT_ANYWHERE, 1000, 0, budget)["recomputed"] for budget in (1e6, 1e8, math.inf)]
    assert cut[0] > cut[1] > cut[2]
    assert least <= cut[2] <= least + 2 * 200 / trace.prompt_tokens  # an answer's last token, a prompt read again
    grids = [run_trace(trace, Policy(N), 1000, 10**6, math.inf) for N in (64, 256, 1024)]
    assert cut[2] < grids[0]["recomputed"] < grids[1]["recomputed"] < grids[2]["recomputed"]
    assert grids[0]["GiB"] > grids[1]["GiB"] > grids[2]["GiB"]
    for name, policy in POLICIES.items():
        assert run_trace(trace, policy, 1000, 10**6, math.inf)["recomputed"] >= cut[2], name


def test_traces_share_and_branch():
    trace = draw_trace(300, TalkHabits(), np.random.default_rng(0))
    assert len(trace.requests) == 300 and all(n > 0 for n in trace.tokens)
    for n, parent in enumerate(trace.parent):
        assert trace.end[n] == trace.tokens[n] + (trace.end[parent] if parent >= 0 else 0)
    roots = {trace.path(r.prompt)[0] for r in trace.requests}
    assert 1 < len(roots) <= 4
    assert all(trace.parent[r.answer] == r.prompt for r in trace.requests)
    prompts = [r.prompt for r in trace.requests]
    again = 1 - len(set(prompts)) / 300
    assert 0.04 < again < 0.16  # about a tenth is asked for again
    for i, prompt in enumerate(prompts):  # only the latest prompt of a conversation is asked for again
        if prompt in prompts[:i]:
            last = i - 1 - prompts[:i][::-1].index(prompt)
            begins = trace.path(prompt)[1]
            assert not [p for p in prompts[last + 1 : i] if begins in trace.path(p)]
    answers = {r.answer for r in trace.requests}
    cut = [n for n in set(trace.parent) if n >= 0 and n not in answers and n not in prompts and n not in roots]
    assert len(cut) > 10  # messages that were changed in the middle
    same = draw_trace(300, TalkHabits(), np.random.default_rng(0))
    assert same.tokens == trace.tokens and same.requests == trace.requests
    with pytest.raises(ValueError, match="requests: expected a number >= 1, got 0"):
        draw_trace(0, TalkHabits(), np.random.default_rng(0))


@pytest.mark.parametrize(("every", "budget"), [(16, 2**20), (16, 2**40), (7, 2**21)])
def test_counted_tokens_and_bytes_are_those_of_a_model_with_a_prefix_cache(every, budget):
    torch.manual_seed(0)
    found = check_on_a_model(25, every, budget, np.random.default_rng(2))
    assert found["requests_that_differ"] == 0 and found["counted"] == found["read"] < found["prompt_tokens"]


def test_the_cast_is_counted_by_its_configs():
    models = {name: model_bytes(config) for name, config in cast().items()}
    assert models["qwen3_next"][0] == 12 * 2 * 2 * 256 * 2 and models["qwen3_next_all_softmax"] == (4 * 24 * 1024, 0)
    assert models["kimi_linear_all_softmax"] == (27 * 576 * 2, 0)
    assert all(
        states == 0 for name, (_, states) in models.items() if "softmax" in name or name in ("qwen3", "minimax_m2")
    )


# ---------------------------------------------------------------- whole runs, small


SMALL = {
    "capacity": {"draws": 2, "Dks": [8], "Dk": 16},
    "constructions": {"tokens": 20, "streams": 1, "windows": [0, 4], "long_tokens": 30, "long_streams": 1},
    "precision": {"positions": [4, 40], "heads": 1, "D": 8},
    "prefix_reuse": {"requests": 12, "check_requests": 4, "budgets_GiB": [1, None]},
}


@pytest.mark.parametrize("name", ALL)
def test_the_command_runs_and_repeats_itself(name, capsys, monkeypatch):
    module = importlib.import_module(f"reference.experiments.untrained.{name}")
    monkeypatch.setattr(module, name.upper(), ALL[name]._replace(quick=SMALL[name]))
    found = []
    for _ in range(2):
        assert main(["experiment", name, "--quick", "--seeds", "2", "--json"]) == 0
        lines = capsys.readouterr().out.splitlines()
        found.append(json.loads(lines[-1]))
        assert lines[0] and "|" in "\n".join(lines[:-1])
    assert found[0] == found[1] and found[0]["quick"]

    def leaves(x: object) -> list:
        return [y for value in x.values() for y in leaves(value)] if isinstance(x, dict) else [x]

    assert all(isinstance(x, list) and len(x) == 2 for x in leaves(found[0]["metrics"]))
