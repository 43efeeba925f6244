"""Facts that lean on other facts, and facts that change: multi-hop chains and conversations of many turns."""

import torch
from torch import Tensor

from reference.tasks._questions import NOT_ASKED, PAD, Questions, check_at_least, some_without_repeats, whole_numbers


class MultiHop:
    """Links a b, b c, ... of several chains in random order, then `? a` and how many hops to follow.

    Ids: 0 padding, 1 the question mark, 2 to 1 + max_hops the number of hops, then n_names names. One question per
    text; the answer is the name that many links on.
    """

    def __init__(self, n_names: int = 64, max_hops: int = 4):
        check_at_least("max_hops", max_hops, 1)
        check_at_least("n_names", n_names, max_hops + 1)
        self.n_names, self.max_hops = n_names, max_hops
        self.vocab_size = 2 + max_hops + n_names

    def draw(self, batch_size: int, rng: torch.Generator, *, hops: int, chains: int = 4) -> Questions:
        check_at_least("hops", hops, 1, self.max_hops)
        check_at_least("chains", chains, 1, self.n_names // (hops + 1))
        first = 2 + self.max_hops
        names = some_without_repeats(batch_size, self.n_names, chains * (hops + 1), rng).unflatten(
            1, (chains, hops + 1)
        )
        links = torch.stack([names[:, :, :-1], names[:, :, 1:]], -1).flatten(1, 2)  # [B, chains * hops, 2]
        order = some_without_repeats(batch_size, chains * hops, chains * hops, rng)
        text = first + links.gather(1, order[..., None].expand(-1, -1, 2)).flatten(1)
        chain = whole_numbers(batch_size, 1, chains, rng)
        ends = names[torch.arange(batch_size)[:, None], chain]  # [B, 1, hops + 1]
        question = [torch.ones_like(chain), torch.full_like(chain, 1 + hops), first + ends[:, :, 0]]
        answers = torch.full((batch_size, text.shape[1] + 3), NOT_ASKED)
        answers[:, -1:] = first + ends[:, :, -1]
        return Questions(torch.cat([text, *question], 1), answers)

    def render(self, ids: Tensor) -> str:
        first = 2 + self.max_hops
        return " ".join(
            "_" if i == PAD else "?" if i == 1 else f"{i - 1}x" if i < first else f"n{i - first}" for i in ids.tolist()
        )


class MultiTurn:
    """A conversation: in each turn some names are set to values; then `now` or `then, in turn n` questions about them.

    Every turn is the token of its number, then `sets` pairs `name value`. At the end, `questions` questions, half of
    them `now name`, half of them `turn-number name` about a fact set in that turn.
    Ids: 0 padding, 1 now, then max_turns turn numbers, n_names names, n_values values.
    """

    def __init__(self, n_names: int = 16, n_values: int = 32, max_turns: int = 16):
        for name, value in (("n_names", n_names), ("n_values", n_values), ("max_turns", max_turns)):
            check_at_least(name, value, 1)
        self.n_names, self.n_values, self.max_turns = n_names, n_values, max_turns
        self.first_name = 2 + max_turns
        self.first_value = self.first_name + n_names
        self.vocab_size = self.first_value + n_values

    def draw(
        self, batch_size: int, rng: torch.Generator, *, turns: int, sets: int = 2, names: int = 4, questions: int = 4
    ) -> Questions:
        check_at_least("turns", turns, 1, self.max_turns)
        check_at_least("names", names, 1, self.n_names)
        check_at_least("sets", sets, 1, names)
        check_at_least("questions", questions, 2)
        row = torch.arange(batch_size)[:, None]
        cast = some_without_repeats(batch_size, self.n_names, names, rng)
        who = torch.stack(
            [some_without_repeats(batch_size, names, sets, rng) for _ in range(turns)], 1
        )  # [B, turns, sets]
        what = whole_numbers(batch_size, turns * sets, self.n_values, rng).unflatten(1, (turns, sets))
        number = (2 + torch.arange(turns)).expand(batch_size, turns)[..., None]
        facts = torch.stack([self.first_name + cast[row[..., None], who], self.first_value + what], -1).flatten(2)
        parts, answers = [torch.cat([number, facts], 2).flatten(1)], []
        now, last = torch.zeros(batch_size, names, dtype=torch.long), torch.zeros(batch_size, names, dtype=torch.bool)
        for t in range(turns):
            now[row, who[:, t]], last[row, who[:, t]] = what[:, t], True
        for n in range(questions):
            turn, place = whole_numbers(batch_size, 1, turns, rng), whole_numbers(batch_size, 1, sets, rng)
            name = who[row, turn, place]  # [B, 1]: it was set in that turn, so it is known now as well
            sign = torch.ones_like(turn) if n % 2 == 0 else 2 + turn
            value = now.gather(1, name) if n % 2 == 0 else what[row, turn, place]
            parts += [sign, self.first_name + cast.gather(1, name)]
            answers.append(self.first_value + value)
        ids = torch.cat(parts, 1)
        wanted = torch.full_like(ids, NOT_ASKED)
        wanted[:, ids.shape[1] - 2 * questions + 1 :: 2] = torch.cat(answers, 1)
        return Questions(ids, wanted)

    def render(self, ids: Tensor) -> str:
        words = {PAD: "_", 1: "now"} | {2 + n: f"turn{n + 1}" for n in range(self.max_turns)}
        words |= {self.first_name + n: f"n{n}" for n in range(self.n_names)}
        return " ".join(words.get(i, f"v{i - self.first_value}") for i in ids.tolist())
