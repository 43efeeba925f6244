"""Facts in a text: what stands where, what can be known, and what is asked."""

import numpy as np
import pytest

from reference.tasks import Facts


def test_a_fact_says_the_same_each_time_and_is_known_from_the_second_on():
    task = Facts(n_words=8, n_keys=5, words=2)
    texts = task.draw(20, np.random.default_rng(0), facts=3, times=2)
    assert texts.ids.shape == texts.known.shape == (20, 1 + 3 * 2 * 4)
    assert (texts.ids[:, 0] == 0).all() and int(texts.ids.max()) < task.vocab_size
    for ids, known in zip(texts.ids.tolist(), texts.known.tolist(), strict=True):
        said = {}
        for t, token in enumerate(ids):
            if token > 8:  # a key
                answer = ids[t + 1 : t + 3]
                assert known[t + 1 : t + 3] == [token in said] * 2 and not known[t]
                assert said.setdefault(token, answer) == answer
        assert len(said) == 3 and sum(known) == 3 * 2


def test_words_follow_words_as_they_may():
    task = Facts(n_words=8, n_keys=2, successors=2, words=1, seed=3)
    ids = task.draw(50, np.random.default_rng(0), facts=1, times=1).ids.tolist()
    plain = [text for text in ids if text[1] > 8]  # the fact stands first, so the word behind it begins a walk
    assert plain and all(0 < word <= 8 for text in ids for word in text[1:] if word != 9 and word != 10)
    assert task.successors.shape == (8, 2) and (task.successors == Facts(8, 2, successors=2, seed=3).successors).all()


def test_a_question_has_one_right_answer_and_others_of_the_text():
    task = Facts(n_words=30, n_keys=6, words=2)
    asked = task.ask(20, np.random.default_rng(0), facts=5, choices=3)
    assert asked.ids.shape == (20, 2 + 5 * 4) and asked.others.shape == asked.random.shape == (20, 3, 2)
    for ids, right, others in zip(asked.ids.tolist(), asked.answers.tolist(), asked.others.tolist(), strict=True):
        at = ids.index(ids[-1])
        assert at < len(ids) - 1 and ids[at + 1 : at + 3] == right
        behind_keys = [ids[t + 1 : t + 3] for t, token in enumerate(ids[:-1]) if token > 30 and t != at]
        assert all(other in behind_keys for other in others)


def test_a_text_can_be_read():
    task = Facts(n_words=4, n_keys=2)
    words = task.render(task.draw(1, np.random.default_rng(0), facts=1, times=2).ids[0]).split()
    assert words[0] == "|" and sum(word.startswith("K") for word in words) == 2 and len(words) == 9


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda rng: Facts(n_words=1), "n_words: expected a whole number >= 2"),
        (lambda rng: Facts(words=0), "words: "),
        (lambda rng: Facts(successors=99), "successors: "),
        (lambda rng: Facts(n_keys=3).draw(1, rng, facts=4), "facts: expected a whole number 1 to 3, got 4"),
        (lambda rng: Facts().draw(1, rng, facts=2, times=0), "times: "),
        (lambda rng: Facts().ask(1, rng, facts=3, choices=3), "choices: expected a whole number 1 to 2, got 3"),
    ],
)
def test_numbers_that_dont_fit_are_named(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make(np.random.default_rng(0))
