"""Real text for the experiments: the help topics of Python 3.11.7, most of its language reference.

The running Python has such topics too, but they change with every version, and outputs are compared strictly.
So the text lies in reference/manual, with its licence. word_vectors() loads a table of counts, which
count_cooccurrences() counts again from that text; a test compares the two.
"""

import json
import re
from collections import Counter
from functools import cache
from importlib.resources import files
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reference.files import STORED, write_text

WORD_COUNTS = STORED / "word_counts.json"
FREQUENT_WORDS, REACH = 200, 4


class WordCounts(NamedTuple):
    """counts [W, W]: how often words[i] and words[j] are at most `window` words apart."""

    words: list[str]
    counts: NDArray[np.int64]


def manual_text() -> str:
    """The help topics of Python 3.11.7, whichever Python runs: 465,048 characters of English."""
    return (files("reference") / "manual" / "python-3.11.7.txt").read_text(encoding="utf-8")


def count_cooccurrences(n_words: int = FREQUENT_WORDS, window: int = REACH, text: str | None = None) -> WordCounts:
    """Count neighbors among the n_words most frequent words of three letters or more.

    A word is a run of letters; shorter runs (a, of, x) count as places in the text but get no row. Distances
    are counted in the full text. Words are sorted by frequency, ties by alphabet. counts is
    symmetric; its diagonal counts a word near itself, twice per pair of places.
    """
    running = re.findall(r"[a-z]+", (manual_text() if text is None else text).lower())
    frequency = Counter(word for word in running if len(word) > 2)
    words = [word for word, _ in sorted(frequency.items(), key=lambda item: (-item[1], item[0]))[:n_words]]
    row = {word: i for i, word in enumerate(words)}
    ids = np.array([row.get(word, -1) for word in running])
    counts = np.zeros((len(words), len(words)), dtype=np.int64)
    for distance in range(1, window + 1):
        left, right = ids[:-distance], ids[distance:]
        both = (left >= 0) & (right >= 0)
        np.add.at(counts, (left[both], right[both]), 1)
    return WordCounts(words, counts + counts.T)


@cache
def stored_counts() -> WordCounts:
    """The table that the book uses: words, and the upper triangle of their counts row by row."""
    table = json.loads(WORD_COUNTS.read_text(encoding="utf-8"))
    n = len(table["words"])
    counts = np.zeros((n, n), dtype=np.int64)
    counts[np.triu_indices(n)] = [count for row in table["upper_triangle"] for count in row]
    return WordCounts(table["words"], np.maximum(counts, counts.T))


def store_counts() -> None:
    """Count again and replace the stored table."""
    words, counts = count_cooccurrences()
    rows = ",\n".join(json.dumps(row[i:].tolist(), separators=(",", ":")) for i, row in enumerate(counts))
    write_text(WORD_COUNTS, f'{{"words": {json.dumps(words)},\n"upper_triangle": [\n{rows}\n]}}\n')


def positive_pmi(counts: NDArray) -> NDArray[np.float64]:
    """How much more often than by chance two words meet: max(0, log p(a, b) / (p(a) p(b)))."""
    share = counts.sum(1) / counts.sum()
    with np.errstate(divide="ignore"):
        pmi = np.log(counts / counts.sum()) - np.log(np.outer(share, share))
    return np.maximum(pmi, 0.0)


def word_vectors(dim: int = 32, table: WordCounts | None = None) -> tuple[list[str], NDArray[np.float64]]:
    """Words and one vector each, [W, dim]: words that keep the same company get similar vectors.

    The leading singular vectors of the positive PMI matrix, times the roots of their singular
    values. Source: Levy and Goldberg 2014, section 3.3. Signs are fixed so that every column's
    largest entry is positive.
    """
    words, counts = stored_counts() if table is None else table
    left, singular, _ = np.linalg.svd(positive_pmi(counts))
    vectors = left[:, :dim] * np.sqrt(singular[:dim])
    signs = np.sign(vectors[np.abs(vectors).argmax(0), np.arange(vectors.shape[1])])
    return words, vectors * signs
