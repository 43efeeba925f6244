"""Text as it lies about: marks, line ends, half characters, and its size in memory."""

import json
import os
import subprocess
import sys

import pytest
import torch

from reference.training import tokenizer as tokenizers
from reference.training.data import PackedText, read_documents
from reference.training.tokenizer import BEGIN_TEXT, ByteTokenizer, train_bpe, utf8_length

AS_BYTES = {
    "a.txt": (b"\xef\xbb\xbfone\r\ntwo\n", ["one\ntwo\n"]),  # byte order mark, CR LF
    "b.txt": ("a\u2028b\x85c\x00d".encode(), ["a\u2028b\x85c\x00d"]),
    "c.jsonl": (b'\xef\xbb\xbf{"text": "one"}\r\n{"text": "two\\r\\nthree"}\r\n', ["one", "two\r\nthree"]),
    "d.jsonl": ('{"text": "a\u2028b\x85c"}\n'.encode(), ["a\u2028b\x85c"]),
    "e.jsonl": (b'{"text": "\\ud83d\\ude00"}', ["\U0001f600"]),  # both halves: a character
}


@pytest.mark.parametrize("name", AS_BYTES)
def test_text_is_what_the_file_holds(name, tmp_path):
    data, documents = AS_BYTES[name]
    (tmp_path / name).write_bytes(data)
    assert read_documents(str(tmp_path / name)) == documents


REFUSED = {
    "half.jsonl": (b'{"text": "fine"}\n{"text": "\\ud83d"}\n', "half.jsonl, line 2: .* half of a surrogate pair"),
    "deep.jsonl": (b"[" * 200_000, "deep.jsonl, line 1: can't be read"),
    "digits.jsonl": (b'{"text": ' + b"9" * 5000 + b"}", "digits.jsonl, line 1: can't be read"),
    "latin.jsonl": (b'{"text": "fine"}\n{"text": "caf\xe9"}\n', "latin.jsonl is not UTF-8 text .byte 30"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_text_is_named_with_its_line(name, tmp_path):
    data, message = REFUSED[name]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=message):
        read_documents(str(tmp_path / name))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in folders")
def test_a_pipe_or_an_impossible_name_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.txt")
    with pytest.raises(ValueError, match=r"expected a file or a folder, got .*reads its text again"):
        read_documents(str(tmp_path / "pipe.txt"))
    with pytest.raises(ValueError, match=r"can't be read \(File name too long"):
        read_documents("a" * 5000)
    (tmp_path / "text.md").write_text("one")
    assert read_documents(str(tmp_path)) == ["one"]  # the pipe in the folder is passed over


DOCUMENTS = ["", "Zürich 湖\n\n  two  spaces\nthree\n'tis\n it's", "x" * 40 + "\n" + "y z\n" * 40, f"a {BEGIN_TEXT} b"]


@pytest.mark.parametrize("bpe", [False, True])
@pytest.mark.parametrize("piece", [3, 7, 64])
def test_pieces_have_the_ids_of_the_whole(bpe, piece, monkeypatch):
    tokenizer = train_bpe(DOCUMENTS * 4, 400) if bpe else ByteTokenizer()
    wanted = [i for document in DOCUMENTS for i in tokenizer.encode(document)]
    monkeypatch.setattr(tokenizers, "PIECE", piece)
    ids = tokenizer.encode_documents(DOCUMENTS)
    assert ids.tolist() == wanted and ids.dtype == torch.int16
    assert [utf8_length(document) for document in DOCUMENTS] == [len(document.encode()) for document in DOCUMENTS]


@pytest.mark.parametrize("bpe", [False, True])
def test_the_marker_inside_a_text_is_text(bpe):
    tokenizer = train_bpe(DOCUMENTS, 400) if bpe else ByteTokenizer()
    ids = tokenizer.encode(DOCUMENTS[3])
    assert ids.count(tokenizer.begin) == 1 and tokenizer.decode(ids) == DOCUMENTS[3]
    packed = PackedText([DOCUMENTS[3]] * 2, length=8, batch_size=1, tokenizer=tokenizer)
    assert (packed.ids == tokenizer.begin).sum() == 2


MEASURE = """
import json, resource, sys
from reference.training.data import PackedText, hold_out, read_documents
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
documents = read_documents(sys.argv[1])
documents, unseen = hold_out(documents)
PackedText(documents, length=64, batch_size=1).digest()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is in other units elsewhere")
@pytest.mark.parametrize("name", ["text.txt", "text.jsonl"])
def test_memory_is_three_bytes_per_byte_of_text(name, tmp_path):
    size, path = 2**25, tmp_path / name
    with path.open("w") as file:
        for n in range(size // 2**14):
            text = f"{n} " + "some words of a text\n" * (2**14 // 21)
            file.write(text if name == "text.txt" else json.dumps({"text": text}) + "\n")
    done = subprocess.run([sys.executable, "-c", MEASURE, str(path)], capture_output=True, text=True, check=True)
    assert int(done.stdout) * 1024 < 3.3 * size
