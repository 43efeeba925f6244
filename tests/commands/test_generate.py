"""`generate` with a published kind of model: tokenizer, chat template, stop ids, as transformers reads them."""

import json
import re
import shutil

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer

from reference.__main__ import main
from reference.checkpoints.chat import HubTokenizer
from tests.checkpoints.tiny import build

TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}\n"
    "    {% if loop.index0 > 4 %}{% break %}{% endif %}\n"
    "<{{ message['role'] }}>{{ message['content'] | trim }}</s>{% endfor %}\n"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
MESSAGES = [{"role": "system", "content": "Short."}, {"role": "user", "content": " Héllo, 湖? "}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("chat")
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet, special = pre_tokenizers.ByteLevel.alphabet(), ["<s>", "</s>", "<user>", "<assistant>"]
    options = {"special_tokens": special, "initial_alphabet": alphabet, "show_progress": False}
    inner.train_from_iterator(["a text to learn from, " * 9], trainers.BpeTrainer(vocab_size=300, **options))
    build("qwen3_5_text", vocab_size=320).save_pretrained(place)
    inner.save(str(place / "tokenizer.json"))
    end = {"__type": "AddedToken", "content": "</s>"} | dict.fromkeys(("lstrip", "rstrip", "single_word"), False)
    about = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": end | {"normalized": False}}
    (place / "tokenizer_config.json").write_text(json.dumps(about | {"chat_template": TEMPLATE}))
    (place / "generation_config.json").write_text(json.dumps({"eos_token_id": [1, 319]}))
    return place


def test_ids_are_those_of_transformers(folder):
    ours, theirs = HubTokenizer(folder), AutoTokenizer.from_pretrained(folder)
    wanted = theirs.apply_chat_template(MESSAGES, add_generation_prompt=True, return_dict=False)
    assert ours.encode_chat(MESSAGES) == wanted
    assert ours.encode("Héllo, 湖 text") == theirs.encode("Héllo, 湖 text")
    assert ours.decode(torch.tensor(ours.encode("Héllo, 湖 text"))) == "Héllo, 湖 text"
    assert ours.stops == (1, 319)


def test_a_template_gets_what_else_it_asks_for(folder, tmp_path, capsys, monkeypatch):
    """Qwen3's enable_thinking, and whatever else: as transformers' keywords, and from the command line."""
    for name in ("tokenizer.json", "tokenizer_config.json", "model.safetensors", "config.json"):
        shutil.copy(folder / name, tmp_path)
    source = "{{ messages[-1].content }}{% if enable_thinking is defined and not enable_thinking %}<fast>{% endif %}"
    (tmp_path / "chat_template.jinja").write_text(source + "{{ mood }}{{ tools | length if tools else '' }}")
    ours, theirs = HubTokenizer(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    for more in ({}, {"enable_thinking": False}, {"enable_thinking": True, "mood": "calm"}, {"bos_token": "x"}):
        assert ours.encode_chat(MESSAGES, **more) == theirs.apply_chat_template(MESSAGES, return_dict=False, **more)
    command = ["generate", "--model", str(tmp_path), "--prompt", "a", "--tokens", "0", "--seed", "1"]
    given = json.dumps({"enable_thinking": False, "mood": "calm", "tools": [1]})
    with monkeypatch.context() as patch:
        prompts = []
        encode = HubTokenizer.encode_chat
        patch.setattr(HubTokenizer, "encode_chat", lambda *a, **k: prompts.append(encode(*a, **k)) or prompts[-1])
        assert main([*command, "--chat", "--chat-template-kwargs", given]) == 0
    assert [ours.decode(ids) for ids in prompts] == ["a<fast>calm1"]
    for more, problem in (
        (["--chat-template-kwargs", given], "--chat-template-kwargs: are for the template of a conversation"),
        (
            ["--chat", "--chat-template-kwargs", '{"messages": []}'],
            "kwargs: messages are what --prompt",
        ),
    ):
        assert main([*command, *more]) == 1
        assert problem in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*command, "--chat", "--chat-template-kwargs", "[1]"])
    assert "expected a JSON object such as" in capsys.readouterr().err


