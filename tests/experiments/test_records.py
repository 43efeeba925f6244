"""The stored studies are those that the commands make: same configuration, all runs, and a summary that follows."""

import json

import pytest

from reference.experiments.catalogue import CATALOGUE
from reference.experiments.records import load_record, mean_and_deviation
from reference.experiments.toys.run import Study, best_rates, metrics
from reference.experiments.toys.studies import STUDIES
from reference.files import STORED
from reference.tasks import RecallByParity

RECORDS = [name for name in STUDIES if (STORED / f"{name}.json").exists()]


def test_every_study_is_stored():
    assert set(RECORDS) == set(STUDIES)


@pytest.mark.parametrize("name", RECORDS)
def test_a_stored_study_is_what_its_command_makes(name):
    setting, record, seeds = STUDIES[name], load_record(name), CATALOGUE[name].seeds
    study = Study(name, setting.task(), setting.models, setting.recipe)
    assert json.loads(json.dumps(study.config())) == record["config"]
    wanted = {(model, lr, seed) for model in setting.models for lr in setting.recipe.lrs for seed in range(seeds)}
    assert {(run["model"], run["lr"], run["seed"]) for run in record["runs"]} == wanted
    assert len(record["runs"]) == len(wanted)
    assert record["summary"] == json.loads(json.dumps(best_rates(record["runs"], list(setting.models))))
    assert all(machine["torch"] for machine in record["machines"]) and record["seconds"] > 0


def test_the_headline_separates_on_every_seed():
    found = metrics(load_record("two_tasks"))
    assert min(found["hybrid"]["recall"]) >= 0.9 and min(found["hybrid"]["parity"]) >= 0.8
    assert max(found["softmax"]["parity"]) <= 0.7 and max(found["delta"]["recall"]) <= 0.6
    found = metrics(load_record("multi_hop"))
    assert min(x for entry in found.values() for x in entry["hops_1"]) >= 0.95
    assert min(x for stack in STUDIES["multi_hop"].quick for x in found[stack]["hops_2"]) >= 0.8
    found = metrics(load_record("overwrite"))
    assert min(found["gated_deltanet"]["accuracy_hardest"]) >= 0.9 and max(found["linear"]["accuracy_hardest"]) <= 0.3


def test_one_task_inside_the_other_needs_a_state_with_a_sign_and_a_memory_with_room():
    record = load_record("recall_by_parity")
    found, either = metrics(record), RecallByParity(16, 16).chance()
    assert min(found["linear, softmax"]["accuracy"]) >= 0.95
    assert max(found["all softmax"]["accuracy"]) <= either + 0.15  # the key, and hardly ever the parity
    assert max(found["beta below 1, softmax"]["accuracy"]) <= 0.8
    by_load = {name: record["summary"][name]["accuracy"]["8 pairs, 16 bits"] for name in found}
    assert max(by_load["all linear, Dk 4"]) < min(by_load["linear, softmax"])


def test_the_deviation_over_seeds_is_that_of_a_sample():
    assert mean_and_deviation([0.8, 0.9, 1.0], ".2f") == "0.90 ± 0.10"
    assert mean_and_deviation([0.8]) == "0.8"
