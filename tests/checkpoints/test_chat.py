"""Tokenizers and chat templates as people publish them, and as they shouldn't be."""

import base64
import json
import shutil
from itertools import pairwise

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer

from reference.checkpoints.chat import HubTokenizer
from reference.checkpoints.template import render_template

TURNS = [
    {"role": "system", "content": "Be <short> & 'plain'."},
    {"role": "user", "content": "Grüße, 湖?"},
    {"role": "assistant", "content": "Yes.", "reasoning": "a lake"},
    {"role": "user", "content": "And now?"},
]
TOOLS = [{"type": "function", "function": {"name": "b", "description": "<a> & 'é'", "parameters": {"z": 1, "a": [2]}}}]
TEMPLATES = {
    "generation": "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}|{% endfor %}",
    "tojson": "{{ tools | tojson }}{{ messages | tojson(indent=2) }}{{ {'b': 'é', 'a': 1} | tojson(sort_keys=True) }}",
    "loops": "{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}{{ m.role }}{% if loop.index > 2 %}"
    "{% break %}{% endif %}{% endfor %}",
    "space": "{%- for m in messages %}\n    {%- set text = m.content | trim %}\n<{{ m.role }}>\n{{ text }}\n"
    "{%- endfor %}\n",
    "names": "{{ bos_token }}{{ eos_token }}{{ pad_token is defined }}{{ add_generation_prompt }}",
    "namespace": "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}",
    "macro": "{% macro say(m) %}[{{ m.content }}]{% endmacro %}{% for m in messages %}{{ say(m) }}{% endfor %}",
    "reasoning": "{% for m in messages %}{{ m.reasoning_content }}{{ m.thinking }}{% endfor %}",
    "tools": "{% for t in tools or [] %}{{ t.function.name }}{{ t.function.parameters | tojson }}{% endfor %}",
    "date": "{{ strftime_now('%Y') }}",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("tokenizer")
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    options = {"initial_alphabet": pre_tokenizers.ByteLevel.alphabet(), "show_progress": False}
    inner.train_from_iterator(["a"], trainers.BpeTrainer(vocab_size=300, special_tokens=["<s>", "</s>"], **options))
    inner.save(str(place / "tokenizer.json"))
    return place


def saved(folder, tmp_path, **about):
    """The tokenizer with another tokenizer_config.json."""
    shutil.copy(folder / "tokenizer.json", tmp_path)
    about = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>"} | about
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(about))
    return tmp_path


@pytest.mark.parametrize("name", TEMPLATES)
def test_templates_are_rendered_as_transformers_does(name, folder, tmp_path):
    place = saved(folder, tmp_path, chat_template=TEMPLATES[name])
    ours, theirs = HubTokenizer(place), AutoTokenizer.from_pretrained(place)
    for turns, tools, prompt in ((TURNS, TOOLS, True), (TURNS[:2], None, True), (TURNS, None, False)):
        keywords = {"tools": tools, "add_generation_prompt": prompt}
        wanted = theirs.apply_chat_template(turns, return_dict=False, **keywords)
        assert ours.encode_chat(turns, tools, add_generation_prompt=prompt) == wanted


def test_of_several_templates_the_one_for_tools_is_taken_for_tools(folder, tmp_path):
    both = [{"name": "default", "template": "plain"}, {"name": "tool_use", "template": "tools"}]
    ours = HubTokenizer(saved(folder, tmp_path, chat_template=both))
    assert ours.decode(ours.encode_chat(TURNS)) == "plain" and ours.decode(ours.encode_chat(TURNS, TOOLS)) == "tools"


