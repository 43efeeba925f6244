"""Text for training: documents from anywhere, ids, and packed batches that never mix two documents."""

import hashlib
import json
from pathlib import Path
from typing import BinaryIO, NamedTuple

import torch
from torch import Tensor

from reference.arguments import SURROGATE
from reference.book.corpus import manual_text
from reference.training.tokenizer import ByteTokenizer, utf8_length

TEXTS = (".txt", ".md", ".jsonl")
BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # in UTF-8


def read_documents(source: str) -> list[str]:
    """Documents of a source: "manual" (the Python manual, one document per topic), a text file, a .jsonl file with a
    "text" field per line, a folder of such files, or hf:NAME[:CONFIG][:SPLIT], a data set of the Hugging Face Hub
    with a "text" column (needs the optional package `datasets`).

    Files are UTF-8. A byte order mark is left out, a line of a text file may end in CR LF, a .jsonl file is cut at LF
    only. Raises ValueError that names source, file and line.
    """
    if source == "manual":
        documents = manual_text().split("\n\n\n")
    elif source.startswith("hf:"):
        documents = _read_hub(source)
    else:
        documents = [document for file in text_files(_existing(source))[0] for document in _read_file(file)]
    documents = [document for document in documents if document.strip()]
    if not documents:
        raise ValueError(f"data: {source!r} holds no text (.txt, .md and .jsonl files are read)")
    return documents


def _existing(source: str) -> Path:
    path = Path(source)
    try:
        exists, is_text = path.exists(), path.is_file() or path.is_dir()
    except OSError as error:  # a name that is too long, a folder that may not be entered
        raise ValueError(f"data: {source[:80]!r} can't be read ({error.strerror})") from None
    if not exists:
        raise ValueError(f"data: expected 'manual', a file or a folder, got {source[:200]!r}, which doesn't exist")
    if not is_text:
        raise ValueError(f"data: expected a file or a folder, got {source!r}: a run that resumes reads its text again")
    return path


def text_files(path: Path) -> tuple[list[Path], list[Path]]:
    """(the files of a source that are read, those that are not): of a folder, text is .txt, .md and .jsonl."""
    if not path.is_dir():
        return [path], []
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return [f for f in files if f.suffix in TEXTS], [f for f in files if f.suffix not in TEXTS]


def what_was_read(source: str, documents: list[str]) -> str:
    """One line about a source: documents and bytes of text; of a folder, also files that were read and passed over."""
    size = sum(utf8_length(document) for document in documents)
    said = f"data: {source}: {len(documents):,} document(s), {size:,} bytes of text"
    if source == "manual" or source.startswith("hf:") or not Path(source).is_dir():
        return said
    read, skipped = text_files(Path(source))
    kinds = sorted({f.suffix or "no suffix" for f in skipped})
    more = f" ({', '.join(kinds[:5])}{', ...' if len(kinds) > 5 else ''})" if kinds else ""
    return f"{said} in {len(read):,} file(s); {len(skipped):,} other file(s) skipped{more}"


def _read_hub(source: str) -> list[str]:
    try:
        from datasets import load_dataset
    except ImportError:
        raise ValueError(f"data: {source!r} needs the optional package datasets: pip install datasets") from None
    name, config, split, *_ = [*source.removeprefix("hf:").split(":"), None, None]
    rows = load_dataset(name, config, split=split or "train")
    if "text" not in rows.column_names:
        raise ValueError(f'data: {source!r} has the columns {rows.column_names}, expected one named "text"')
    return list(rows["text"])


def _read_file(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            file.seek(len(BYTE_ORDER_MARK) if file.read(len(BYTE_ORDER_MARK)) == BYTE_ORDER_MARK else 0)
            if path.suffix == ".jsonl":
                return _read_lines(path, file)
            begin = file.tell()
            return [_decode(file.read(), path, begin).replace("\r\n", "\n")]
    except OSError as error:
        raise ValueError(f"data: {path} can't be read ({error.strerror})") from None


def _read_lines(path: Path, file: BinaryIO) -> list[str]:
    documents, begin = [], file.tell()
    for number, line in enumerate(file, 1):  # of bytes: U+2028 and its like are text, not ends of lines
        text, begin = _decode(line, path, begin), begin + len(line)
        if not text.strip():
            continue
        try:
            record = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"data: {path}, line {number}: not JSON ({error.msg})") from None
        except (RecursionError, ValueError) as error:  # lists within lists within lists; a number of 5,000 digits
            raise ValueError(f"data: {path}, line {number}: can't be read ({error})") from None
        if not isinstance(record, dict) or not isinstance(record.get("text"), str):
            raise ValueError(f'data: {path}, line {number}: expected an object with a string field "text"')
        if SURROGATE.search(record["text"]):
            raise ValueError(f'data: {path}, line {number}: "text" holds half of a surrogate pair, which is no text')
        documents.append(record["text"])
    return documents


