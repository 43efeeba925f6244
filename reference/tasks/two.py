"""Two tasks in one model: recall, for which a fixed memory runs out, and parity, which softmax can't track."""

import torch
from torch import Tensor

from reference.tasks._questions import NOT_ASKED, PAD, Questions
from reference.tasks.recall import AssociativeRecall
from reference.tasks.tracking import Parity


class RecallAndParity:
    """Each text is one of the two; ids are AssociativeRecall's, then Parity's but for padding."""

    def __init__(self, n_keys: int = 64, n_values: int = 64):
        self.recall, self.parity = AssociativeRecall(n_keys, n_values), Parity()
        self.shift = self.recall.vocab_size - 1
        self.vocab_size = self.shift + self.parity.vocab_size

    def draw(self, batch_size: int, rng: torch.Generator, *, pairs: int = 0, length: int = 0) -> Questions:
        """pairs: recall with so many; length: parity of so many bits; both: half the batch each."""
        parts = []
        if pairs:
            parts.append(self.recall.draw(batch_size // (2 if length else 1), rng, pairs=pairs))
        if length:
            bits = self.parity.draw(batch_size - (len(parts[0].ids) if parts else 0), rng, length=length)
            answers = torch.where(bits.answers == NOT_ASKED, NOT_ASKED, bits.answers + self.shift)
            parts.append(Questions(bits.ids + self.shift, answers))
        if not parts:
            raise ValueError("pairs, length: expected at least one of them, got neither")
        return batch_together(parts)

    def render(self, ids: Tensor) -> str:
        if int(ids[0]) <= self.shift:
            return self.recall.render(ids)
        return self.parity.render((ids - self.shift).clamp(min=0))


def batch_together(parts: list[Questions]) -> Questions:
    """One batch of several, padded behind to the longest."""
    longest = max(part.ids.shape[1] for part in parts)

    def padded(x: Tensor, value: int) -> Tensor:
        return torch.nn.functional.pad(x, (0, longest - x.shape[1]), value=value)

    ids = torch.cat([padded(part.ids, PAD) for part in parts])
    return Questions(ids, torch.cat([padded(part.answers, NOT_ASKED) for part in parts]))
