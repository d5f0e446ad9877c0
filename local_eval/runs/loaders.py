"""The loaders that a submission is handed: stock DataLoaders over data that already lies where it is needed.

A batch is the competition's dict: `image` (float32, raw 0-255 pixels unless the task normalises), `image_id`,
`age_group` (the class), `age`, `person_id`. Loaders shuffle with torch's own sampler, so re-wrapping works as usual:
`DataLoader(loader.dataset, batch_size=256, shuffle=True)`.

Images stay uint8 on their device, and a batch is cut out of them in one piece instead of example by example. The stock
DataLoader offers both hooks: `__getitems__` fetches a batch, and collation looks up the type of the first element.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.utils.data import DataLoader, Dataset
from torch.utils.data._utils.collate import default_collate_fn_map  # documented place for one's own types

from local_eval.tasks.task import Split, Task

BATCH_SIZE = 64  # the competition's, for all three loaders


class Examples(Dataset):
    """A split as a map-style dataset of dicts; every access makes fresh tensors."""

    def __init__(self, split: Split):
        self.split = split

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> dict:
        batch = self.batch(torch.tensor([index]))
        return {key: value[0] if key == "image" else value[0].item() for key, value in batch.items()}

    def __getitems__(self, indices: list[int]) -> _Fetched:
        return _Fetched(self, indices)

    def batch(self, index: torch.Tensor) -> dict:
        """The examples at `index` as one batch, on the split's device."""
        split = self.split
        if split.images.is_cuda:
            index = index.pin_memory()  # from ordinary memory the copy would wait for all that the GPU has to do
        index = index.to(split.images.device, non_blocking=True)
        return {
            "image": split.pixels(index),
            "image_id": split.image_id[index],
            "age_group": split.labels[index],
            "age": split.age[index],
            "person_id": split.person_id[index],
        }


class _Example(dict):
    """One example; the type under which collation finds `_collate`."""


class _Fetched(Sequence):
    """Examples asked for together. Collated whole by default, one by one if a submission brings its own collation."""

    def __init__(self, examples: Examples, indices: list[int]):
        self.examples, self.indices = examples, indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, k: int) -> _Example:
        return _Example(self.examples[self.indices[k]])


def _collate(batch, *, collate_fn_map=None) -> dict:
    if isinstance(batch, _Fetched):
        return batch.examples.batch(torch.tensor(batch.indices))
    return torch.utils.data.default_collate([dict(example) for example in batch])


default_collate_fn_map[_Example] = _collate


def make_loader(split: Split, batch_size: int = BATCH_SIZE) -> DataLoader:
    """A shuffled loader over a split, as the competition hands it out."""
    return DataLoader(Examples(split), batch_size=batch_size, shuffle=True)


def make_loaders(task: Task) -> tuple[DataLoader, DataLoader, DataLoader]:
    """The retain, forget and validation loaders of a task, in the order of the submission's arguments."""
    return make_loader(task.retain), make_loader(task.forget), make_loader(task.validation)
