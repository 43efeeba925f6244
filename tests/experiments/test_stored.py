"""Runs that are stored already: every experiment says so and where, shows them, and runs anew only where asked to."""

import json
from importlib.util import find_spec

import pytest

from reference.__main__ import main
from reference.experiments.catalogue import CATALOGUE, Experiment
from reference.experiments.models import hybrid, sinks
from reference.experiments.untrained.run import Untrained, run_untrained
from reference.files import STORED


def file_of(name):
    return STORED / ("sinks_backcopy.json" if name == "sinks" else f"{name}.json")


@pytest.mark.parametrize("name", CATALOGUE)
def test_what_is_stored_is_said_and_shown_and_not_touched(name, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    before = file_of(name).read_bytes()
    assert main(["experiment", name]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("All ") and f"stored in figures/data/{file_of(name).name}; nothing is left" in lines[0]
    assert any(line.startswith("| ") for line in lines[1:-1])
    assert lines[-1].startswith(f"To run everything again: --again (into runs/{file_of(name).name}) or --out F")
    assert file_of(name).read_bytes() == before and list(tmp_path.iterdir()) == []


def test_every_entry_of_the_catalogue_has_its_code():
    for name, entry in CATALOGUE.items():
        module = "run" if entry.kind == "toys" else name
        assert find_spec(f"reference.experiments.{entry.kind}.{module}") is not None, name
        assert entry.about[0].islower() and not entry.about.endswith("."), name


@pytest.mark.parametrize("name", CATALOGUE)
def test_help_says_the_same_of_every_experiment(name, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["experiment", name, "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert ended.value.code == 0 and f"All runs take {CATALOGUE[name].takes} on 2 cores." in said
    for option in ("--seeds N", "--json", "--out F", "--again", "--threads N"):
        assert option in said, option
    assert ("--quick" in said) == (CATALOGUE[name].quick is not None)


def fresh(seed, settings, bar):
    return {"a": {"x": 10.0 + seed}}


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """An untrained experiment with its book's record, in a folder of its own that is also the working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("reference.experiments.untrained.run.STORED", tmp_path / "figures" / "data")
    monkeypatch.setitem(CATALOGUE, "toy", Experiment("untrained", "a toy", "a moment"))
    experiment = Untrained(
        "toy",
        settings={"size": 3},
        quick={"size": 1},
        measure=fresh,
        steps=lambda _: 1,
        table=lambda record: "| table |",
    )
    assert run_untrained(experiment, ["--seeds", "2"]) == 0
    file = tmp_path / "figures" / "data" / "toy.json"
    file.write_text(file.read_text().replace("11.0", "77.0"))  # to see which runs are the book's
    return experiment, file


def values(file):
    return [run["found"]["a"]["x"] for run in json.loads(file.read_text())["runs"]]


def test_again_runs_everything_into_another_file_and_says_so(toy, tmp_path, capsys):
    experiment, book = toy
    capsys.readouterr()
    for _ in range(2):  # the second time over the first's runs
        assert run_untrained(experiment, ["--seeds", "2", "--again"]) == 0
        said = capsys.readouterr().out
        assert said.startswith("Running toy anew into runs/toy.json; ") and "nothing is left" not in said
        assert values(tmp_path / "runs" / "toy.json") == [10.0, 11.0] and values(book) == [10.0, 77.0]
        (tmp_path / "runs" / "toy.json").write_text(book.read_text())
    assert run_untrained(experiment, ["--seeds", "2", "--again", "--out", "there.json"]) == 0
    assert values(tmp_path / "there.json") == [10.0, 11.0] and values(book) == [10.0, 77.0]


def test_runs_that_are_missing_are_run_without_a_word(toy, capsys):
    experiment, book = toy
    capsys.readouterr()
    assert run_untrained(experiment, ["--seeds", "3"]) == 0
    assert "stored" not in capsys.readouterr().out and values(book) == [10.0, 77.0, 12.0]


def test_a_study_again_leaves_the_stored_one(tmp_path, monkeypatch, capsys):
    asked = []

    def train(task, stack, recipe, runs, bar, device):
        asked.extend(runs)
        found = {"loss": 1.0, "validation": 1.0, "seconds": 1.0}
        return [run._asdict() | found | {"accuracy": dict.fromkeys(task.tests, 0.5)} for run in runs]

    monkeypatch.setattr("reference.experiments.toys.run.train_toys", train)
    monkeypatch.chdir(tmp_path)
    before = file_of("induction").read_bytes()
    assert main(["experiment", "induction", "--again"]) == 0
    assert "into runs/induction.json; figures/data/induction.json stays" in capsys.readouterr().out
    kept = json.loads((tmp_path / "runs" / "induction.json").read_text())
    assert len(asked) == len(kept["runs"]) == len(json.loads(before)["runs"])
    assert main(["experiment", "induction", "--again"]) == 0  # over the first's runs
    assert len(asked) == 2 * len(kept["runs"])
    assert main(["experiment", "induction", "--out", "runs/induction.json"]) == 0
    assert len(asked) == 2 * len(kept["runs"]) and "stored in runs/induction.json" in capsys.readouterr().out
    assert file_of("induction").read_bytes() == before


@pytest.mark.parametrize("module", [sinks, hybrid])
def test_other_settings_than_the_stored_are_run(module, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(hybrid, "train_stack", lambda *a: (None, {"held_out": [(0, 5.5)]}))
    name = module.__name__.rpartition(".")[2]
    small = ["--steps", "2", "--seeds", "1", "--threads", "1"]
    small += ["--quick", "--variants", "softmax"] if module is sinks else []
    assert main(["experiment", name, *small, "--again"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("Running ") and "nothing is left" not in said
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [file_of(name).name]


@pytest.mark.parametrize("text", ["no json", "[]", '{"config": {}}'])
def test_a_file_that_is_no_record_of_this_experiment_is_named(toy, tmp_path, text, capsys):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(SystemExit) as ended:
        run_untrained(toy[0], ["--out", "x.json"])
    assert ended.value.code == 2 and "out: x.json " in capsys.readouterr().err
    assert (tmp_path / "x.json").read_text() == text
