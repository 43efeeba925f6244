"""The experiment of chapter 16: what its scores are, when a model is looked at, and that a short run has all parts."""

import json

import numpy as np
import pytest
import torch

from reference.__main__ import main
from reference.experiments.models import facts
from reference.experiments.models.conversion import SOFTMAX_LAYERS, conversion_summary
from reference.experiments.models.facts import (
    CHOICES,
    DONE,
    EXAM_QUESTIONS,
    LADDER,
    LOAD,
    STEPS_SEEN,
    Climb,
    new_facts_model,
    scores_of,
    texts_with,
    train_until_it_recalls,
)
from reference.experiments.records import load_record
from reference.tasks import Facts
from reference.training.convert import convert


@torch.no_grad()
def test_choosing_compares_the_likelihoods_of_whole_answers():
    """The exam reads each text once, with a cache; here every answer is read behind its text anew."""
    task = Facts()
    model = convert(new_facts_model(task, 3, ("full_attention",) * 4), [2])
    asked = task.ask(EXAM_QUESTIONS, np.random.default_rng(10**6 + 1), facts=LOAD["facts"], choices=CHOICES)
    T, right = asked.ids.shape[1], []
    for others in (asked.others, asked.random):
        likelihood = []
        for given in (asked.answers, *others.unbind(1)):
            log_p = model(torch.cat([asked.ids, given], 1))[:, T - 1 : -1].log_softmax(-1)
            likelihood.append(log_p.gather(-1, given[..., None]).sum((1, 2)))
        right.append((likelihood[0] > torch.stack(likelihood[1:]).amax(0)).float().mean().item())
    found = scores_of(model, task)
    assert [found["among_text"], found["among_random"]] == pytest.approx(right, abs=0.02)


def test_texts_have_one_size_and_the_last_the_exams_load():
    rng, task = np.random.default_rng(0), Facts()
    shapes = [tuple(texts_with(n, task, rng).ids.shape) for n in LADDER]
    assert shapes[-1] == (6, 1 + LOAD["facts"] * LOAD["times"] * 4) and LADDER[-1] == LOAD["facts"]
    assert {B * (T - 1) for B, T in shapes} == {768}


def test_a_rung_is_left_when_its_latest_texts_were_recalled():
    climb, seen = Climb(), []
    for recall in [0.0] * STEPS_SEEN + [0.92] * 3 * STEPS_SEEN + [0.94] * STEPS_SEEN + [1.0] * STEPS_SEEN:
        seen.append((climb.facts, climb.done))
        climb.see(recall)
    facts_seen = [n for n, _ in seen]
    assert facts_seen == sorted(facts_seen) and set(facts_seen) == set(LADDER)
    assert facts_seen[: 2 * STEPS_SEEN - 1] == [LADDER[0]] * (2 * STEPS_SEEN - 1)  # zeros weigh while they are there
    assert climb.done and not climb.rung < len(LADDER) - 1
    assert not any(done for n, done in seen if n < LADDER[-1])


def test_training_ends_where_it_recalls_or_where_it_must(monkeypatch):
    task = Facts()
    looked = []
    took = train_until_it_recalls(
        new_facts_model(task, 0, ("short_conv",)), task, 0, lr=1e-2, most=7, look=looked.append
    )
    assert took == (7, 7 * 8 * 97) and looked == list(range(1, 8))
    monkeypatch.setattr(facts, "CLIMB", 0.0)
    monkeypatch.setattr(facts, "DONE", 0.0)
    monkeypatch.setattr(facts, "LAST_STEPS", 3)
    took = train_until_it_recalls(
        new_facts_model(task, 0, ("short_conv",)), task, 0, lr=1e-2, most=100, look=looked.append
    )
    assert took.steps == len(LADDER) * STEPS_SEEN + 3


def test_a_short_run_has_all_parts(capsys):
    assert main(["experiment", "conversion", "--quick", "--json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    metrics = json.loads(lines[-1])["metrics"]
    assert {"teacher", "carried, evenly", "whole distilled, none", "scratch"} <= metrics.keys()
    assert all(len(seeds) == 1 for scores in metrics.values() for seeds in scores.values())
    assert metrics["layers distilled, evenly"] != metrics["whole distilled, evenly"]


def test_the_stored_runs_say_what_their_summary_says():
    record = load_record("conversion")
    assert conversion_summary(record["runs"]) == record["summary"]
    for run in record["runs"]:
        recall = [found["recall"] for found in run["replaced"]]
        assert run["trained"]["recall"]["keep"] == [SOFTMAX_LAYERS[int(np.argmin(recall))]]
        assert run["teacher"]["recall"] >= DONE and run["steps"]["teacher"] < record["config"]["most"]
        assert run["trained"]["evenly"]["keep"] == [4] and run["trained"]["none"]["keep"] == []
        for entry in run["trained"].values():
            wanted = run["kept"][entry["keep"][0] - 1] if entry["keep"] else None
            assert wanted is None or entry["looks"][0] == wanted