def _decode(data: bytes, path: Path, begin: int) -> str:
    """UTF-8; begin: where the data stand in the file."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"data: {path} is not UTF-8 text (byte {begin + error.start})") from None


IGNORE = -100  # cross_entropy's mark for positions that have no target


class Batch(NamedTuple):
    """ids [1, B·L] packed with cu_seqlens; targets [1, B·L] are the next ids, -100 where none belongs."""

    ids: Tensor
    targets: Tensor
    cu_seqlens: Tensor
    n_targets: int  # in the whole batch, of which this may be one process's share
    n_ahead: int  # the same for `after_next`

    def after_next(self) -> Tensor:
        """Targets of the head that looks one token further, [1, B·L]: the id after the next, in the same document."""
        targets = self.targets.roll(-1, 1)
        targets[:, self.cu_seqlens[1:] - 1] = IGNORE
        return targets


class PackedText:
    """Documents end to end. batch(n) depends on n and the seed only, so that a run can resume at any step.

    rank, size: this process's part of the pieces where `size` processes share each batch.
    """

    def __init__(
        self,
        documents: list[str],
        *,
        length: int,
        batch_size: int,
        seed: int = 0,
        tokenizer: ByteTokenizer | None = None,
    ):
        self.tokenizer = ByteTokenizer() if tokenizer is None else tokenizer
        self.ids = self.tokenizer.encode_documents(documents)  # of two or four bytes, whatever the text's size
        if len(self.ids) <= length:
            raise ValueError(f"data: {len(self.ids)} tokens are too few for pieces of {length}")
        self.bytes_per_token = sum(utf8_length(document) for document in documents) / len(self.ids)
        self.length, self.batch_size, self.seed = length, batch_size, seed

    def digest(self) -> str:
        """SHA-256 of the ids and of the tokenizer: what a run that resumes must find again."""
        digest = hashlib.sha256(self.ids.numpy())  # where they lie: a copy would double the memory of a long text
        digest.update(self.tokenizer.fingerprint())
        return digest.hexdigest()

    def batch(self, n: int, rank: int = 0, size: int = 1) -> Batch:
        """The pieces of batch n that process `rank` of `size` trains on."""
        rng = torch.Generator().manual_seed(1_000_003 * self.seed + n)
        starts = torch.randint(len(self.ids) - self.length, (self.batch_size, 1), generator=rng)
        pieces = self.ids[starts + torch.arange(self.length + 1)].long()  # [B, L + 1]
        whole = self._pack(pieces)
        if size == 1:
            return whole
        counts = {"n_targets": whole.n_targets, "n_ahead": whole.n_ahead}
        return self._pack(pieces.tensor_split(size)[rank])._replace(**counts)

    def _pack(self, pieces: Tensor) -> Batch:
        begin = self.tokenizer.begin
        ids, targets = pieces[:, :-1], pieces[:, 1:]
        targets = targets.masked_fill(targets == begin, IGNORE)  # the next document's start can't be predicted
        opens = ids == begin
        opens[:, 0] = True
        bounds = torch.cat([opens.flatten().nonzero()[:, 0], torch.tensor([ids.numel()])])
        batch = Batch(ids.reshape(1, -1), targets.reshape(1, -1), bounds, int((targets != IGNORE).sum()), 0)
        return batch._replace(n_ahead=int((batch.after_next() != IGNORE).sum()))


def hold_out(documents: list[str], every: int = 20) -> tuple[list[str], list[str]]:
    """(documents to train on, every 20th to evaluate on). One long document is cut: its last twentieth is held out."""
    if len(documents) >= every:
        return [d for n, d in enumerate(documents, 1) if n % every], documents[every - 1 :: every]
    whole = documents[0] if len(documents) == 1 else "\n\n".join(documents)
    cut = len(whole) - max(len(whole) // every, 1)
    return [whole[:cut]], [whole[cut:]]
