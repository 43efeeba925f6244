"""What the trainer offers beside the plain run: tokenizers, held-out text, bf16, recomputation, heads, experts."""

import copy
import json
import sys
import types
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

import reference
from reference.__main__ import main
from reference.distributed.world import World
from reference.layers.mlp import MixtureOfExperts, collect_routing, load_balancing_loss
from reference.model.config import preset
from reference.training.data import PackedText, hold_out, read_documents
from reference.training.tokenizer import ByteTokenizer, load_tokenizer, train_bpe
from reference.training.trainer import batch_loss, build_optimizer, train_step

TEXT = "The quick brown fox jumps over the lazy dog; Zürich 湖. "
DOCUMENTS = [f"{n}. " + TEXT * 8 for n in range(40)]
SMALL = ["--steps", "4", "--batch-size", "2", "--length", "32", "--threads", "1", "--warm-up", "2"]


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "text.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in DOCUMENTS))
    return path


def train(source, *more):
    out = source.parent / "out"
    status = main(["train", "--data", str(source), "--out", str(out), *SMALL, *more])
    return status, out


def last_row(out):
    return json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])


def test_bpe_writes_any_text_in_fewer_ids():
    bpe = train_bpe(DOCUMENTS, 300)
    assert bpe.vocab_size == 300 and bpe.encode("x")[0] == bpe.begin
    for text in (TEXT, "naïve\n\ttabs  and \x00 bytes", ""):
        assert bpe.decode(bpe.encode(text)) == text
    assert len(bpe.encode(TEXT)) < len(ByteTokenizer().encode(TEXT)) / 1.5
    assert bpe.decode(torch.tensor(bpe.encode(TEXT)[:-1])) in TEXT
    with pytest.raises(ValueError, match="vocab_size: a byte-level BPE needs at least 257 ids"):
        train_bpe(DOCUMENTS, 100)


def test_a_bpe_model_is_trained_continued_and_written_with(source, capsys):
    assert train(source, "--tokenizer", "bpe", "--vocab-size", "400")[0] == 0
    status, out = train(source, "--tokenizer", "bpe", "--vocab-size", "400")
    assert status == 0 and 257 < load_tokenizer(out).vocab_size <= 400
    capsys.readouterr()  # what training printed
    assert main(["generate", "--model", str(out), "--prompt", "The qu", "--tokens", "5", "--seed", "0"]) == 0
    assert capsys.readouterr().out.startswith("The qu")
    assert train(source)[0] == 1  # bytes now: another tokenizer's folder
    assert "tokenizer: " in capsys.readouterr().err
    (out / "tokenizer.json").write_text("{}")
    assert main(["generate", "--model", str(out)]) == 1
    assert "tokenizer.json can't be read" in capsys.readouterr().err


def test_bits_per_byte_compare_tokenizers(source):
    for tokenizer in ([], ["--tokenizer", "bpe", "--vocab-size", "400"]):
        status, out = train(source, *tokenizer, "--resume", "never")
        assert status == 0
        assert 5 < last_row(out)["bits_per_byte"] < 9 if not tokenizer else last_row(out)["bits_per_byte"] < 6


def test_held_out_text_is_not_trained_on(source):
    ours, unseen = hold_out(DOCUMENTS)
    assert len(unseen) == 2 and not set(ours) & set(unseen) and len(ours) + len(unseen) == 40
    (one,), (end,) = hold_out(["abcdefghij" * 10])
    assert one + end == "abcdefghij" * 10 and len(end) == 5
    status, out = train(source, "--hold-out", "--eval-every", "2")
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert status == 0 and ["held_out_loss" in row for row in rows] == [False, True, False, True]


@pytest.mark.parametrize(
    "more", [["--dtype", "bfloat16"], ["--recompute"], ["--predict-ahead"], ["--preset", "tiny_moe"]]
)
def test_options_train(source, more):
    status, out = train(source, *more)
    assert status == 0 and last_row(out)["loss"] < 6


