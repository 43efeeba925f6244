"""The experiment of chapter 16: what its scores are, when a model is looked at, and that a short run has all parts."""

import json

import numpy as np
import pytest
import torch

from reference.__main__ import main
from reference.experiments.models.conversion import (
    CHOICES,
    EXAM_QUESTIONS,
    LOAD,
    SOFTMAX_LAYERS,
    conversion_summary,
    growing_texts,
    new_facts_model,
    scores_of,
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


def test_texts_grow_to_the_exams_load():
    lengths = [ids.shape[1] for ids in growing_texts(Facts(), 0, 20)]
    assert lengths[0] == 1 + 2 * 3 * 4 and lengths[-1] == 1 + 16 * 2 * 4 and lengths == sorted(lengths)


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
        assert run["trained"]["evenly"]["keep"] == [4] and run["trained"]["none"]["keep"] == []
        for entry in run["trained"].values():
            wanted = run["kept"][entry["keep"][0] - 1] if entry["keep"] else None
            assert wanted is None or entry["looks"][0] == wanted
