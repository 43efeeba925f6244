"""Tasks: answers recomputed by plain Python from the rendered text, repeatable, difficulty as said, bad input named."""

import re
from collections import Counter
from itertools import pairwise

import pytest
import torch

from reference.tasks import (
    NOT_ASKED,
    AssociativeRecall,
    Induction,
    MultiHop,
    MultiTurn,
    Needle,
    Overwriting,
    Parity,
    Permutations,
    RecallAndParity,
    RecallByParity,
    SelectiveCopying,
    Stream,
    accuracy,
    asked,
)

DRAWS = {
    "recall": (AssociativeRecall(), {"pairs": 9}),
    "overwriting": (Overwriting(), {"times": 5, "keys": 6}),
    "stream": (Stream(), {"pairs": 40, "keys": 5}),
    "needle": (Needle(), {"distractors": 20}),
    "copying": (SelectiveCopying(), {"marked": 5, "noise": 17}),
    "fed_back": (SelectiveCopying(), {"marked": 5, "noise": 17, "fed_back": True}),
    "needles": (Needle(), {"distractors": 20, "questions": 9}),
    "induction": (Induction(), {"length": 12}),
    "inductions": (Induction(), {"length": 12, "questions": 7}),
    "multi_hop": (MultiHop(), {"hops": 3, "chains": 3}),
    "many_hops": (MultiHop(max_hops=3), {"hops": 2, "links": 3, "chains": 5, "questions": 9}),
    "mixed_hops": (MultiHop(max_hops=3), {"hops": 3, "chains": 5, "questions": 9, "mixed": True}),
    "spelled_hops": (MultiHop(max_hops=3), {"hops": 2, "links": 3, "questions": 5, "spelled": True}),
    "multi_turn": (MultiTurn(), {"turns": 7, "questions": 6}),
    "now": (MultiTurn(), {"turns": 7, "kind": "now"}),
    "then": (MultiTurn(), {"turns": 7, "questions": 3, "kind": "then"}),
    "numbered": (MultiTurn(), {"turns": 7, "questions": 6, "numbered": True}),
    "by_parity": (RecallByParity(), {"pairs": 6, "length": 9, "aloud": True}),
    "by_parity_at_the_end": (RecallByParity(), {"pairs": 6, "length": 9}),
    "by_parity_between": (
        RecallByParity(),
        {"pairs": 6, "length": 9, "questions": 14, "aloud": True, "between": True},
    ),
    "parity": (Parity(), {"length": 30}),
    "permutations": (Permutations(3), {"length": 15}),
    "swaps": (Permutations(5, swaps=True), {"length": 15}),
    "two": (RecallAndParity(), {"pairs": 6, "length": 11}),
}


def draw(name, seed=0, batch_size=8):
    task, difficulty = DRAWS[name]
    return task, task.draw(batch_size, torch.Generator().manual_seed(seed), **difficulty)


def key_value(words):
    known, said = {}, []
    for n, word in enumerate(words):
        if word.startswith("v"):
            known[words[n - 1]] = word
        elif n + 1 == len(words) or not words[n + 1].startswith("v"):
            said.append(known[word])
    return said


def copying(words):
    return [word for word in words if word.startswith("t")]


def fed_back(words):
    slot = words.index("?")
    said = copying(words[:slot])
    assert words[slot + 1 :] == said[:-1]
    return said


def induction(words):
    first = next(n for n, word in enumerate(words) if word in words[:n])
    return [words[words.index(word) + 1] for word in words[first:]]


