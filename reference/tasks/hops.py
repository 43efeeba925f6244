"""Multi-hop questions: facts that lead to facts, and what can be said about them without following any."""

import torch
from torch import Tensor

from reference.tasks._questions import NOT_ASKED, PAD, Questions, check_at_least, some_without_repeats, whole_numbers

LINK_MARK = 1  # the id of the mark before each link


class MultiHop:
    """Links `; a b` of several chains a -> b -> c ... in random order, then questions: how many hops, and from where.

    `; c d ; a b ; b c 2x a` asks who stands two links behind a: c. Every link begins with a mark, since a name in the
    middle of a chain occurs twice: without the mark, only the position tells which name of `a b c d` leads to which.
    Ids: 0 padding, 1 the mark, 2 to 1 + max_hops the number of hops, then n_names names. ValueError if max_hops is
    below 1 or there are too few names for one chain.
    """

    def __init__(self, n_names: int = 64, max_hops: int = 4):
        check_at_least("max_hops", max_hops, 1)
        check_at_least("n_names", n_names, max_hops + 1)
        self.n_names, self.max_hops = n_names, max_hops
        self.first_name = 2 + max_hops
        self.vocab_size = self.first_name + n_names

    def draw(
        self,
        batch_size: int,
        rng: torch.Generator,
        *,
        hops: int,
        links: int | None = None,
        chains: int = 4,
        questions: int = 1,
        mixed: bool = False,
        spelled: bool = False,
        layers: int | None = None,
    ) -> Questions:
        """Texts of 3 chains links + 2 questions tokens; spelled, of 3 chains links + (1 + hops) questions.

        hops       that every question asks for, at most max_hops
        links      of each chain; None: as many as hops. With fixed links the text stays the same when hops grow
        chains     as many as there are names for
        questions  each from any name that has so many links behind it; the same may come twice
        mixed      each question asks for 1 to `hops` hops
        spelled    `2x a b`: the names on the way are asked for, and read, one after the other
        layers     None: answers [B, T]. A number: answers [layers, B, T], in row l - 1 the name that l layers can have
                   reached with one hop each, min(hops, l) links on
        Raises ValueError.
        """
        check_at_least("hops", hops, 1, self.max_hops)
        links = hops if links is None else links
        check_at_least("links", links, hops)
        check_at_least("chains", chains, 1, self.n_names // (links + 1))
        check_at_least("questions", questions, 1)
        if layers is not None:
            check_at_least("layers", layers, 1)
        if spelled and (mixed or layers is not None):
            raise ValueError("spelled: expected neither mixed nor layers beside it: every text spells the same steps")
        names = some_without_repeats(batch_size, self.n_names, chains * (links + 1), rng)
        names = self.first_name + names.unflatten(1, (chains, links + 1))
        pairs = torch.stack([torch.full_like(names[:, :, 1:], LINK_MARK), names[:, :, :-1], names[:, :, 1:]], -1)
        order = some_without_repeats(batch_size, chains * links, chains * links, rng)
        text = pairs.flatten(1, 2).gather(1, order[..., None].expand(-1, -1, 3)).flatten(1)
        chain = whole_numbers(batch_size, questions, chains, rng)
        far = 1 + whole_numbers(batch_size, questions, hops, rng) if mixed else torch.full_like(chain, hops)
        start = (torch.rand(batch_size, questions, generator=rng) * (links + 1 - far)).long()
        row = torch.arange(batch_size)[:, None]

        def behind(n: Tensor | int) -> Tensor:
            """The names n links behind the starts: [B, questions]."""
            return names[row, chain, start + n]

        steps = range(hops if spelled else 1)
        question = torch.stack([1 + far, *(behind(n) for n in steps)], -1).flatten(1)
        ids = torch.cat([text, question], 1)
        reached = [far] if layers is None else [far.clamp(max=n + 1) for n in range(layers)]
        answers = []
        for goal in reached:
            said = [behind(n + 1) for n in steps] if spelled else [behind(goal)]
            silent = torch.full_like(chain, NOT_ASKED)
            asked = torch.stack([silent, *said], -1).flatten(1)
            answers.append(torch.cat([torch.full_like(text, NOT_ASKED), asked], 1))
        return Questions(ids, answers[0] if layers is None else torch.stack(answers))

    @staticmethod
    def guesses(*, hops: int, links: int, chains: int) -> dict[str, float]:
        """Share of right answers of whoever follows no link and names, at random, one of the names of this kind.

        "a name" of the text; "a value", which ends a link; "a name that occurs twice", inside a chain; "a name far
        enough in" to be the answer, so many links behind some name. ValueError as of draw.
        """
        check_at_least("hops", hops, 1)
        check_at_least("links", links, hops)
        check_at_least("chains", chains, 1)
        goals = links - hops + 1  # places in a chain where an answer can stand, all equally likely
        twice = 0.0 if links == 1 else (goals - 1) / goals / (chains * (links - 1))
        return {
            "a name": 1 / (chains * (links + 1)),
            "a value": 1 / (chains * links),
            "a name that occurs twice": twice,
            "a name far enough in": 1 / (chains * goals),
        }

    def render(self, ids: Tensor) -> str:
        """One text [T] as words: _ padding, ; the mark before a link, 2x two hops, n0 n1 ... names."""
        words = {PAD: "_", LINK_MARK: ";"} | {1 + n: f"{n}x" for n in range(1, self.max_hops + 1)}
        return " ".join(words.get(i, f"n{i - self.first_name}") for i in ids.tolist())