def test_a_template_beside_the_config_comes_first(folder, tmp_path):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_text((folder / name).read_text())
    (tmp_path / "chat_template.jinja").write_text("{{ messages[-1].content }}<assistant>")
    ours = HubTokenizer(tmp_path)
    assert ours.decode(ours.encode_chat(MESSAGES)) == " Héllo, 湖? "
    (tmp_path / "chat_template.jinja").write_text("{{ raise_exception('no system message, please') }}")
    with pytest.raises(ValueError, match=r"refuses the conversation .no system message, please"):
        ours.encode_chat(MESSAGES)
    (tmp_path / "chat_template.jinja").write_text("{{ messages.__class__.__mro__ }}")
    with pytest.raises(ValueError, match="refuses the conversation"):
        ours.encode_chat(MESSAGES)  # the sandbox


@pytest.mark.parametrize("chat", [False, True])
def test_the_command_line(folder, chat, capsys):
    arguments = ["--model", str(folder), "--prompt", "a text", "--tokens", "9", "--seed", "3", "--threads", "1"]
    assert main(["generate", *arguments, *["--chat"] * chat]) == 0
    first = capsys.readouterr()
    assert "tokens/s" in first.err and first.out.startswith("a text") != chat
    assert main(["generate", *arguments, "--dtype", "bfloat16", "--temperature", "0"]) == 0


def test_what_is_missing_is_named(folder, tmp_path, capsys):
    build("llama").save_pretrained(tmp_path)
    assert main(["generate", "--model", str(tmp_path), "--prompt", "a"]) == 1
    assert "tokenizer.json: is missing" in capsys.readouterr().err
    (tmp_path / "tokenizer.json").write_text((folder / "tokenizer.json").read_text())
    assert main(["generate", "--model", str(tmp_path), "--prompt", "a", "--chat"]) == 1
    assert "has no chat template" in capsys.readouterr().err
    assert main(["generate", "--model", str(tmp_path), "--prompt", ""]) == 1
    assert "--prompt: is empty" in capsys.readouterr().err
    assert main(["generate", "--model", "nowhere at all", "--prompt", "a"]) == 1
    assert "neither a folder here nor an owner/name" in capsys.readouterr().err


def test_drafts_samples_and_stop_texts(folder, tmp_path, capsys):
    arguments = ["generate", "--model", str(folder), "--prompt", "a text", "--tokens", "24", "--threads", "1"]
    greedy = [*arguments, "--temperature", "0"]
    assert main(greedy) == 0
    plain = capsys.readouterr()
    assert main([*greedy, "--draft", "ngrams", "--draft-tokens", "3"]) == 0
    drafted = capsys.readouterr()
    assert drafted.out == plain.out
    assert re.search(r"24 tokens, \d+ tokens/s, \d\.\d\d tokens a pass, \d+ of \d+ guesses right", drafted.err)
    stop = plain.out[12:15]
    assert main([*greedy, "--stop", stop, "never"]) == 0
    assert capsys.readouterr().out == plain.out[: plain.out.index(stop, 6)]
    assert main([*arguments, "--samples", "2", "--seed", "1"]) == 0
    one, two = capsys.readouterr().out.split("--- ")[1:]
    assert one.startswith("1\na text") and two.startswith("2\na text") and one[2:] != two[2:]
    assert main([*arguments, "--draft", "head"]) == 1
    assert "draft: 'head' needs a model with a multi-token head" in capsys.readouterr().err
    for wrong, message in (
        (["--repetition-penalty", "0"], "--repetition-penalty: expected a number > 0, got 0.0"),
        (["--stop", ""], "--stop: expected a list of strings, none of them empty"),
        (["--samples", "0"], "argument --samples: expected a number >= 1, got 0"),
    ):
        with pytest.raises(SystemExit):
            main([*arguments, *wrong])
        assert message in capsys.readouterr().err
