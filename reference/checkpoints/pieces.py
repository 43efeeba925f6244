"""How tensors of a file are made of our parameters: as views, which load, save and say shapes."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from torch import Tensor

from reference.model.config import HybridConfig


class Pieces(NamedTuple):
    """One tensor of a file, as views into our parameters that lie side by side in it. Views work both ways:
    copying into them loads, joining them saves, and on a model without memory they say which shape is expected."""

    views: tuple[Tensor, ...]
    dim: int = 0  # along which the views follow one another
    shape: tuple[int, ...] | None = None  # the tensor's, where it folds dimensions of the joined views

    @property
    def joined(self) -> list[int]:
        """Shape of the views, put together along dim."""
        shape = list(self.views[0].shape)
        shape[self.dim] = sum(view.shape[self.dim] for view in self.views)
        return shape

    @property
    def file_shape(self) -> list[int]:
        """Shape of the tensor in the file."""
        return self.joined if self.shape is None else list(self.shape)


TensorPlan = dict[str, Pieces]  # by name in the file
BlockTensors = Mapping[str, Tensor]  # tensors of one block, by our names inside it
# Shape of the file's tensor of that name inside the block; None where there is no file yet, or no such tensor.
ShapeInFile = Callable[[str], list[int] | None]


class Layout(NamedTuple):
    """Tensors of a block that are not one to one with the file's.

    ours  our names inside the block; the layout speaks for blocks that have all of them
    plan  (those tensors, the config, shapes in the file) -> the file's tensors, by their names inside the block
    """

    ours: tuple[str, ...]
    plan: Callable[[BlockTensors, HybridConfig, ShapeInFile], TensorPlan]
