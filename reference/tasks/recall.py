"""Tasks about keys and values: recall, overwriting, a long stream, a needle among distractors.

A text is pairs `key value`, then keys without values; the answer to such a key is the value written last under it.
Ids: 0 padding, 1 to n_keys the keys, then n_values values.
"""

from torch import Generator as Random
from torch import Tensor, arange, cat, full_like, stack, zeros_like

from reference.tasks._questions import NOT_ASKED, PAD, Questions, check_at_least, some_without_repeats, whole_numbers


class KeyValue:
    """What the four tasks share: vocabulary, rendering, and the layout of pairs and questions.

    ValueError if n_keys is below 1 or n_values below 2.
    """

    def __init__(self, n_keys: int = 64, n_values: int = 64):
        check_at_least("n_keys", n_keys, 1)
        check_at_least("n_values", n_values, 2)
        self.n_keys, self.n_values = n_keys, n_values
        self.vocab_size = 1 + n_keys + n_values

    def render(self, ids: Tensor) -> str:
        """One text [T] as words: _ padding, k3 v17 ... pairs; a key without a value is a question."""
        words = {PAD: "_"} | {1 + n: f"k{n}" for n in range(self.n_keys)}
        return " ".join(words.get(i, f"v{i - 1 - self.n_keys}") for i in ids.tolist())

    def _text(self, keys: Tensor, values: Tensor, asked: Tensor, right: Tensor) -> Questions:
        """keys, values [B, pairs]; asked, right [B, questions]: numbers from 0."""
        pairs = stack([1 + keys, 1 + self.n_keys + values], -1).flatten(1)
        ids = cat([pairs, 1 + asked], 1)
        answers = cat([full_like(pairs, NOT_ASKED), 1 + self.n_keys + right], 1)
        return Questions(ids, answers)


class AssociativeRecall(KeyValue):
    """`pairs` different keys with random values, then all keys in another order.

    Source: Arora et al. 2024 (Zoology), section 3, with the questions at the end.
    """

    def draw(self, batch_size: int, rng: Random, *, pairs: int) -> Questions:
        """Texts of 2 pairs + pairs tokens. ValueError unless 1 <= pairs <= n_keys."""
        check_at_least("pairs", pairs, 1, self.n_keys)
        keys = some_without_repeats(batch_size, self.n_keys, pairs, rng)
        values = whole_numbers(batch_size, pairs, self.n_values, rng)
        order = some_without_repeats(batch_size, pairs, pairs, rng)
        return self._text(keys, values, keys.gather(1, order), values.gather(1, order))


class Overwriting(KeyValue):
    """A few keys, each written several times with new values in random order; the last value counts.

    A sum of all that was written answers rightly once in `times`; the delta rule erases the older values.
    """

    def draw(self, batch_size: int, rng: Random, *, times: int, keys: int = 8) -> Questions:
        """Texts of 2 keys times + keys tokens: each key is written `times` times. ValueError unless times >= 1 and
        1 <= keys <= n_keys."""
        check_at_least("times", times, 1)
        check_at_least("keys", keys, 1, self.n_keys)
        names = some_without_repeats(batch_size, self.n_keys, keys, rng)
        written = some_without_repeats(batch_size, keys * times, keys * times, rng) % keys
        values = whole_numbers(batch_size, keys * times, self.n_values, rng)
        order = some_without_repeats(batch_size, keys, keys, rng)
        right = values.gather(1, _last_place(written, keys)).gather(1, order)
        return self._text(names.gather(1, written), values, names.gather(1, order), right)


class Stream(KeyValue):
    """Many pairs whose keys are drawn again and again from a few; the keys of the last pairs are asked for.

    Only the length grows, and not what has to be known: a model that clears its memory can continue without end.
    """

    def draw(self, batch_size: int, rng: Random, *, pairs: int, keys: int = 8, questions: int = 4) -> Questions:
        """Texts of 2 pairs + questions tokens.

        keys       different keys of one text, at most n_keys
        questions  at most one for each key and each pair
        Raises ValueError.
        """
        check_at_least("keys", keys, 1, self.n_keys)
        check_at_least("questions", questions, 1, keys)
        check_at_least("pairs", pairs, questions)
        names = some_without_repeats(batch_size, self.n_keys, keys, rng)
        written = whole_numbers(batch_size, pairs, keys, rng)
        written[:, pairs - questions :] = some_without_repeats(batch_size, keys, questions, rng)
        values = whole_numbers(batch_size, pairs, self.n_values, rng)
        order = some_without_repeats(batch_size, questions, questions, rng) + pairs - questions
        asked = written.gather(1, order)
        return self._text(names.gather(1, written), values, names.gather(1, asked), values.gather(1, order))


class Needle(KeyValue):
    """One question about one pair, at a random depth among `distractors` other pairs, all keys different. For training
    there may be more questions, about other pairs.

    Source: the S-NIAH tests of RULER (Hsieh et al. 2024), with distractors instead of filler.
    """

    def draw(self, batch_size: int, rng: Random, *, distractors: int, questions: int = 1) -> Questions:
        """Texts of 2 (distractors + 1) + questions tokens. ValueError unless 0 <= distractors < n_keys and
        1 <= questions <= distractors + 1."""
        check_at_least("distractors", distractors, 0, self.n_keys - 1)
        pairs = distractors + 1
        check_at_least("questions", questions, 1, pairs)
        keys = some_without_repeats(batch_size, self.n_keys, pairs, rng)
        values, at = whole_numbers(batch_size, pairs, self.n_values, rng), whole_numbers(batch_size, 1, pairs, rng)
        if questions > 1:
            at = some_without_repeats(batch_size, pairs, questions, rng)
        return self._text(keys, values, keys.gather(1, at), values.gather(1, at))


def _last_place(written: Tensor, keys: int) -> Tensor:
    """Where each key was written last: [B, keys], from the order of writing [B, n]."""
    places = arange(written.shape[1]).expand_as(written)
    return zeros_like(written[:, :keys]).scatter_reduce(1, written, places, "amax")
