"""Facts that change: conversations of many turns."""

import torch
from torch import Tensor

from reference.tasks._questions import NOT_ASKED, PAD, Questions, check_at_least, some_without_repeats, whole_numbers


class MultiTurn:
    """A conversation: in each turn some names are set to values; then questions about their values now, or in a turn.

    Every turn is the token of its number, then pairs `name value`; or its number stands before each pair. A question is
    `now name`, or `turn-number name` about a fact that was set in that turn; the answer is the value.

    Ids: 0 padding, 1 now, then max_turns turn numbers, n_names names, n_values values. ValueError if one of them is
    below 1.
    """

    def __init__(self, n_names: int = 16, n_values: int = 32, max_turns: int = 16):
        for name, value in (("n_names", n_names), ("n_values", n_values), ("max_turns", max_turns)):
            check_at_least(name, value, 1)
        self.n_names, self.n_values, self.max_turns = n_names, n_values, max_turns
        self.first_name = 2 + max_turns
        self.first_value = self.first_name + n_names
        self.vocab_size = self.first_value + n_values

    def draw(
        self,
        batch_size: int,
        rng: torch.Generator,
        *,
        turns: int,
        sets: int = 2,
        names: int = 4,
        questions: int = 4,
        kind: str = "both",
        numbered: bool = False,
    ) -> Questions:
        """Texts of turns (1 + 2 sets) + 2 questions tokens; numbered, of 3 turns sets + 2 questions.

        turns      at most max_turns
        sets       names that are set in each turn, at most `names`
        names      that occur in one text, at most n_names
        questions  at the end of the text
        kind       of the questions: "now", "then", or "both", one after the other
        numbered   the turn's number before each pair `name value`, and not once a turn
        Raises ValueError.
        """
        check_at_least("turns", turns, 1, self.max_turns)
        check_at_least("names", names, 1, self.n_names)
        check_at_least("sets", sets, 1, names)
        check_at_least("questions", questions, 1)
        if kind not in ("both", "now", "then"):
            raise ValueError(f"kind: expected 'both', 'now' or 'then', got {kind!r}")
        row = torch.arange(batch_size)[:, None]
        cast = some_without_repeats(batch_size, self.n_names, names, rng)
        who = some_without_repeats(batch_size * turns, names, sets, rng).unflatten(0, (batch_size, turns))
        what = whole_numbers(batch_size, turns * sets, self.n_values, rng).unflatten(1, (turns, sets))
        number = (2 + torch.arange(turns)).expand(batch_size, turns)[..., None]
        pair = [self.first_name + cast[row[..., None], who], self.first_value + what]
        if numbered:
            text = torch.stack([number.expand_as(what), *pair], -1)
        else:
            text = torch.cat([number, torch.stack(pair, -1).flatten(2)], 2)
        parts, answers = [text.flatten(1)], []
        now = torch.zeros(batch_size, names, dtype=torch.long)
        for t in range(turns):
            now[row, who[:, t]] = what[:, t]
        for n in range(questions):
            turn, place = whole_numbers(batch_size, 1, turns, rng), whole_numbers(batch_size, 1, sets, rng)
            name = who[row, turn, place]  # [B, 1]: it was set in that turn, so it has a value now, too
            about_now = kind == "now" or (kind == "both" and n % 2 == 0)
            sign = torch.ones_like(turn) if about_now else 2 + turn
            value = now.gather(1, name) if about_now else what[row, turn, place]
            parts += [sign, self.first_name + cast.gather(1, name)]
            answers.append(self.first_value + value)
        ids = torch.cat(parts, 1)
        wanted = torch.full_like(ids, NOT_ASKED)
        wanted[:, ids.shape[1] - 2 * questions + 1 :: 2] = torch.cat(answers, 1)
        return Questions(ids, wanted)

    def chance(self, *, turns: int, sets: int = 2, names: int = 4) -> float:
        """Share of right answers by one of the values that the name ever had, at random; also that of its value now
        where its value then is asked for.

        Of K writes one is right, and of the others 1 / n_values by coincidence. A name that is asked for was set in one
        turn, and in each other turn with probability p = sets / names: E 1/K = (1 - (1 - p)^turns) / (turns p).
        """
        p = sets / names
        right = (1 - (1 - p) ** turns) / (turns * p)
        return right + (1 - right) / self.n_values

    def render(self, ids: Tensor) -> str:
        """One text [T] as words: _ padding, turn1, now, n0 n1 ... names, v0 v1 ... values."""
        words = {PAD: "_", 1: "now"} | {2 + n: f"turn{n + 1}" for n in range(self.max_turns)}
        words |= {self.first_name + n: f"n{n}" for n in range(self.n_names)}
        return " ".join(words.get(i, f"v{i - self.first_value}") for i in ids.tolist())
