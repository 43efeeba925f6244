"""The stored word counts are those of the Python manual, and the vectors made from them make sense."""

import hashlib
import sys

import numpy as np
import pytest

from reference.book.corpus import count_cooccurrences, manual_text, positive_pmi, stored_counts, word_vectors

TEXT = "The cat sat. The dog sat, the cat ran; a dog ran by the cat."


def test_neighbors_are_counted_both_ways_within_the_window():
    words, counts = count_cooccurrences(n_words=4, window=1, text=TEXT)
    assert words == ["the", "cat", "dog", "ran"]  # 4, 3, 2, 2 times; ties by alphabet, "sat" is left out
    assert counts.tolist() == [[0, 3, 1, 0], [3, 0, 0, 1], [1, 0, 0, 1], [0, 1, 1, 0]]


def test_a_word_near_itself_is_on_the_diagonal():
    words, counts = count_cooccurrences(n_words=1, window=2, text="very very good")
    assert (words, counts.tolist()) == (["very"], [[2]])


def test_distances_are_those_of_the_full_text():
    _, counts = count_cooccurrences(n_words=2, window=1, text="dog a cat")  # "a" has no row but stands between
    assert counts.sum() == 0


def test_the_manual_is_the_text_that_the_outputs_were_made_with():
    text = manual_text()
    assert len(text) == 465_048
    sha256 = "2a95af4ac93f5b719944030ce3769070ddf827d847cba42192afa8da989e5dc4"
    assert hashlib.sha256(text.encode("utf-8")).hexdigest() == sha256


@pytest.mark.skipif(sys.version_info[:3] != (3, 11, 7), reason="only Python 3.11.7 has these topics")
def test_the_manual_is_that_of_python_3_11_7():
    from pydoc_data.topics import topics

    assert manual_text() == "\n".join(topics[name] for name in sorted(topics))


def test_the_stored_table_is_counted_from_the_manual():
    (words, counts), (new_words, new_counts) = stored_counts(), count_cooccurrences()
    assert len(words) == 200 and counts.shape == (200, 200)
    assert words == new_words and np.array_equal(counts, new_counts)


def test_words_met_by_chance_have_no_pmi():
    often = np.array([1.0, 2.0, 5.0])
    assert np.allclose(positive_pmi(np.outer(often, often)), 0)
    assert (positive_pmi(np.eye(2)) == np.log(2) * np.eye(2)).all()  # never met: minus infinity, cut to 0


@pytest.mark.parametrize("dim", [2, 32])
def test_vectors_reproduce_the_leading_part_of_the_matrix(dim):
    words, vectors = word_vectors(dim)
    assert vectors.shape == (len(words), dim)
    singular = np.linalg.svd(positive_pmi(stored_counts().counts), compute_uv=False)
    assert np.allclose((vectors**2).sum(0), singular[:dim])
    assert np.allclose(vectors.T @ vectors, np.diag(singular[:dim]), atol=1e-8)


def test_related_words_have_similar_vectors():
    words, vectors = word_vectors(32)
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    for word, friend, stranger in (("raise", "exception", "pattern"), ("list", "tuple", "import")):
        a, b, c = (vectors[words.index(w)] for w in (word, friend, stranger))
        assert a @ b > 0.4 > 0.2 > a @ c