HOSTILE = {
    "endless": ("{% for x in range(99999) %}{% for y in range(99999) %}{% endfor %}{% endfor %}", "did not end within"),
    "power": ("{{ 2 ** (2 ** 40) }}", "did not end|too much memory|ended without a text"),
    "wide": ("{{ '%1000000000d' % 1 }}{{ '%1000000000d' % 1 }}", "too much memory|ended without|did not end"),
    "long": ("{{ 'a' * 300000000 }}", "makes a text of 300,000,000 characters|too much memory|did not end"),
    "nested": ("{{ " + "(" * 5000 + ")" * 5000 + " }}", "refuses|ended without a text"),
    "recursive": ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "refuses .*RecursionError|ended without"),
    "include": ("{% include 'x' %}", "refuses the conversation"),
    "types": ("{{ 'a' + 1 }}", "refuses the conversation .TypeError"),
    "zero": ("{{ 1 // 0 }}", "refuses the conversation .ZeroDivisionError"),
    "silent": ("{{ raise_exception() }}", "refuses the conversation"),
    "syntax": ("{% break %}", "refuses the conversation"),
    "inside": ("{{ messages.__class__.__mro__ }}", "refuses the conversation"),
    "namespace": ("{% set ns = namespace(__class__=1) %}", "begins with an underscore"),
    "json": ("{{ messages | tojson(indent=messages) }}", "refuses the conversation"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_template_ends_in_a_sentence(name):
    source, message = HOSTILE[name]
    with pytest.raises(ValueError, match=message):
        render_template(source, {"messages": TURNS}, seconds=3)


def test_what_a_template_prints_is_part_of_no_answer():
    assert render_template("{{ '{\"problem\": 1}' }}", {"messages": []}) == '{"problem": 1}'
    with pytest.raises(ValueError, match="no plain data"):
        render_template("x", {"messages": [object()]})


BAD_FILES = {
    "eos_token": ({"eos_token": {}}, None),
    "eos_name": ({"eos_token": 5}, r"tokenizer_config.json: eos_token: expected a name or its content, got 5"),
    "no_template": ({"chat_template": [None]}, r"chat_template: expected a text or a list of name and template"),
    "half": (
        {"chat_template": [{"name": "default"}]},
        r"chat_template: expected a text or a list of name and template",
    ),
    "half a character": ({"eos_token": "\ud800"}, r"tokenizer_config.json: eos_token: expected a name .* got '.ud800'"),
    "half in a template": (
        {"chat_template": "{{ messages[0].role }}\ud83d"},
        r"its chat template makes a text that holds half a character, '.ud83d' at 6, which no file can hold",
    ),
    "number": ({"chat_template": 3}, r"chat_template: expected a text, got 3"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_fields_of_the_tokenizer_config_are_checked(name, folder, tmp_path):
    about, message = BAD_FILES[name]
    place = saved(folder, tmp_path, **about)
    if message is None:
        assert HubTokenizer(place).stops == ()
        return
    with pytest.raises(ValueError, match=message):
        HubTokenizer(place).encode_chat(TURNS)


@pytest.mark.parametrize("found", ["64", [[1]], {"a": 1}, 1e300, 10**30, -1, True])
@pytest.mark.parametrize("name", ["generation_config.json", "config.json"])
def test_stop_ids_are_checked(found, name, folder, tmp_path):
    place = saved(folder, tmp_path)
    (place / name).write_text(json.dumps({"eos_token_id": found}))
    with pytest.raises(ValueError, match=rf"{name}: eos_token_id: expected an id or a list of ids, from 0, got"):
        HubTokenizer(place)


def test_where_the_stop_id_stands(folder, tmp_path):
    place = saved(folder, tmp_path)
    assert HubTokenizer(place).stops == (1,)  # of eos_token
    (place / "config.json").write_text(json.dumps({"text_config": {"eos_token_id": 7}}))
    assert HubTokenizer(place).stops == (7,)
    (place / "config.json").write_text(json.dumps({"eos_token_id": 8, "text_config": {"eos_token_id": 7}}))
    assert HubTokenizer(place).stops == (8,)
    (place / "generation_config.json").write_text(json.dumps({"eos_token_id": [9, 10]}))
    assert HubTokenizer(place).stops == (9, 10)


def test_a_tokenizer_saved_with_truncation_and_padding_reads_the_whole_prompt(folder, tmp_path):
    place = saved(folder, tmp_path)
    plain = HubTokenizer(place).encode("some words, more than eight")
    inner = Tokenizer.from_file(str(place / "tokenizer.json"))
    inner.enable_truncation(8)
    inner.enable_padding(length=64)
    inner.save(str(place / "tokenizer.json"))
    assert HubTokenizer(place).encode("some words, more than eight") == plain and len(plain) == 27


def by_rank(text, pattern_split, ranks):
    """tiktoken's own procedure: in each piece join the pair of the lowest rank, again and again."""
    ids = []
    for piece in pattern_split(text):
        parts = [bytes([b]) for b in piece.encode()]
        if piece.encode() in ranks:
            parts = [piece.encode()]
        while len(parts) > 1:
            joined = [(ranks.get(a + b, 10**9), n) for n, (a, b) in enumerate(pairwise(parts))]
            rank, n = min(joined)
            if rank == 10**9:
                break
            parts[n : n + 2] = [parts[n] + parts[n + 1]]
        ids += [ranks[part] for part in parts]
    return ids


def test_kimis_file_is_read_as_tiktoken_reads_it(tmp_path):
    text = "Hello world, hello 中文English混合 12345 it's\n\n  the  end.\tFin"
    tokens = [bytes([n]) for n in range(256)] + [
        b"he",
        b"ll",
        b"llo",
        b"hello",
        b" w",
        b"or",
        b" wor",
        b"ld",
        b"the",
        b"th",
    ]
    tokens += [
        "中".encode(),
        "中".encode()[:2],
        "文".encode(),
        "中文".encode(),
        b"En",
        b"123",
        b"12",
        b"'s",
        b"  ",
        b"\n\n",
    ]
    ranks = {token: n for n, token in enumerate(tokens)}
    lines = [base64.b64encode(token).decode() + f" {n}\n" for token, n in ranks.items()]
    (tmp_path / "tiktoken.model").write_text("".join(lines))
    special = {str(len(tokens)): {"content": "[BOS]"}, str(len(tokens) + 2): {"content": "[EOS]"}}
    about = {"added_tokens_decoder": special, "eos_token": "[EOS]"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(about))
    ours = HubTokenizer(tmp_path)

    def split(text):
        return [piece for piece, _ in ours.inner.pre_tokenizer[0].pre_tokenize_str(text)]

    assert split("中文English混合") == ["中文", "English", "混合"]
    assert ours.encode(text) == by_rank(text, split, ranks) and ours.decode(ours.encode(text)) == text
    assert ours.encode("[BOS]a[EOS]") == [len(tokens), 97, len(tokens) + 2] and ours.stops == (len(tokens) + 2,)
    assert ours.vocab_size == len(tokens) + 256
    (tmp_path / "tiktoken.model").write_text("".join(lines)[:-4])
    with pytest.raises(ValueError, match=r"tiktoken.model, line \d+: expected a token in base64|expected ranks 0, 1"):
        HubTokenizer(tmp_path)


def test_half_a_character_is_no_text(folder):
    with pytest.raises(ValueError, match=r"text: holds half a character, '.udcff' at 2, which no file can hold"):
        HubTokenizer(folder).encode("ab\udcff")
    turns = [{"role": "user", "content": "\udcff"}]
    with pytest.raises(ValueError, match="has no chat template"):
        HubTokenizer(folder).encode_chat(turns)
