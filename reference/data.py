"""Text for training: documents from anywhere, ids, and packed batches that never mix two documents."""

import json
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from reference.corpus import manual_text

BEGIN = 256  # the byte tokenizer's only id that is no byte: it starts every document
BYTE_VOCAB = 257


def encode(text: str) -> list[int]:
    """UTF-8 bytes behind BEGIN."""
    return [BEGIN, *text.encode("utf-8")]


def decode(ids: list[int] | Tensor) -> str:
    """The text of byte ids; BEGIN is left out, broken UTF-8 becomes the replacement character."""
    ids = ids.tolist() if isinstance(ids, Tensor) else ids
    return bytes(i for i in ids if i < BEGIN).decode("utf-8", "replace")


def read_documents(source: str) -> list[str]:
    """Documents of a source: "manual" (the Python manual, one document per topic), a text file, a .jsonl file with a
    "text" field per line, or a folder of such files. Raises ValueError that names the source, file and line.
    """
    if source == "manual":
        documents = manual_text().split("\n\n\n")
    else:
        path = Path(source)
        if not path.exists():
            raise ValueError(f"data: expected 'manual', a file or a folder, got {source!r}, which doesn't exist")
        files = sorted(f for f in path.rglob("*") if f.suffix in (".txt", ".md", ".jsonl")) if path.is_dir() else [path]
        documents = [document for file in files for document in _read_file(file)]
    documents = [document for document in documents if document.strip()]
    if not documents:
        raise ValueError(f"data: {source!r} holds no text (.txt, .md and .jsonl files are read)")
    return documents


def _read_file(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"data: {path} is not UTF-8 text (byte {error.start})") from None
    if path.suffix != ".jsonl":
        return [text]
    documents = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"data: {path}, line {number}: not JSON ({error.msg})") from None
        if not isinstance(record, dict) or not isinstance(record.get("text"), str):
            raise ValueError(f'data: {path}, line {number}: expected an object with a string field "text"')
        documents.append(record["text"])
    return documents


class Batch(NamedTuple):
    """ids [1, B·L] packed with cu_seqlens; targets [1, B·L] are the next ids, -100 where none belongs."""

    ids: Tensor
    targets: Tensor
    cu_seqlens: Tensor


class PackedText:
    """Documents end to end. batch(n) is a function of n and the seed alone: a run can go on from any step."""

    def __init__(self, documents: list[str], *, length: int, batch_size: int, seed: int = 0):
        ids = [i for document in documents for i in encode(document)]
        if len(ids) <= length:
            raise ValueError(f"data: {len(ids)} tokens are too few for pieces of {length}")
        self.ids = torch.tensor(ids, dtype=torch.int32)
        self.length, self.batch_size, self.seed = length, batch_size, seed

    def batch(self, n: int) -> Batch:
        rng = torch.Generator().manual_seed(1_000_003 * self.seed + n)
        starts = torch.randint(len(self.ids) - self.length, (self.batch_size, 1), generator=rng)
        pieces = self.ids[starts + torch.arange(self.length + 1)].long()  # [B, L + 1]
        ids, targets = pieces[:, :-1], pieces[:, 1:]
        targets = targets.masked_fill(targets == BEGIN, -100)  # what starts the next document can't be foretold
        opens = ids == BEGIN
        opens[:, 0] = True
        bounds = torch.cat([opens.flatten().nonzero()[:, 0], torch.tensor([ids.numel()])])
        return Batch(ids.reshape(1, -1), targets.reshape(1, -1), bounds)
