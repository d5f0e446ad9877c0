"""A task's own way to train, `Task.train(net, loader, seed)`, in place of the recipe's loop: one network at a time.

The network is the initial one of this seed, in train mode, on the device of the work. The loader gives what submissions
get: shuffled batches as dicts of tensors on that device, `image` (float32, as the network sees it), `age_group` (the
class), `image_id`, `age`, `person_id`; its batch size is the recipe's. torch, numpy and random start from the seed, so
a function that draws from them trains each network the same way every time. It trains the network in place, or returns
the trained one, of the same structure.

How it is used: by Trainer in train_many.py.
"""

from __future__ import annotations

import inspect
import traceback

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from local_eval.engine.device import exact_convolutions
from local_eval.engine.randomness import seeded
from local_eval.tasks.evaluate import initial_net
from local_eval.tasks.names import TaskError
from local_eval.tasks.own_code import Coded
from local_eval.tasks.task import Split, Task


class Rows(Dataset):
    """A split as the competition's data set: examples are dicts. Every access makes fresh tensors."""

    def __init__(self, split: Split):
        self.split = split

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> dict:
        (row,) = self.__getitems__([range(len(self))[index]])  # IndexError past the end, where a loop stops
        return {name: value if name == "image" else value.item() for name, value in row.items()}

    def __getitems__(self, indices: list[int]) -> list[dict[str, Tensor]]:
        """Several at once, cut out of the split in one piece; the loader puts them together again."""
        index, split = torch.tensor(indices, device=self.split.images.device), self.split
        columns = {"image": split.pixels(index), "image_id": split.image_id[index], "age_group": split.labels[index]}
        columns |= {"age": split.age[index], "person_id": split.person_id[index]}
        return [dict(zip(columns, row)) for row in zip(*columns.values())]


def loader_of(examples: Split, batch_size: int, seed: int) -> DataLoader:
    """Shuffled batches of a split, in orders that depend on the seed alone."""
    order = torch.Generator().manual_seed(seed)
    return DataLoader(Rows(examples), batch_size=batch_size, shuffle=True, generator=order)


def trained_by_own(task: Task, examples: Split, seed: int) -> nn.Module:
    """Train a fresh network on `examples` by the task's own function; returns it in eval mode.

    Raises:
        TaskError: the function fails, or gives something else than a trained network of the task.
    """
    device = examples.images.device
    net = initial_net(task, seed).to(device).train()
    shapes = _shapes(net)
    with exact_convolutions(same_shapes=True), seeded(seed, device):
        try:
            found = task.train(net, loader_of(examples, task.recipe.batch_size, seed), seed)
        except Exception as error:  # whatever the owner's code raises
            raise TaskError(f"Task.train failed{_place(error, task)}: {type(error).__name__}: {error}") from error
    net = net if found is None else found
    if not isinstance(net, nn.Module):
        raise TaskError(f"Task.train returned a {type(found).__name__}; let it return the trained network, or nothing")
    if _shapes(net) != shapes:
        raise TaskError("Task.train gave a network of another structure; its state dict must have the same entries")
    return net.to(device).eval()


def _shapes(net: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in net.state_dict().items()}


def _place(error: Exception, task: Task) -> str:
    """' (cells.py, line 40)': the deepest line of the owner's file in a traceback."""
    function = task.train.function if isinstance(task.train, Coded) else task.train
    file = getattr(getattr(inspect.unwrap(function), "__code__", None), "co_filename", None)
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f" ({file}, line {lines[-1]})" if lines else ""
