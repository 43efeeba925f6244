"""Toy studies: equal parameters, causal mixers, runs that go on, and the numbers that --json promises."""

import json
import re
from functools import partial

import pytest
import torch
from tqdm import tqdm

from reference.__main__ import main
from reference.commands.bench import BENCHES
from reference.experiments.catalogue import CATALOGUE
from reference.experiments.toys import run as toys_run
from reference.experiments.toys import training
from reference.experiments.toys.members import AdamWs, Linears, schedule, side_by_side_members
from reference.experiments.toys.mixers import TOY_MIXERS, WINDOW, ToyLM, toy_cache_bytes
from reference.experiments.toys.run import Study, as_table, best_rates, edge_of_rates, run_study, runs_of_study
from reference.experiments.toys.studies import STUDIES
from reference.experiments.toys.training import Recipe, Run, Stack, digits, new_toy, train_toys

TINY_RECIPE = Recipe(3, batch_size=4, lrs=(1e-3, 3e-3), d_model=16, key_dim=4, value_dim=8)


@pytest.mark.parametrize("name", STUDIES)
def test_models_of_a_study_have_equal_parameters(name):
    setting = STUDIES[name]
    recipe = setting.recipe
    for depth in {len(stack.layers) for stack in setting.models.values()}:
        stacks = [stack for stack in setting.models.values() if len(stack.layers) == depth]
        models = [new_toy(setting.task(), x, recipe) for x in stacks]
        counts = [sum(p.numel() for p in model.parameters()) for model in models]
        assert max(counts) < 1.01 * min(counts), counts
    assert set(setting.quick) <= set(setting.models)


def test_a_study_that_asks_again_differs_in_what_its_name_says():
    for again, first in (("permutations_3_long", "permutations_5"), ("state_size_solved", "state_size")):
        assert STUDIES[again].recipe == STUDIES[first].recipe
    rng = torch.Generator()
    for name in ("needle", "induction"):
        one, many = STUDIES[name].task(), STUDIES[f"{name}_many"].task()
        assert many.tests == one.tests
        for seed in range(20):
            few, more = (task.difficulty(rng.manual_seed(seed), 0.0) for task in (one, many))
            asked = training.asked(many.draw(2, rng, **more)).sum(1)
            assert more.pop("questions") == asked[0] == asked[1] > 2 and more == few
    fed_back = STUDIES["copying_fed_back"].task()
    ids, answers = fed_back.draw(1, rng, **fed_back.difficulty(rng, 0.0))
    assert torch.equal(ids[0, -7:], answers[0, -8:-1])


@torch.no_grad()
@pytest.mark.parametrize("name", TOY_MIXERS)
def test_every_mixer_is_causal_and_looks_back(name):
    torch.manual_seed(0)
    model, ids = ToyLM(20, (name,)), torch.randint(0, 20, (1, 1, 70))
    changed = ids.clone()
    changed[0, 0, 66] = (changed[0, 0, 66] + 1) % 20
    before, after = model(ids), model(changed)
    assert torch.allclose(before[:, :, :66], after[:, :, :66], atol=1e-5)
    assert (before[:, :, 67:] - after[:, :, 67:]).abs().amax(-1).min() > 1e-5


@torch.no_grad()
@pytest.mark.parametrize("name", TOY_MIXERS)
def test_members_never_meet(name):
    models = []
    for seed in range(3):
        torch.manual_seed(seed)
        models.append(ToyLM(20, (name, name)))
    ids = torch.randint(0, 20, (3, 2, 20))
    alone = torch.cat([model(ids[n : n + 1]) for n, model in enumerate(models)])
    together = side_by_side_members(models)(ids)
    assert torch.allclose(together, alone, atol=1e-5)
    assert (alone[0] - alone[1]).abs().max() > 0.1


