"""A store of cached prefixes with a memory budget: where snapshots are taken, what is held, what goes first.

It holds no tensors: tokens and bytes are counted. A position is (node of the trace, tokens from the root), a place in
some prompt or answer up to which the cache is kept.
"""

from bisect import insort
from collections import OrderedDict
from typing import NamedTuple

from reference.experiments.untrained.requests import Request, Trace

PAGE = 64  # tokens of a softmax cache that are given up at a time
Position = tuple[int, int]  # (node, tokens from the root)


class Policy(NamedTuple):
    """Where snapshots are taken.

    every        tokens between snapshots; 0: none of these
    before_last  one this many tokens before a prompt's end, and with `answers` before an answer's last token; None: no
    answers      in answers, too
    branches     also where a prompt is seen to leave what was seen before
    whole        each snapshot holds keys and values of its own; else prompts share those of common tokens
    """

    every: int = 0
    before_last: int | None = None
    answers: bool = True
    branches: bool = False
    whole: bool = False

    def grid(self, begin: int, stop: int) -> set[int]:
        """The multiples of `every` above begin, up to stop."""
        return set(range((begin // self.every + 1) * self.every, stop + 1, self.every)) if self.every else set()


POLICIES = {
    **{f"grid_{N}": Policy(N) for N in (64, 256, 1024, 4096)},
    "ends": Policy(before_last=1),
    "ends_branches": Policy(before_last=1, branches=True),
    "prefix_cache": Policy(256, before_last=0, answers=False, whole=True),
}
CUT_ANYWHERE = Policy(PAGE, before_last=1)  # with states of no bytes: positions are then pages of keys and values


class HeldTokens:
    """Which tokens of a trace some position needs: all from the root up to it. Tokens that several positions need are
    counted once.

    tokens  how many there are now
    """

    def __init__(self, trace: Trace):
        self.trace, self.tokens = trace, 0
        self._inside: dict[int, list[int]] = {}  # node -> positions in it, as tokens from the root, ascending
        self._beneath: dict[int, int] = {}  # node -> number of positions in nodes that follow it
        self._needed: dict[int, int] = {}  # node -> tokens of it that are needed

    def inside(self, node: int) -> list[int]:
        """The positions in a node, as tokens from the root, ascending."""
        return self._inside.get(node, [])

    def of_node(self, node: int) -> int:
        """Tokens of one node that are needed."""
        return self._needed.get(node, 0)

    def add(self, position: Position) -> None:
        """A position comes."""
        node, x = position
        insort(self._inside.setdefault(node, []), x)
        self._count(node, +1)

    def remove(self, position: Position) -> None:
        """A position goes."""
        node, x = position
        self._inside[node].remove(x)
        self._count(node, -1)

    def _count(self, node: int, change: int) -> None:
        """Bring the counts up to date after a change of the positions in a node."""
        self._count_needed(node)
        for above in self.trace.above(node):
            before = self._beneath.get(above, 0)
            self._beneath[above] = before + change
            if before == 0 or before + change == 0:
                self._count_needed(above)

    def _count_needed(self, node: int) -> None:
        """All tokens of a node are needed if a position follows it, else those up to the last position in it."""
        if self._beneath.get(node, 0):
            needed = self.trace.tokens[node]
        else:
            here = self.inside(node)
            needed = here[-1] - self.trace.start(node) if here else 0
        self.tokens += needed - self.of_node(node)
        self._needed[node] = needed


class Store:
    """Positions of a trace whose caches are kept, least recently used out first.

    token_bytes  of one token's keys and values
    state_bytes  of one snapshot's states; 0: an all-softmax model, whose cache can be cut at any token
    budget       bytes that are held at most
    bytes        that are held now; most_bytes, most_kept: the most bytes and positions so far
    """

    def __init__(self, trace: Trace, policy: Policy, token_bytes: int, state_bytes: int, budget: float):
        self.trace, self.policy, self.budget = trace, policy, budget
        self.token_bytes, self.state_bytes = token_bytes, state_bytes
        self.kept: OrderedDict[Position, None] = OrderedDict()  # oldest first
        self.held = HeldTokens(trace)
        self.whole_tokens = 0  # of all kept prefixes, common tokens counted each time
        self.read_up_to: dict[int, int] = {}  # node -> the last position in it that was ever read
        self.most_bytes = self.most_kept = 0

    @property
    def bytes(self) -> int:
        """States and tokens that are held now."""
        tokens = self.whole_tokens if self.policy.whole else self.held.tokens
        return self.state_bytes * len(self.kept) + self.token_bytes * tokens

    def request(self, request: Request) -> int:
        """Prompt and answer pass through; returns the tokens of the prompt that were computed."""
        trace, policy = self.trace, self.policy
        path, L = trace.path(request.prompt), trace.end[request.prompt]
        begin = self._longest(path, L - 1)
        wanted = policy.grid(begin, L)
        if policy.before_last is not None:
            wanted.add(L - policy.before_last)
        junction = max((self.read_up_to[n] for n in path if n in self.read_up_to), default=0)
        if policy.branches and begin < junction < L:
            wanted.add(junction)
        stop = L
        if policy.answers:
            path, stop = [*path, request.answer], trace.end[request.answer] - 1  # an answer's last token is not read
            wanted |= policy.grid(L, stop)
            if policy.before_last is not None:
                wanted.add(stop)
        self._keep_all(path, sorted(x for x in wanted if begin < x <= stop))
        for n in path:
            self.read_up_to[n] = max(self.read_up_to.get(n, 0), min(trace.end[n], stop))
        return L - begin

    def _longest(self, path: list[int], limit: int) -> int:
        """The tokens up to `limit` that need not be computed: up to the last state kept on the path, which counts as
        used; without states, all that is held."""
        for n in reversed(path):
            if not self.state_bytes:
                if self.held.of_node(n):
                    return min(self.trace.start(n) + self.held.of_node(n), limit)
                continue
            here = [x for x in self.held.inside(n) if x <= limit]
            if here:
                self.kept.move_to_end((n, here[-1]))
                return here[-1]
        return 0

    def _keep_all(self, path: list[int], positions: list[int]) -> None:
        """Keep what fits, the first position first; the oldest go."""
        node = 0
        for x in positions:
            while self.trace.end[path[node]] < x:
                node += 1
            if self.policy.whole and self.state_bytes + self.token_bytes * x > self.budget:
                continue
            self._keep((path[node], x))
            if self.state_bytes:
                self._evict()
        if not self.state_bytes:  # all pages of the path were read: the nearer to the root, the later they go
            for n in reversed(path):
                for x in reversed(self.held.inside(n)):
                    self.kept.move_to_end((n, x))
            self._evict()

    def _keep(self, position: Position) -> None:
        """Keep a position as the one used last."""
        if position not in self.kept:
            self.held.add(position)
            self.whole_tokens += position[1]
        self.kept[position] = None
        self.kept.move_to_end(position)

    def _evict(self) -> None:
        """Give up the oldest positions until the rest fits."""
        while self.bytes > self.budget:
            position, _ = self.kept.popitem(last=False)
            self.held.remove(position)
            self.whole_tokens -= position[1]
        self.most_bytes = max(self.most_bytes, self.bytes)
        self.most_kept = max(self.most_kept, len(self.kept))
