"""A trace of conversations that branch: which tokens a prompt has in common with earlier ones.

Counting needs no text: a trace is a tree of runs of tokens, and a prompt is the path from the root to a node. Two
prompts have in common exactly the tokens of their common nodes.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np


class TalkHabits(NamedTuple):
    """How people talk. Lengths are log-normal: the median, and the standard deviation of the logarithm."""

    systems: int = 4  # system prompts, the n-th chosen with weight 1 / n
    system_tokens: tuple[int, int] = (1000, 4000)  # uniform
    message: tuple[float, float] = (80, 1.0)
    document: tuple[float, float] = (4000, 0.7)  # pasted in front of a first message
    with_document: float = 0.2
    answer: tuple[float, float] = (300, 0.8)
    turns: float = 6  # mean number of requests of a conversation, at least 1, geometric
    regenerate: float = 0.1  # of requests: the last prompt again
    edit: float = 0.1  # of requests: a past message is changed from a random token on, what followed is dropped
    open_at_once: int = 20  # conversations; each request is of a random one


class Request(NamedTuple):
    """A prompt that ends with the node `prompt`, answered by the node `answer`."""

    prompt: int
    answer: int


class Trace:
    """A tree of runs of tokens, its nodes numbered as they came, and requests in order.

    parent  of each node, -1 for a root
    tokens  of each node
    end     tokens from the root to each node's last one, once the trace is finished
    """

    def __init__(self):
        self.parent: list[int] = []
        self.tokens: list[int] = []
        self.requests: list[Request] = []
        self.end: list[int] = []

    def add(self, parent: int, tokens: int) -> int:
        """A new node behind `parent`; returns its number."""
        self.parent.append(parent)
        self.tokens.append(tokens)
        return len(self.parent) - 1

    def split(self, node: int, at: int) -> int:
        """Cut a node after `at` of its tokens; what follows becomes a node of its own, whose number is returned."""
        rest = self.add(node, self.tokens[node] - at)
        self.tokens[node] = at
        for n in range(rest):
            if self.parent[n] == node:
                self.parent[n] = rest
        self.requests = [r._replace(prompt=rest) if r.prompt == node else r for r in self.requests]
        return rest

    def path(self, node: int) -> list[int]:
        """From the root to the node."""
        found = []
        while node >= 0:
            found.append(node)
            node = self.parent[node]
        return found[::-1]

    def above(self, node: int) -> Iterator[int]:
        """The nodes before this one, up to the root."""
        while (node := self.parent[node]) >= 0:
            yield node

    def start(self, node: int) -> int:
        """Tokens from the root to the node's first one, exclusive."""
        return self.end[node] - self.tokens[node]

    def finish(self) -> "Trace":
        """Fill in `end`; no node may be added or cut after this. Returns the trace."""
        self.end = [sum(self.tokens[m] for m in self.path(n)) for n in range(len(self.parent))]
        return self

    @property
    def prompt_tokens(self) -> int:
        """Of all requests."""
        return sum(self.end[r.prompt] for r in self.requests)


class _Conversation:
    """turns: (the node that a message follows, the last node of the message). The last turn is the open one."""

    def __init__(self, system: int, requests_left: int):
        self.system, self.requests_left = system, requests_left
        self.turns: list[tuple[int, int]] = []
        self.last_answer = system


def draw_trace(requests: int, habits: TalkHabits, rng: np.random.Generator) -> Trace:
    """A trace of `requests` requests, the conversations interleaved. ValueError if there are fewer than 1."""
    if requests < 1:
        raise ValueError(f"requests: expected a number >= 1, got {requests}")
    trace, open_now = Trace(), []
    systems = [trace.add(-1, int(rng.integers(*habits.system_tokens))) for _ in range(habits.systems)]
    weights = 1 / np.arange(1, habits.systems + 1)

    def length(of: tuple[float, float]) -> int:
        return max(1, round(of[0] * np.exp(of[1] * rng.normal())))

    for _ in range(requests):
        while len(open_now) < habits.open_at_once:
            system = systems[rng.choice(habits.systems, p=weights / weights.sum())]
            open_now.append(_Conversation(system, int(rng.geometric(1 / habits.turns))))
        one = open_now[rng.integers(len(open_now))]
        chance = rng.random() if one.turns else 1.0
        if chance < habits.regenerate:
            prompt = one.turns[-1][1]
        elif chance < habits.regenerate + habits.edit:
            turn = int(rng.integers(len(one.turns)))
            after, prompt = _edit(trace, one, turn, length(habits.message), rng)
            one.turns = [*one.turns[:turn], (after, prompt)]
        else:
            tokens = length(habits.message)
            if not one.turns and rng.random() < habits.with_document:
                tokens += length(habits.document)
            prompt = trace.add(one.last_answer, tokens)
            one.turns.append((one.last_answer, prompt))
        one.last_answer = trace.add(prompt, length(habits.answer))
        trace.requests.append(Request(prompt, one.last_answer))
        one.requests_left -= 1
        if one.requests_left == 0:
            open_now.remove(one)
    return trace.finish()


def _edit(trace: Trace, one: _Conversation, turn: int, tokens: int, rng: np.random.Generator) -> tuple[int, int]:
    """The turn's message, kept up to a random token and with new ones after it: (the node it follows, its last)."""
    after, last = one.turns[turn]
    message = trace.path(last)[len(trace.path(after)) :]
    keep = int(rng.integers(sum(trace.tokens[n] for n in message)))
    branch = after
    for node in message:
        if keep < trace.tokens[node]:
            if keep:
                rest = trace.split(node, keep)
                one.turns = [(a, rest if b == node else b) for a, b in one.turns]
                branch = node
            break
        keep, branch = keep - trace.tokens[node], node
    return after, trace.add(branch, tokens)