def test_the_optimizer_is_pytorchs_with_a_rate_for_each_member():
    torch.manual_seed(0)
    lrs, steps, x = (0.01, 0.1), 20, torch.randn(2, 5, 3)
    singles = [Linears(3, 2, bias=True) for _ in lrs]
    copies = [Linears(3, 2, bias=True) for _ in lrs]
    for single, copy in zip(singles, copies, strict=True):
        copy.load_state_dict(single.state_dict())
    many = side_by_side_members(copies)
    ours = AdamWs(many, list(lrs), steps)
    theirs = [
        torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.98), weight_decay=0.01)
        for model, lr in zip(singles, lrs, strict=True)
    ]
    rate = torch.optim.lr_scheduler.LambdaLR
    rates = [rate(optimizer, lambda step: schedule(step, steps)) for optimizer in theirs]
    for _ in range(steps):
        (100 * many(x).square().mean((1, 2))).sum().backward()
        ours.advance()
        ours.step()
        for n, single in enumerate(singles):
            theirs[n].zero_grad()
            (100 * single(x[n : n + 1]).square().mean()).backward()
            assert torch.nn.utils.clip_grad_norm_(single.parameters(), 1.0) > 1  # else nothing is clipped
            theirs[n].step()
            rates[n].step()
    assert torch.allclose(many.weight, torch.cat([x.weight for x in singles]), atol=1e-5)
    assert torch.allclose(many.bias, torch.cat([x.bias for x in singles]), atol=1e-5)


def test_a_run_is_the_same_alone_and_beside_others():
    task, recipe = STUDIES["two_tasks"].task(), TINY_RECIPE._replace(steps=12)
    stack, bar = Stack(("softmax", "gated_deltanet")), tqdm(disable=True)
    runs = [Run(3e-3, 0), Run(1e-2, 1), Run(1e-2, 0)]
    together = train_toys(task, stack, recipe, runs, bar)
    for run, result in zip(runs, together, strict=True):
        (alone,) = train_toys(task, stack, recipe, [run], bar)
        assert alone["loss"] == pytest.approx(result["loss"], abs=2e-3)
        assert alone["validation"] == pytest.approx(result["validation"], abs=2e-3)
    assert together[0]["loss"] != together[2]["loss"] and together[1]["loss"] != together[2]["loss"]


def test_a_run_that_is_solved_ends_and_keeps_its_weights(monkeypatch):
    monkeypatch.setattr(training, "LATEST", 3)
    monkeypatch.setattr(training, "FALL", 4)
    task, stack, bar = STUDIES["overwrite"].task(), Stack(("linear",)), tqdm(disable=True)
    recipe = TINY_RECIPE._replace(steps=40, constant=True, tied=True, solved=4.8)
    runs = [Run(1e-1, 0), Run(1e-6, 1)]
    quick, slow = train_toys(task, stack, recipe, runs, bar)
    assert 3 < quick["steps"] < 40 == slow["steps"] and quick["loss"] < slow["loss"]
    (alone,) = train_toys(task, stack, recipe, runs[:1], bar)
    assert alone["steps"] == quick["steps"]
    assert alone["validation"] == pytest.approx(quick["validation"], abs=2e-3)
    assert "steps" not in train_toys(task, stack, TINY_RECIPE, runs[:1], bar)[0]


def test_a_loss_at_every_layer_teaches_every_layer():
    task, stack = STUDIES["recall"].task(), Stack(("softmax_nope", "linear"))
    model = new_toy(task, stack, TINY_RECIPE._replace(tied=True))
    ids, right = (x[None] for x in task.draw(4, torch.Generator().manual_seed(0), pairs=3))
    answers = torch.stack([right.where(right < 0, 1 + right % 128), right], 1)  # the first layer has its own
    outputs = [model.read(x) for x in model.after_layers(ids)]
    first, last = (training.loss_of_members(x, answers[:, n]) for n, x in enumerate(outputs))
    assert torch.allclose(last, training.loss_of_members(model(ids), answers[:, 1]))
    optimizer = AdamWs(model, [1e-2], 3, constant=True)
    step = training.training_step(model, optimizer, "cpu", every_layer=True)
    optimizer.advance()
    assert torch.allclose(step(ids, answers), (first + last) / 2) and first != last


