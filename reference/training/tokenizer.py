"""Text to ids and back: bytes, which need no training, or a small byte-level BPE by the `tokenizers` library."""

from pathlib import Path

from torch import Tensor

from reference.arguments import is_whole_number
from reference.files import write_text

FILE = "tokenizer.json"
BEGIN_TEXT = "<|begin|>"


class ByteTokenizer:
    """One id per byte of UTF-8, and `begin`, the one id that is no byte, before every document."""

    vocab_size, begin = 257, 256

    def encode(self, text: str) -> list[int]:
        """[begin, bytes...]"""
        return [self.begin, *text.encode("utf-8")]

    def decode_bytes(self, ids: list[int]) -> bytes:
        """The bytes that ids stand for; `begin` stands for none."""
        return bytes(i for i in ids if i < self.begin)

    def decode(self, ids: list[int] | Tensor) -> str:
        """The text of ids; `begin` is left out, broken UTF-8 becomes the replacement character."""
        ids = ids.tolist() if isinstance(ids, Tensor) else ids
        return self.decode_bytes(ids).decode("utf-8", "replace")

    def save(self, folder: Path) -> None:
        """Remove tokenizer.json: bytes need no file, and an earlier run's would be another tokenizer."""
        (folder / FILE).unlink(missing_ok=True)


class BPETokenizer(ByteTokenizer):
    """Frequent runs of bytes are one id. Any text can be written: all 256 bytes are in the vocabulary."""

    def __init__(self, inner: object):
        self.inner, self.vocab_size, self.begin = inner, inner.get_vocab_size(), inner.token_to_id(BEGIN_TEXT)
        if self.begin is None:
            raise ValueError(f"tokenizer: expected one with the token {BEGIN_TEXT!r}, as train_bpe makes them")
        self._bytes = {char: byte for byte, char in _byte_characters().items()}

    def encode(self, text: str) -> list[int]:
        """[begin, ids...]"""
        return [self.begin, *self.inner.encode(text, add_special_tokens=False).ids]

    def decode_bytes(self, ids: list[int]) -> bytes:
        """The bytes that ids stand for; `begin` stands for none."""
        pieces = "".join(self.inner.id_to_token(i) for i in ids if i != self.begin)
        return bytes(self._bytes[char] for char in pieces)

    def save(self, folder: Path) -> None:
        """Write folder/tokenizer.json."""
        write_text(folder / FILE, self.inner.to_str())


def _byte_characters() -> dict[int, str]:
    """The printable character by which byte-level BPE writes each byte. Source: GPT-2 (Radford et al. 2019)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + n) for n, byte in enumerate(others)}


def train_bpe(documents: list[str], vocab_size: int) -> BPETokenizer:
    """A BPE of at most vocab_size ids from these documents; fewer if the text has no more pairs to merge."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    if not is_whole_number(vocab_size, ByteTokenizer.vocab_size):
        raise ValueError(f"vocab_size: a byte-level BPE needs at least 257 ids (bytes and begin), got {vocab_size!r}")
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