def multi_hop(words, spelled=False):
    start = next(n for n, word in enumerate(words) if re.fullmatch(r"\d+x", word))
    assert words[:start:3] == [";"] * (start // 3)
    links, said = dict(zip(words[1:start:3], words[2:start:3], strict=True)), []
    while start < len(words):
        hops, name = int(words[start][:-1]), words[start + 1]
        for n in range(hops):
            assert not spelled or words[start + 1 + n] == name
            name = links[name]
            said += [name] if spelled or n + 1 == hops else []
        start += 1 + hops if spelled else 2
    return said


def multi_turn(words):
    now, then, turn, said, n = {}, {}, None, [], 0
    while n < len(words):
        if words[n].startswith("turn") and words[n + 2 : n + 3] and words[n + 2].startswith("v"):
            turn = words[n]
            n += 1
        elif words[n].startswith("n") and words[n] != "now":
            now[words[n]] = then[turn, words[n]] = words[n + 1]
            n += 2
        else:
            said.append(now[words[n + 1]] if words[n] == "now" else then[words[n], words[n + 1]])
            n += 2
    return said


def by_parity(words, aloud=True):
    facts, ones, said = {}, 0, []
    for n, word in enumerate(words):
        if word in ("0", "1"):
            ones += int(word)
            said += [("even", "odd")[ones % 2]] if aloud else []
        elif word.startswith("k") and words[n + 1 : n + 2] and words[n + 1].startswith("v"):
            facts[word] = words[n + 1 : n + 3]
        elif word.startswith("k"):
            said.append(facts[word][ones % 2])
    return said


def parity(words):
    return [str(sum(map(int, words[: n + 1])) % 2) for n in range(len(words))]


def permutations(words):
    names, state, said = "abcde"[: len(words[0])], None, []
    for word in words:
        state = word if state is None else "".join(state[names.index(c)] for c in word)
        said.append(state)
    return said


READERS = dict.fromkeys(("recall", "overwriting", "stream", "needle"), key_value)
READERS |= {"copying": copying, "induction": induction, "multi_hop": multi_hop, "multi_turn": multi_turn}
READERS |= {"mixed_hops": multi_hop, "spelled_hops": lambda words: multi_hop(words, spelled=True)}
READERS |= {"many_hops": multi_hop, "now": multi_turn, "then": multi_turn, "by_parity": by_parity}
READERS |= {"fed_back": fed_back, "needles": key_value, "inductions": induction}
READERS |= {"numbered": multi_turn, "by_parity_between": by_parity}
READERS |= {"by_parity_at_the_end": lambda words: by_parity(words, aloud=False)}
READERS |= {"parity": parity, "permutations": permutations, "swaps": permutations}


@pytest.mark.parametrize("name", READERS)
def test_answers_are_those_of_a_plain_reader(name):
    task, questions = draw(name)
    for ids, answers in zip(questions.ids, questions.answers, strict=True):
        said = answers[answers != NOT_ASKED]
        if name == "parity":
            words = [str(int(x) - 3) for x in said]
        elif name in ("permutations", "swaps"):
            words = [task.render(x[None]) for x in said]
        else:
            words = task.render(said).split()
        assert words == READERS[name](task.render(ids).split())


@pytest.mark.parametrize("name", DRAWS)
def test_a_seed_repeats_itself_and_ids_are_in_the_vocabulary(name):
    task, first = draw(name)
    _, again = draw(name)
    _, other = draw(name, seed=1)
    assert torch.equal(first.ids, again.ids) and torch.equal(first.answers, again.answers)
    assert not torch.equal(first.ids, other.ids)
    assert first.ids.shape == first.answers.shape and len(first.ids) == 8
    assert first.ids.min() >= 0 and first.ids.max() < task.vocab_size
    assert asked(first).any(1).all() and first.answers[asked(first)].max() < task.vocab_size


def test_after_each_layer_one_hop_more():
    task, difficulty = MultiHop(max_hops=3), {"hops": 3, "chains": 5, "questions": 9, "mixed": True}
    by_layer = task.draw(8, torch.Generator().manual_seed(0), layers=4, **difficulty)
    plain = task.draw(8, torch.Generator().manual_seed(0), **difficulty)
    assert torch.equal(by_layer.ids, plain.ids) and by_layer.answers.shape == (4, *plain.ids.shape)
    assert torch.equal(by_layer.answers[2], plain.answers) and torch.equal(by_layer.answers[3], plain.answers)
    for ids, answers in zip(by_layer.ids, by_layer.answers.unbind(1), strict=True):
        words = task.render(ids).split()
        for layer in (1, 2, 3):
            fewer = [f"{min(int(word[:-1]), layer)}x" if word.endswith("x") else word for word in words]
            assert task.render(answers[layer - 1][answers[layer - 1] != NOT_ASKED]).split() == multi_hop(fewer)


@pytest.mark.parametrize("hops,links,chains", [(1, 3, 4), (2, 3, 4), (3, 3, 5), (2, 5, 2), (1, 1, 3)])
def test_guesses_are_right_as_often_as_said(hops, links, chains):
    task = MultiHop(48, 5)
    questions = task.draw(400, torch.Generator().manual_seed(0), hops=hops, links=links, chains=chains, questions=20)
    found = Counter()
    for ids, answers in zip(questions.ids, questions.answers, strict=True):
        words = task.render(ids).split()[: 3 * links * chains]
        onward = dict(zip(words[1::3], words[2::3], strict=True))
        far = list(onward)
        for _ in range(hops):
            far = [onward[name] for name in far if name in onward]
        kinds = {"a name": set(onward) | set(onward.values()), "a value": set(onward.values())}
        kinds |= {"a name that occurs twice": set(onward) & set(onward.values()), "a name far enough in": set(far)}
        said = task.render(answers[answers != NOT_ASKED]).split()
        for kind, names in kinds.items():
            found[kind] += sum(name in names for name in said) / max(len(names), 1) / len(said) / len(questions.ids)
    expected = task.guesses(hops=hops, links=links, chains=chains)
    assert found == pytest.approx(expected, abs=0.004)


def test_two_tasks_are_half_and_half():
    task, questions = draw("two")
    assert [" " in task.render(row) and task.render(row).startswith("k") for row in questions.ids] == [True] * 4 + [
        False
    ] * 4
    alone = task.draw(3, torch.Generator(), length=5)
    assert alone.ids.min() > task.shift and alone.ids.shape == (3, 5)
    with pytest.raises(ValueError, match="pairs, length: expected at least one"):
        task.draw(3, torch.Generator())


def test_layers_below_the_last_are_asked_for_the_parity():
    task, rng = RecallByParity(), torch.Generator().manual_seed(0)
    difficulty = {"pairs": 3, "length": 6, "questions": 5, "between": True}
    plain = task.draw(4, torch.Generator().manual_seed(0), **difficulty)
    ids, answers = task.draw(4, rng, layers=3, **difficulty)
    assert answers.shape == (3, *ids.shape) and torch.equal(ids, plain.ids) and torch.equal(answers[2], plain.answers)
    assert torch.equal(answers[0], answers[1]) and (answers[0, :, :9] == NOT_ASKED).all()
    for row, words in zip(answers[0, :, 9:], (task.render(x[9:]).split() for x in ids), strict=True):
        ones = [words[: n + 1].count("1") % 2 for n in range(len(words))]
        assert task.render(row).split() == [("even", "odd")[x] for x in ones]


def test_chance_without_the_parity_is_that_of_either_value():
    task, rng = RecallByParity(n_values=4), torch.Generator().manual_seed(0)
    right, total = 0, 0
    for ids, answers in zip(*task.draw(500, rng, pairs=5, length=3), strict=True):
        words = task.render(ids).split()
        for key, value in zip(words[-4:], task.render(answers[-4:]).split(), strict=True):
            at = words.index(key)
            right, total = right + words[at + 1 : at + 3].count(value) / 2, total + 1
    assert task.chance() == pytest.approx(right / total, abs=0.02)


def test_the_sign_of_a_permutation_doubles_the_chance():
    task = Permutations(3)
    assert task.chance() == pytest.approx(1 / 6) and task.chance(sign=True) == pytest.approx(1 / 3)
    signs = [sum(p[a] > p[b] for a in range(3) for b in range(a + 1, 3)) % 2 for p in task.elements]
    assert sum(signs) == 3  # half of them


@pytest.mark.parametrize("turns", [1, 4, 16])
def test_chance_of_a_conversation_is_that_of_a_random_write(turns):
    task, rng, right, total = MultiTurn(n_values=8), torch.Generator().manual_seed(0), 0.0, 0
    for ids, answers in zip(*task.draw(400, rng, turns=turns, kind="then"), strict=True):
        words = task.render(ids).split()
        said = task.render(answers[answers != NOT_ASKED]).split()
        for name, value in zip(words[-7::2], said, strict=True):
            written = [b for a, b in pairwise(words[:-7]) if a == name]
            right, total = right + written.count(value) / len(written), total + 1
    assert task.chance(turns=turns) == pytest.approx(right / total, abs=0.02)


def test_accuracy_counts_questions_alone():
    _, questions = draw("recall")
    logits = torch.nn.functional.one_hot(questions.answers.clamp(min=0), 129).float()
    assert accuracy(logits, questions) == 1.0
    first = asked(questions).nonzero()[0]
    logits[first[0], first[1]] = 0
    logits[first[0], first[1], 0] = 1
    assert accuracy(logits, questions) == pytest.approx(1 - 1 / asked(questions).sum().item())


@pytest.mark.parametrize(
    "call,message",
    [
        (lambda r: AssociativeRecall(4).draw(2, r, pairs=5), "pairs: expected a whole number 1 to 4, got 5"),
        (lambda r: Overwriting().draw(2, r, times=0), "times: expected a whole number >= 1, got 0"),
        (lambda r: Stream().draw(2, r, pairs=3), "pairs: expected a whole number >= 4, got 3"),
        (lambda r: Needle(8).draw(2, r, distractors=8), "distractors: expected a whole number 0 to 7, got 8"),
        (lambda r: MultiHop(max_hops=2).draw(2, r, hops=3), "hops: expected a whole number 1 to 2, got 3"),
        (lambda r: MultiTurn().draw(2, r, turns=17), "turns: expected a whole number 1 to 16, got 17"),
        (lambda r: MultiHop().draw(2, r, hops=2, links=1), "links: expected a whole number >= 2, got 1"),
        (lambda r: MultiHop().draw(2, r, hops=1, questions=0), "questions: expected a whole number >= 1, got 0"),
        (lambda r: MultiHop().draw(2, r, hops=1, layers=0), "layers: expected a whole number >= 1, got 0"),
        (
            lambda r: MultiHop().draw(2, r, hops=1, mixed=True, spelled=True),
            "spelled: expected neither mixed nor layers",
        ),
        (lambda r: MultiTurn().draw(2, r, turns=2, kind="past"), "kind: expected 'both', 'now' or 'then', got 'past'"),
        (lambda r: RecallByParity(4).draw(2, r, pairs=5, length=1), "pairs: expected a whole number 1 to 4, got 5"),
        (lambda r: Parity().draw(2, r, length=True), "length: expected a whole number >= 1, got True"),
        (lambda r: Permutations(6), "n: expected a whole number 2 to 5, got 6"),
    ],
)
def test_bad_difficulty_is_named(call, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        call(torch.Generator())