def test_recomputation_changes_memory_alone():
    data, gradients = PackedText(DOCUMENTS, length=32, batch_size=2), []
    for recompute in (False, True):
        torch.manual_seed(0)
        model = reference.HybridLM(
            reference.HybridConfig.from_dict(preset("tiny").to_dict() | {"vocab_size": 257})
        ).train()
        model.recompute = recompute
        batch_loss(model, data.batch(0), model.config, World())[0].backward()
        gradients.append([p.grad for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def ahead_model():
    torch.manual_seed(0)
    values = preset("tiny").to_dict() | {"vocab_size": 257, "num_nextn_predict_layers": 1, "initializer_range": 0.05}
    return reference.HybridLM(reference.HybridConfig.from_dict(values))


def test_the_head_for_the_token_after_next_sees_the_next_and_no_further():
    model, ids = ahead_model().eval(), torch.randint(0, 257, (1, 20), generator=torch.Generator().manual_seed(0))
    changed = ids.clone()
    changed[0, 12] = (ids[0, 12] + 1) % 257
    with torch.no_grad():
        (logits, ahead), (logits2, ahead2) = (model.predict_ahead(x) for x in (ids, changed))
        torch.testing.assert_close(model(ids), logits)
    torch.testing.assert_close(logits[:, :12], logits2[:, :12])
    torch.testing.assert_close(ahead[:, :11], ahead2[:, :11])
    assert (ahead[:, 11] - ahead2[:, 11]).abs().max() > 1e-3  # token 12 is the next one of position 11
    with pytest.raises(ValueError, match="predict_ahead: needs num_nextn_predict_layers"):
        reference.HybridLM(preset("tiny")).predict_ahead(ids.clamp(max=255))


def test_targets_after_the_next_stay_in_their_document():
    batch = PackedText(["abc", "defg" * 10], length=12, batch_size=2, seed=4).batch(0)
    ids, after, bounds = batch.ids[0].tolist(), batch.after_next()[0].tolist(), batch.cu_seqlens.tolist()
    for first, stop in pairwise(bounds):
        for t in range(first, stop):
            assert after[t] == -100 if t + 1 >= stop else after[t] in (-100, batch.targets[0, t + 1].item())
            if t + 2 < stop:
                assert after[t] == ids[t + 2]


def test_both_heads_learn_to_count():
    model = ahead_model()
    optimizer = build_optimizer(model, 3e-3, 0.1)
    data = PackedText(["abcdefgh" * 60], length=32, batch_size=4)
    for step in range(40):
        train_step(model, optimizer, data, step)
    ids = data.batch(99).ids[:, :32]
    with torch.no_grad():
        logits, ahead = model.predict_ahead(ids)
    assert (logits[0, 8:30].argmax(-1) == ids[0, 9:31]).all()
    assert (ahead[0, 8:30].argmax(-1) == ids[0, 10:32]).all()


def test_a_hub_data_set_is_read_by_the_optional_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ValueError, match="needs the optional package datasets: pip install datasets"):
        read_documents("hf:owner/name")
    asked = []

    class Rows(dict):
        column_names = property(lambda self: list(self))

    def load_dataset(name, config, split):
        asked.append((name, config, split))
        return Rows(text=["one", "two"]) if config != "bare" else Rows(body=["x"])

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    assert read_documents("hf:owner/name") == ["one", "two"]
    read_documents("hf:owner/name:en")
    read_documents("hf:owner/name:en:test")
    assert asked == [("owner/name", None, "train"), ("owner/name", "en", "train"), ("owner/name", "en", "test")]
    with pytest.raises(ValueError, match=r"has the columns \['body'\], expected one named \"text\""):
        read_documents("hf:owner/name:bare")


def test_tensorboard_is_asked_for_by_name(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["train", "--out", str(tmp_path / "out"), "--tensorboard"])
    assert "--tensorboard: needs the optional package tensorboard" in capsys.readouterr().err


def held_tensors(model):
    """Tensors in the attributes of modules, and in what they hold, that are neither parameters nor buffers."""
    kept = {id(x) for x in (*model.parameters(), *model.buffers())}
    found = []

    def look(where, x):
        if isinstance(x, torch.Tensor) and id(x) not in kept:
            found.append(where)
        elif isinstance(x, dict):
            for key, y in x.items():
                look(f"{where}.{key}", y)
        elif isinstance(x, list | tuple | set):
            for y in x:
                look(where, y)

    for name, module in model.named_modules():
        look(name, {key: x for key, x in vars(module).items() if key != "_modules"})
    return found


@pytest.mark.parametrize("recompute", [False, True])
def test_after_a_step_no_module_holds_an_activation_and_the_model_can_be_copied(recompute, tmp_path):
    torch.manual_seed(0)
    model = reference.HybridLM(replace(preset("tiny_moe"), vocab_size=257, num_nextn_predict_layers=1)).train()
    model.recompute = recompute
    data = PackedText(["one two three four five six seven eight " * 20], length=40, batch_size=2)
    train_step(model, build_optimizer(model, 1e-2, 0.1), data, 0)
    assert held_tensors(model) == []
    again = copy.deepcopy(model)
    averaged = torch.optim.swa_utils.AveragedModel(model)
    torch.save(model, tmp_path / "model.pt")
    loaded = torch.load(tmp_path / "model.pt", weights_only=False)
    ids = data.batch(1).ids
    with torch.no_grad():
        assert all(torch.equal(model(ids), other(ids)) for other in (again, averaged.module, loaded))


def test_held_tensors_are_found():
    model = torch.nn.Linear(2, 2)
    model.routing = (torch.zeros(1), [torch.zeros(2)])
    assert len(held_tensors(model)) == 2


def test_routing_is_collected_inside_the_block_only_and_in_the_order_of_the_layers():
    torch.manual_seed(0)
    model, ids = reference.HybridLM(preset("tiny_moe")), torch.randint(0, 256, (1, 20))
    model(ids)
    with collect_routing() as outer:
        model(ids)
        with collect_routing() as inner:
            model(ids)
    model(ids)
    assert len(outer) == len(inner) == 4 and all(r.experts.shape == (20, 2) for r in outer)
    tokens = model.layers[0].mlp.route(torch.randn(20, 128))
    assert type(tokens) is type(outer[0])


def test_the_loss_has_the_balance_of_every_mixture():
    torch.manual_seed(0)
    config = replace(preset("tiny_moe"), vocab_size=257, num_nextn_predict_layers=1)
    model = reference.HybridLM(config)
    batch = PackedText(["one two three four five six seven eight " * 20], length=40, batch_size=2).batch(0)
    with collect_routing() as found:
        model.predict_ahead(batch.ids, cu_seqlens=batch.cu_seqlens)
    balance = sum(load_balancing_loss(r) for r in found)
    assert len(found) == 5
    objective, _ = batch_loss(model, batch, config, World())
    plain, _ = batch_loss(model, batch, replace(config, router_aux_loss_coef=0.0), World())
    assert (objective - plain).item() == pytest.approx(config.router_aux_loss_coef * balance.item(), rel=1e-3)


@torch.no_grad()
def test_collecting_compiles_nothing_anew_with_every_layer():
    from torch._dynamo.testing import CompileCounter

    torch.manual_seed(0)
    torch._dynamo.reset()
    moe, counter, x = MixtureOfExperts(8, 16, 4, 2), CompileCounter(), torch.randn(1, 12, 8)
    compiled = torch.compile(moe, backend=counter)
    with collect_routing() as found:
        compiled(x)
        once = counter.frame_count
        for _ in range(4):
            compiled(x)
    assert counter.frame_count == once > 0
    assert len(found) == 5 and all(torch.equal(r.experts, moe.route(x[0]).experts) for r in found)