def test_bytes_of_a_toys_cache():
    heads = {"n_heads": 2, "key_dim": 8, "value_dim": 32}
    tail = 4 * 3 * 2 * (8 + 8 + 32)
    assert toy_cache_bytes(("linear",), 1000, **heads) == 4 * 2 * 8 * 32 + tail
    assert toy_cache_bytes(("softmax", "linear"), 1000, **heads) == 4 * 1000 * 2 * 40 + 4 * 2 * 8 * 32 + 2 * tail
    assert toy_cache_bytes(("sliding_window",), 1000, **heads) == 4 * (WINDOW - 1) * 2 * 40 + tail


def test_a_toy_mixer_is_one_line_of_a_table(monkeypatch):
    for build in (lambda: ToyLM(20, ("mamba",)), lambda: toy_cache_bytes(("mamba",), 10)):
        with pytest.raises(ValueError, match=r"mixer: expected one of \['softmax', .* got 'mamba'"):
            build()
    monkeypatch.setitem(TOY_MIXERS, "mamba", TOY_MIXERS["gated_linear"]._replace(beta_max=2))
    logits = ToyLM(20, ("mamba", "softmax"))(torch.zeros(1, 2, 5, dtype=torch.long))
    assert logits.shape == (1, 2, 5, 20) and logits.isfinite().all()
    assert toy_cache_bytes(("mamba",), 10) == toy_cache_bytes(("linear",), 10)


def test_a_study_goes_on_where_it_was(tmp_path, monkeypatch):
    setting, out = STUDIES["overwrite"], tmp_path / "overwrite.json"
    models = {name: setting.models[name] for name in ("linear", "softmax")}
    study = Study("overwrite", setting.task(), models, TINY_RECIPE)
    first = run_study(study, runs_of_study(study, out), 1)
    assert len(first["runs"]) == 4 and json.loads(out.read_text())["runs"] == first["runs"]
    cut = json.loads(out.read_text())
    cut["runs"] = cut["runs"][:3]
    out.write_text(json.dumps(cut))
    again = run_study(study, runs_of_study(study, out), 2)
    assert len(again["runs"]) == 8 and all(run in again["runs"] for run in cut["runs"])
    once_more = next(run for run in again["runs"] if run["seed"] == 0 and run not in cut["runs"])
    for key in ("model", "lr", "loss", "validation", "accuracy"):  # a run is the same whenever it runs
        assert once_more[key] == pytest.approx(first["runs"][3][key], abs=2e-3)
    with pytest.raises(ValueError, match="holds runs of another configuration"):
        runs_of_study(study._replace(recipe=TINY_RECIPE._replace(steps=4)), out)


def test_the_best_rate_is_chosen_by_validation_and_not_by_the_tests():
    runs = [
        {"model": "a", "lr": lr, "seed": seed, "validation": loss, "accuracy": {"x": x, "y": 0.5}}
        for lr, seed, loss, x in ((0.1, 0, 0.9, 1.0), (0.1, 1, 0.5, 1.0), (0.2, 0, 0.6, 0.6), (0.2, 1, 0.7, 0.7))
    ]
    runs.append({"model": "a", "lr": 0.3, "seed": 0, "validation": 0.1, "accuracy": {"x": 1.0, "y": 1.0}})
    best = {"lr": 0.2, "seed": [0, 1], "validation": [0.6, 0.7], "accuracy": {"x": [0.6, 0.7], "y": [0.5, 0.5]}}
    assert best_rates(runs, ["a", "b"]) == {"a": best}


