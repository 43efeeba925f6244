"""Text to ids and back: bytes, which need no training, or a small byte-level BPE by the `tokenizers` library."""

import re
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from reference.arguments import cut_short, is_whole_number
from reference.checkpoints.byte_level import byte_characters
from reference.files import write_text

FILE = "tokenizer.json"
BEGIN_TEXT = "<|begin|>"
PIECE = 2**20  # characters that are encoded at once
LINE_END = re.compile(r"(?<=\S)\n(?=\S)")
EMPTY = torch.empty(0, dtype=torch.int16)


def utf8_length(text: str) -> int:
    """len(text.encode("utf-8")), without a copy of a long text."""
    return len(text) if text.isascii() else sum(len(text[n : n + PIECE].encode()) for n in range(0, len(text), PIECE))


class ByteTokenizer:
    """One id per byte of UTF-8, and `begin`, the one id that is no byte, before every document."""

    vocab_size, begin = 257, 256

    def encode(self, text: str) -> list[int]:
        """[begin, bytes...]"""
        return [self.begin, *text.encode("utf-8")]

    def encode_documents(self, documents: Iterable[str]) -> Tensor:
        """encode() of each document, end to end: int16 [n], or int32 where the vocabulary needs it.

        Long documents are encoded piece by piece, so that lists of ids never grow with the text.
        """
        ids = array("h" if self.vocab_size <= 2**15 else "i")
        for document in documents:
            ids.append(self.begin)
            for piece in self.pieces(document):
                self.append_ids(piece, ids)
        return torch.frombuffer(ids, dtype=torch.int16 if ids.typecode == "h" else torch.int32) if ids else EMPTY

    def pieces(self, text: str) -> Iterator[str]:
        """The text in pieces whose ids, end to end, are those of the whole: bytes can be cut anywhere."""
        return (text[begin : begin + PIECE] for begin in range(0, len(text), PIECE))

    def append_ids(self, piece: str, ids: array) -> None:
        """Append a piece's ids."""
        ids.frombytes(np.frombuffer(piece.encode("utf-8"), np.uint8).astype(np.int16).tobytes())

    def decode_bytes(self, ids: list[int]) -> bytes:
        """The bytes that ids stand for; `begin` stands for none."""
        return bytes(i for i in ids if i < self.begin)

    def decode(self, ids: list[int] | Tensor) -> str:
        """The text of ids; `begin` is left out, broken UTF-8 becomes the replacement character."""
        ids = ids.tolist() if isinstance(ids, Tensor) else ids
        return self.decode_bytes(ids).decode("utf-8", "replace")

    def fingerprint(self) -> bytes:
        """Equal for tokenizers that give the same ids."""
        return b"bytes"

    def save(self, folder: Path) -> None:
        """Remove tokenizer.json: bytes need no file, and an earlier run's would be another tokenizer."""
        (folder / FILE).unlink(missing_ok=True)


class BPETokenizer(ByteTokenizer):
    """Frequent runs of bytes are one id. Any text can be written: all 256 bytes are in the vocabulary."""

    def __init__(self, inner: object):
        self.inner, self.vocab_size, self.begin = inner, inner.get_vocab_size(), inner.token_to_id(BEGIN_TEXT)
        if self.begin is None:
            raise ValueError(f"tokenizer: expected one with the token {BEGIN_TEXT!r}, as train_bpe makes them")
        inner.encode_special_tokens = True  # the marker's name in a text is text, it begins no document
        self._bytes = {char: byte for byte, char in byte_characters().items()}

    def encode(self, text: str) -> list[int]:
        """[begin, ids...]"""
        return [self.begin, *self.inner.encode(text, add_special_tokens=False).ids]

    def pieces(self, text: str) -> Iterator[str]:
        """Cut only behind a line that ends between two characters that are no spaces: no run of bytes that can become
        one id reaches across, since words and runs of spaces are split there first."""
        begin = 0
        while len(text) - begin > PIECE and (found := LINE_END.search(text, begin + PIECE)):
            yield text[begin : found.end()]
            begin = found.end()
        yield text[begin:]

    def append_ids(self, piece: str, ids: array) -> None:
        """Append a piece's ids."""
        ids.extend(self.inner.encode(piece, add_special_tokens=False).ids)

    def decode_bytes(self, ids: list[int]) -> bytes:
        """The bytes that ids stand for; `begin` stands for none."""
        pieces = "".join(self.inner.id_to_token(i) for i in ids if i != self.begin)
        return bytes(self._bytes[char] for char in pieces)

    def fingerprint(self) -> bytes:
        """The whole tokenizer."""
        return self.inner.to_str().encode()

    def save(self, folder: Path) -> None:
        """Write folder/tokenizer.json."""
        write_text(folder / FILE, self.inner.to_str())


def train_bpe(documents: list[str], vocab_size: int) -> BPETokenizer:
    """A BPE of at most vocab_size ids from these documents; fewer if the text has no more pairs to merge."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    if not is_whole_number(vocab_size, ByteTokenizer.vocab_size):
        raise ValueError(
            f"vocab_size: a byte-level BPE needs at least 257 ids (bytes and begin), got {cut_short(vocab_size)}"
        )
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    options = {"special_tokens": [BEGIN_TEXT], "initial_alphabet": alphabet, "show_progress": False}
    inner.train_from_iterator(documents, trainers.BpeTrainer(vocab_size=vocab_size, **options))
    return BPETokenizer(inner)


def load_tokenizer(folder: Path) -> ByteTokenizer:
    """The tokenizer of a training run: tokenizer.json in its folder, or bytes if there is no such file."""
    path = folder / FILE
    if not path.exists():
        return ByteTokenizer()
    from tokenizers import Tokenizer

    try:
        inner = Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except Exception as error:  # the library raises plain Exception
        raise ValueError(f"tokenizer: {path} can't be read ({error})") from None
    return BPETokenizer(inner)
