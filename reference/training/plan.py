"""What a training run is asked for: what decides its weights, and what may differ from one start to the next."""

from dataclasses import dataclass
from pathlib import Path

OLDER_HOLD_OUT = " held out"  # how a checkpoint said so, behind its tokenizer, before Plan had a field for it


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that decides the weights at the end of a run. A checkpoint is resumed under the same plan only.

    data          what `read_documents` takes
    hold_out      whether every 20th document is kept for evaluation
    tokenizer     "bytes", or "bpe:" and the size of its vocabulary
    steps         updates; the learning rate ends its fall with the last
    batch_size    pieces per batch
    length        tokens per piece
    lr            the highest learning rate, reached after warm_up steps
    weight_decay  of matrices
    clip          the largest norm of a gradient
    accumulate    batches per update
    seed          of the weights, and of which pieces make a batch
    dtype         "float32", or "bfloat16" for autocast
    text          a digest of the ids of all texts and of the tokenizer
    """

    data: str
    hold_out: bool
    tokenizer: str
    steps: int
    batch_size: int
    length: int
    lr: float
    warm_up: int
    weight_decay: float
    clip: float
    accumulate: int
    seed: int
    dtype: str
    text: str


def read_plan(run: dict) -> dict:
    """The plan that a checkpoint's state.json holds, in today's fields. Older ones have hold_out in their tokenizer,
    and nothing about the text."""
    if "hold_out" in run:
        return run
    tokenizer = run["tokenizer"]
    return run | {"hold_out": tokenizer.endswith(OLDER_HOLD_OUT), "tokenizer": tokenizer.removesuffix(OLDER_HOLD_OUT)}


@dataclass(frozen=True, kw_only=True)
class Habits:
    """How a run is carried out; may differ from one start to the next.

    out          folder of checkpoints, metrics and the model
    save_every   steps between two checkpoints
    eval_every   steps between two evaluations on the held-out text; 0: only at the end
    resume       whether to continue from the newest checkpoint in out
    parallel     "ddp" or "fsdp", with several processes
    compile      whether the MLPs go through torch.compile
    recompute    whether activations are computed again in the backward pass instead of kept
    tensorboard  whether metrics go to out/tensorboard, too
    """

    out: Path
    save_every: int = 100
    eval_every: int = 0
    resume: bool = True
    parallel: str = "ddp"
    compile: bool = False
    recompute: bool = False
    tensorboard: bool = False