def test_a_rate_at_the_edge_of_those_tried_is_flagged():
    def run(model, lr, loss):
        return {"model": model, "lr": lr, "seed": 0, "validation": loss, "accuracy": {"x": 0.5}}

    losses = {"a": (0.2, 0.1, 0.3), "b": (0.3, 0.2, 0.1), "c": (0.1, 0.2, 0.3)}
    runs = [run(model, lr, x) for model, y in losses.items() for lr, x in zip((0.1, 0.2, 0.3), y, strict=True)]
    runs.append(run("d", 0.1, 0.5))
    summary = best_rates(runs, list("abcd"))
    record = {"config": {"tests": {"x": {}}}, "summary": summary, "runs": runs}
    assert [edge_of_rates(record, model) for model in "abcd"] == [None, "highest", "lowest", "only"]
    table = as_table(record)
    assert [row.split("|")[2].strip() for row in table.splitlines()[2:]] == ["0.2", "0.3 >", "0.1 <", "0.1 !"]


def test_losses_that_differ_choose_a_rate_and_not_the_order():
    assert digits(0.00001234567) == 0.0000123457 and digits(0.00002) < digits(0.00003)


def test_the_command_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(training, "evaluate_toys", partial(training.evaluate_toys, texts=16))
    small = {name: s._replace(quick_recipe=TINY_RECIPE._replace(lrs=(1e-3,))) for name, s in STUDIES.items()}
    monkeypatch.setattr(toys_run, "STUDIES", small)
    promised = {
        "two_tasks": ({"softmax", "delta", "hybrid"}, {"recall", "parity"}),
        "overwrite": ({"linear", "gated_deltanet", "softmax"}, {"accuracy_hardest"}),
        "recall": ({"softmax", "softmax_nope", "linear", "gated_linear", "gated_deltanet"}, {"accuracy"}),
        "multi_hop": ({"all Gated DeltaNet", "3:1", "all softmax"}, {"hops_1", "hops_2"}),
    }
    for name, (models, keys) in promised.items():
        assert main(["experiment", name, "--quick", "--seeds", "2", "--json"]) == 0
        metrics = json.loads(capsys.readouterr().out.splitlines()[-1])["metrics"]
        assert set(metrics) == models and all(set(entry) == keys for entry in metrics.values())
        values = next(iter(next(iter(metrics.values())).values()))
        values = values if isinstance(values, list) else values["48 pairs"]
        assert len(values) == 2 and all(0 <= x <= 1 for x in values)
    assert {name for name, entry in CATALOGUE.items() if entry.kind == "toys"} == set(STUDIES)
    with pytest.raises(SystemExit):
        main(["experiment", "list", "sinks"])
    assert "list: takes nothing behind it, got sinks" in capsys.readouterr().err
    assert main(["experiment", "list"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in [*STUDIES, "sinks", "hybrid"])
    lines = {line.split()[0]: line for line in listed.splitlines() if line.startswith("  ")}
    assert set(lines) == set(CATALOGUE) and "on 2 cores" in listed
    assert [name for name, line in lines.items() if not re.search(r"\d (min|h)\b", line)] == []


@pytest.mark.parametrize("command", ["experiment", "bench"])
def test_a_command_that_lacks_a_name_lists_them_and_fails(command, capsys):
    assert main([command]) == 2
    said = capsys.readouterr().err
    assert "which one?" in said and all(
        f"\n  {name} " in said for name in {"experiment": CATALOGUE, "bench": BENCHES}[command]
    )


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_captured_steps_train_as_the_processor_does():
    task, recipe, runs = STUDIES["two_tasks"].task(), TINY_RECIPE._replace(steps=12), [Run(3e-3, 0), Run(1e-2, 1)]
    stack, bar = Stack(("softmax", "kda")), tqdm(disable=True)
    here, there = (train_toys(task, stack, recipe, runs, bar, device) for device in ("cpu", "cuda"))
    for a, b in zip(here, there, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], abs=2e-3)
        assert a["validation"] == pytest.approx(b["validation"], abs=2e-3)
