"""Byte-level BPE: how bytes are written as characters, and Kimi's tokenizer file, which holds a vocabulary alone.

Sources: GPT-2 (Radford et al. 2019) for the characters; for tiktoken.model and its pattern the published checkpoints of
Kimi K2 and Kimi Linear (tokenization_kimi.py).
"""

import base64
import binascii
from pathlib import Path

RESERVED = 256  # ids behind the vocabulary that are no text; those that nobody named have a name all the same
_UPPER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]"
_LOWER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]"
_BEFORE, _SHORT = r"[^\r\n\p{L}\p{N}]?", r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
PATTERN = "|".join(
    (
        r"[\p{Han}]+",
        f"{_BEFORE}{_UPPER}*{_LOWER}+{_SHORT}",
        f"{_BEFORE}{_UPPER}+{_LOWER}*{_SHORT}",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    )
)


def byte_characters() -> dict[int, str]:
    """The printable character by which byte-level BPE writes each byte."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + n) for n, byte in enumerate(others)}


def read_tiktoken(path: Path, special: dict[int, str]) -> object:
    """A `tokenizers` Tokenizer from tiktoken.model; special: names of the ids behind the vocabulary.

    The file names a rank per token. BPE wants merges: every way to cut a token in two that are tokens themselves, in
    the order of the ranks. Raises ValueError that names the file.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

    ranks = _read_ranks(path)
    names = byte_characters()
    written = {token: "".join(names[byte] for byte in token) for token in ranks}
    merges = []
    for token in sorted(ranks, key=ranks.get):
        cuts = [(token[:n], token[n:]) for n in range(1, len(token))]
        cuts = [cut for cut in cuts if cut[0] in ranks and cut[1] in ranks]
        merges += [(written[a], written[b]) for a, b in sorted(cuts, key=lambda cut: (ranks[cut[0]], ranks[cut[1]]))]
    vocabulary = {written[token]: rank for token, rank in ranks.items()}
    inner = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=True))  # a run that is a token is that token
    split = pre_tokenizers.Split(Regex(PATTERN), behavior="isolated")
    as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.pre_tokenizer = pre_tokenizers.Sequence([split, as_bytes])
    inner.decoder = decoders.ByteLevel()
    behind = range(len(ranks), max([len(ranks) + RESERVED - 1, *special]) + 1)
    behind = [special.get(n, f"<|reserved_token_{n}|>") for n in behind]  # ids are given in this order
    inner.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in behind])
    return inner


def _read_ranks(path: Path) -> dict[bytes, int]:
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise ValueError(f"{path}: can't be read ({error.strerror})") from None
    ranks = {}
    for number, line in enumerate(lines, 1):
        try:
            token, rank = line.split()
            ranks[base64.b64decode(token, validate=True)] = int(rank)
        except (ValueError, binascii.Error):
            raise ValueError(f"{path}, line {number}: expected a token in base64 and its rank") from None
    if sorted(ranks.values()) != list(range(len(ranks))) or not {bytes([n]) for n in range(256)} <= ranks.keys():
        raise ValueError(f"{path}: expected ranks 0, 1, 2, ... with all 256 bytes among the tokens")
    return ranks
