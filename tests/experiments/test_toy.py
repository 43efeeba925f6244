"""Toy studies: equal parameters, causal mixers, runs that go on, and the numbers that --json promises."""

import json

import pytest
import torch

from reference.__main__ import main
from reference.experiments import TOYS, study
from reference.experiments.mixers import TOY_MIXERS, ToyLM
from reference.experiments.studies import STUDIES
from reference.experiments.toy import Recipe, Study, best_rates

TINY_RECIPE = Recipe(3, batch_size=4, lrs=(1e-3, 3e-3), d_model=16, key_dim=4, value_dim=8)


@pytest.mark.parametrize("name", STUDIES)
def test_models_of_a_study_have_equal_parameters(name):
    setting = STUDIES[name]
    recipe, vocab_size = setting.recipe, setting.task().vocab_size
    sizes = {"d_model": recipe.d_model, "key_dim": recipe.key_dim, "value_dim": recipe.value_dim}
    for depth in {len(layers) for layers in setting.models.values()}:  # recall compares mixers, and stacks of four
        stacks = [layers for layers in setting.models.values() if len(layers) == depth]
        counts = [sum(p.numel() for p in ToyLM(vocab_size, layers, **sizes).parameters()) for layers in stacks]
        assert max(counts) < 1.01 * min(counts), counts


@torch.no_grad()
@pytest.mark.parametrize("name", TOY_MIXERS)
def test_every_mixer_is_causal_and_looks_back(name):
    torch.manual_seed(0)
    model, ids = ToyLM(20, (name,)), torch.randint(0, 20, (1, 70))
    changed = ids.clone()
    changed[0, 66] = (changed[0, 66] + 1) % 20
    before, after = model(ids), model(changed)
    assert torch.allclose(before[:, :66], after[:, :66], atol=1e-5)
    assert (before[:, 67:] - after[:, 67:]).abs().amax(-1).min() > 1e-5


def test_a_study_goes_on_where_it_was(tmp_path, monkeypatch):
    setting, out = STUDIES["overwrite"], tmp_path / "overwrite.json"
    models = {name: setting.models[name] for name in ("linear", "softmax")}
    first = Study("overwrite", setting.task(), models, TINY_RECIPE, out).run(1)
    assert len(first["runs"]) == 4 and json.loads(out.read_text())["runs"] == first["runs"]
    cut = json.loads(out.read_text())
    cut["runs"] = cut["runs"][:3]
    out.write_text(json.dumps(cut))
    again = Study("overwrite", setting.task(), models, TINY_RECIPE, out).run(2)
    assert again["runs"][:3] == first["runs"][:3] and len(again["runs"]) == 8
    same = {key: again["runs"][3][key] for key in ("model", "lr", "seed", "loss", "accuracy")}
    assert same == {key: first["runs"][3][key] for key in same}  # a run is the same whenever it runs
    with pytest.raises(ValueError, match="holds runs of another configuration"):
        Study("overwrite", setting.task(), models, TINY_RECIPE._replace(steps=4), out)


def test_the_best_rate_is_chosen_over_all_tests_and_seeds():
    runs = [
        {"model": "a", "lr": lr, "seed": seed, "accuracy": {"x": x, "y": 0.5}}
        for lr, seed, x in ((0.1, 0, 1.0), (0.1, 1, 0.0), (0.2, 0, 0.6), (0.2, 1, 0.7), (0.3, 0, 0.9))
    ]
    assert best_rates(runs, ["a", "b"]) == {"a": {"lr": 0.2, "accuracy": {"x": [0.6, 0.7], "y": [0.5, 0.5]}}}


def test_the_command_line(tmp_path, capsys, monkeypatch):
    small = {name: s._replace(quick_recipe=TINY_RECIPE._replace(lrs=(1e-3,))) for name, s in STUDIES.items()}
    monkeypatch.setattr(study, "STUDIES", small)
    promised = {
        "two_tasks": ({"softmax", "delta", "hybrid"}, {"recall", "parity"}),
        "overwrite": ({"linear", "gated_deltanet", "softmax"}, {"accuracy_hardest"}),
        "recall": ({"softmax_nope", "linear", "gated_linear", "gated_deltanet"}, {"accuracy"}),
    }
    for name, (models, keys) in promised.items():
        assert main(["experiment", name, "--quick", "--seeds", "2", "--json"]) == 0
        metrics = json.loads(capsys.readouterr().out.splitlines()[-1])["metrics"]
        assert set(metrics) == models and all(set(entry) == keys for entry in metrics.values())
        values = next(iter(metrics["softmax" if name != "recall" else "linear"].values()))
        values = values if isinstance(values, list) else values["48 pairs"]
        assert len(values) == 2 and all(0 <= x <= 1 for x in values)
    assert set(TOYS) == set(STUDIES)
    assert main(["experiment", "list"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in [*STUDIES, "sinks", "hybrid"])
