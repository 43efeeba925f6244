"""The sinks experiment: its task, what it looks at, what it prints and writes; and that the stored runs are its own."""

import json

import pytest
import torch
from torch.nn import functional as F
from tqdm import tqdm

from reference.__main__ import main
from reference.experiments.models.looking import look_inside
from reference.experiments.models.sink_variants import TASKS, VARIANTS, backcopy, build
from reference.experiments.models.sinks import STORED, count_spikes, load_trained, measure_inside, train_variant
from reference.tasks import BEGIN, BigramBackcopy

VARIANT_NAMES = list(VARIANTS)


def test_after_a_trigger_comes_the_token_before_it_and_else_a_likely_one():
    task = BigramBackcopy()
    texts = task.draw(200, 64, torch.Generator().manual_seed(0))
    ids, asking = texts
    assert (ids[:, 0] == BEGIN).all() and (ids[:, 1:] != BEGIN).all() and ids.max() < 64
    assert torch.equal(asking, (ids >= 1) & (ids <= 3)) and not asking[:, 1].any()
    after = asking[:, 1:-1]
    assert torch.equal(ids[:, 2:][after], ids[:, :-2][after])
    nats = task.best_loss(texts)
    assert (nats[asking[:, :-1]] == 0).all() and nats[~asking[:, :-1]].isfinite().all()
    counts = torch.zeros(64, 64, dtype=torch.float64)
    free = ~asking[:, :-1]
    counts.index_put_((ids[:, :-1][free], ids[:, 1:][free]), torch.ones((), dtype=torch.float64), accumulate=True)
    often = counts.sum(1) > 250
    seen = counts[often] / counts[often].sum(1, keepdim=True)
    assert (seen - task.log_p[often].exp()).abs().max() < 0.12


def test_the_same_seed_draws_the_same_texts():
    a, b = (BigramBackcopy().draw(4, 32, torch.Generator().manual_seed(3)).ids for _ in range(2))
    assert torch.equal(a, b)
    assert not torch.equal(a, BigramBackcopy(seed=1).draw(4, 32, torch.Generator().manual_seed(3)).ids)
    with pytest.raises(ValueError, match="n_triggers: expected 1 to vocab_size - 2 = 62, got 63"):
        BigramBackcopy(n_triggers=63)


@pytest.mark.parametrize("variant", VARIANT_NAMES)
def test_what_is_looked_at_is_what_the_model_computes(variant):
    setting = backcopy()
    model = build(setting, variant, 0)
    ids = setting.draw(3, torch.Generator().manual_seed(1)).ids
    inside = look_inside(model, ids)
    torch.testing.assert_close(inside.logits, model(ids))
    w = inside.weights[0]
    assert w.shape == (3, 1, 64, 64) and (w >= 0).all() and torch.equal(w, w.tril())
    sums = w.sum(-1)
    if variant in ("sink_logit", "off_by_one"):
        assert (sums < 1).all()
    else:
        torch.testing.assert_close(sums, torch.ones_like(sums))
    assert len(inside.residuals) == 2 and inside.value_norms[0].shape == (3, 64, 1)


def test_off_by_one_is_not_trained_and_sink_logits_are():
    setting = backcopy()
    for variant, moves in (("off_by_one", False), ("sink_logit", True)):
        model = build(setting, variant, 0)
        train_variant(model, setting, 0, lr=1e-2, steps=3, bar=tqdm(disable=True))
        assert bool((model.layers[0].mixer.sinks != 0).any()) == moves


def test_training_learns_the_bigrams_and_repeats_itself():
    setting = backcopy(40)
    runs = []
    for _ in range(2):
        model = build(setting, "softmax", 0)
        losses, looks = train_variant(model, setting, 0, lr=1e-2, steps=40, bar=tqdm(disable=True), look_every=20)
        runs.append(losses)
        assert [look["step"] for look in looks] == [0, 20]
    assert runs[0] == runs[1]
    assert measure_inside(model, setting)["loss"] < looks[0]["loss"] - 0.5


def test_spikes_are_counted_after_the_warm_up():
    calm = [3.0] * 150
    assert count_spikes(calm) == 0
    assert count_spikes([9.0, *calm]) == 0
    assert count_spikes([*calm, 3.6, 3.4, float("nan"), 2.0, 2.6]) == 3


def test_the_command_prints_one_json_object_last_and_writes_what_it_found(tmp_path, capsys):
    arguments = ["--quick", "--seeds", "2", "--steps", "6", "--variants", "softmax", "gated", "--json"]
    folders = ["--out", str(tmp_path), "--weights", str(tmp_path), "--threads", "1"]
    assert main(["experiment", "sinks", *arguments, *folders]) == 0
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(record["metrics"]) == {"softmax", "gated"}
    for columns in record["metrics"].values():
        assert {"first_token_share", "max_activation", "loss"} <= set(columns)
        assert all(len(values) == 2 for values in columns.values())
    assert json.loads((tmp_path / "sinks_backcopy.json").read_text()) == record
    again = load_trained("backcopy", "gated", tmp_path)
    assert abs(measure_inside(again, backcopy())["loss"] - record["metrics"]["gated"]["loss"][0]) < 1e-3


@pytest.mark.parametrize(
    "arguments,message",
    [
        (["--seeds", "0"], "--seeds: expected a number >= 1, got 0"),
        (["--steps", "-1"], "--steps: expected a number >= 1, got -1"),
        (["--variants", "tanh"], "invalid choice: 'tanh'"),
        (["--out", __file__], "is a file, expected a folder"),
    ],
)
def test_bad_arguments_are_named_before_anything_is_trained(arguments, message, capsys):
    with pytest.raises(SystemExit):
        main(["experiment", "sinks", *arguments])
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("task", TASKS)
def test_stored_runs_have_three_seeds_and_show_what_the_chapter_says(task):
    metrics = json.loads((STORED / f"sinks_{task}.json").read_text())["metrics"]
    assert all(len(values) >= 3 for columns in metrics.values() for values in columns.values())
    if task == "backcopy":
        pairs = zip(metrics["softmax"]["first_token_share"], metrics["gated"]["first_token_share"], strict=True)
        assert all(bare >= 0.3 and gated <= bare / 2 for bare, gated in pairs)


@pytest.mark.parametrize("variant", ["softmax", "gated"])
def test_stored_models_measure_what_the_stored_run_says(variant):
    row = measure_inside(load_trained("backcopy", variant), backcopy())
    stored = json.loads((STORED / "sinks_backcopy.json").read_text())["metrics"][variant]
    for name in ("first_token_share", "loss", "value_ratio"):
        assert row[name] == pytest.approx(stored[name][0], abs=2e-3), name


def test_text_is_cut_from_parts_that_training_never_sees():
    setting = TASKS["text"]()
    rng = torch.Generator().manual_seed(0)
    seen, unseen = setting.draw(4, rng).ids, setting.draw_exam(4, rng).ids
    assert seen.shape == unseen.shape == (4, 128) and (seen[:, 0] == BEGIN).all() and (unseen[:, 0] == BEGIN).all()
    nats = F.cross_entropy(build(setting, "softmax", 0)(seen)[:, :-1].transpose(1, 2), seen[:, 1:])
    assert abs(nats.item() - torch.tensor(128.0).log().item()) < 0.2
