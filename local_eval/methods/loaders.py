"""The loaders that a submission is handed: stock DataLoaders over data that already lies where it is needed.

A batch is the competition's dict: `image` (float32, raw 0-255 pixels unless the task normalises), `image_id`,
`age_group` (the class), `age`, `person_id`. Loaders shuffle with torch's own sampler, so re-wrapping works as usual:
`DataLoader(loader.dataset, batch_size=256, shuffle=True)`.

What submissions ask of a data set is there as in the competition: `dataset[i]`, `dataset.examples` (rows whose image is
uint8); and, as torchvision's have them, `dataset.targets` and `dataset.transform` (None). Whoever takes the rows into
the hand may change them in a copy of the data set, so from then on its batches are made of them, one by one.

Batches lie where the net does, which saves a copy. On Kaggle they lie on the CPU, and code that counts on that (it pins
batches, makes numpy arrays of them or adds what it has drawn on the CPU) fails on a GPU here unless it is asked for by
`--batches-on cpu`. On a CPU there is no difference.

Images stay uint8 on their device, and a batch is cut out of them in one piece instead of example by example. The stock
DataLoader offers both hooks: `__getitems__` fetches a batch, and collation looks up the type of the first element.
"""

from __future__ import annotations

import linecache
import sys
from collections.abc import Sequence

import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info
from torch.utils.data._utils.collate import default_collate_fn_map

from local_eval.methods.other_projects import KEYS
from local_eval.methods.source import SubmissionError
from local_eval.tasks.task import Split, Task

# documented place for one's own types


BATCH_SIZE = 64  # the competition's, for all three loaders
BATCHES_ON = ("device", "cpu")  # where batches lie: with the net, or as on Kaggle
A_BATCH = (
    "a batch is a dict with image (float32 [B, 3, H, W]), image_id, age_group (the class, int64 [B]), age and person_id"
)
AN_EXAMPLE = (
    "an example of loader.dataset is a dict with image (float32 [3, H, W]), image_id, age_group (the class, an int), "
    "age and person_id"
)
RELABEL = (
    f"which no batch is made of: {A_BATCH}, made of its rows; change rows of a copy: "
    "mine = copy.deepcopy(loader.dataset), mine.examples[i]['age_group'] = label for every i, "
    "and DataLoader(mine, batch_size=64, shuffle=True)"
)
OF_IMAGES = {"data", "images", "imgs", "samples", "tensors"}  # what other data sets call them
OF_PARTS = {"dataset", "indices"}
OF_CLASSES = {"classes", "class_to_idx", "num_classes", "n_classes", "class_names"}
OF_LABELS = {"labels", "targets", "target", "y"}
HEEDED = OF_IMAGES | OF_PARTS | OF_LABELS | {"target_transform", "transforms"}  # elsewhere, by what batches are made of


class NotThere(AttributeError):
    """A data set was asked for what those of other projects have; the message says what this one has instead."""


class _Classes(list):
    """The classes of a data set's examples, in a list of the asker's own."""

    def __setitem__(self, index: object, value: object) -> None:
        """Refused as `loader.dataset.targets[3] = 1`, which would change no batch; a list at hand may be changed."""
        caller = sys._getframe(1)
        line = linecache.getline(caller.f_code.co_filename, caller.f_lineno)
        if ".targets[" in line.replace(" ", ""):
            raise SubmissionError(f"sets loader.dataset.targets, {RELABEL}")
        super().__setitem__(index, value)


class Examples(Dataset):
    """A split as a map-style dataset of dicts; every access makes fresh tensors."""

    def __init__(self, split: Split, home: Split | None = None):
        """`home` is the same split in the computer's memory: a DataLoader's workers cannot use a GPU."""
        self.split, self.home = split, home or split
        self._rows: list[dict] | None = None

    def __len__(self) -> int:
        return len(self.split) if self._rows is None else len(self._rows)

    def __getitem__(self, index: int) -> dict:
        if self._rows is not None:
            row = self._rows[index]
            return row | {"image": self.split.seen(row["image"])}
        index = range(len(self))[index]  # IndexError past the end, where a loop over the data set stops
        # Numbers are read from the computer's memory, since reading them from a GPU waits for all that it has to do,
        # and collation asks for the first example of every batch.
        home = self.home
        columns = (home.image_id, home.labels, home.age, home.person_id)
        return dict(zip(KEYS, (self._here().pixels(slice(index, index + 1))[0], *(c[index].item() for c in columns))))

    @property
    def examples(self) -> list[dict]:
        """The rows: image (uint8 [C, H, W]), image_id, age_group, age, person_id. They may be changed in a copy."""
        if self._rows is None:
            split = self.home  # so that workers can read the rows too
            columns = [split.image_id.tolist(), split.labels.tolist(), split.age.tolist(), split.person_id.tolist()]
            self._rows = [dict(zip(KEYS, row)) for row in zip(split.images, *columns)]
        return self._rows

    def rows_changed(self) -> bool:
        """Were rows of this very data set changed, not of a copy?"""
        if self._rows is None:
            return False
        fresh = Examples(self.split.to("cpu")).examples
        return len(fresh) != len(self._rows) or not all(map(_same_row, fresh, self._rows))

    @examples.setter
    def examples(self, rows: list[dict]) -> None:
        self._rows = rows

    @property
    def targets(self) -> list[int]:
        """The class of every example."""
        return _Classes(self.split.labels.tolist() if self._rows is None else [r["age_group"] for r in self._rows])

    @targets.setter
    def targets(self, value: object) -> None:
        raise SubmissionError(f"sets loader.dataset.targets, {RELABEL}")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every image, without reading one."""
        return tuple(self.split.images.shape[1:])

    @property
    def transform(self) -> None:
        """The competition's data set transforms nothing."""
        return None

    @transform.setter
    def transform(self, value: object) -> None:
        if value is not None:
            raise SubmissionError(
                "sets loader.dataset.transform, which the competition's data set does not heed; transform the batches "
                "in unlearning(), or wrap the data set in one of your own"
            )

    def __getattr__(self, name: str) -> object:
        """Called for what is not there. Raises NotThere, which hasattr() and getattr() with a default take as usual."""
        if name.startswith("__"):
            raise AttributeError(name)
        raise NotThere(f"loader.dataset has no `{name}`; {_instead(name)}", name=name, obj=self)

    def __setattr__(self, name: str, value: object) -> None:
        if name in HEEDED - {"targets"}:
            raise SubmissionError(f"sets loader.dataset.{name}, {RELABEL}")
        super().__setattr__(name, value)

    def __getitems__(self, indices: list[int]) -> _Fetched | list[dict]:
        return _Fetched(self, indices) if self._rows is None else [self[index] for index in indices]

    def _here(self) -> Split:
        """The split where this process can use it."""
        return self.split if get_worker_info() is None else self.home

    def batch(self, index: torch.Tensor) -> dict:
        """The examples at `index` as one batch, on the split's device."""
        split = self._here()
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


def _instead(name: str) -> str:
    """What this data set has for an attribute of others."""
    if name in OF_IMAGES:
        return f"{AN_EXAMPLE}, and loader.dataset.examples is the list of them with uint8 images"
    if name in OF_LABELS:
        return f"the classes of its examples are loader.dataset.targets, a list; {AN_EXAMPLE}"
    if name in OF_CLASSES:
        return f"its classes are the numbers below net(batch['image']).shape[1]; {A_BATCH}"
    if name in OF_PARTS:
        return f"it is no Subset: write Subset(loader.dataset, indices) for a part of it; {AN_EXAMPLE}"
    return f"it has examples, targets, len() and [i]; {AN_EXAMPLE}"


def _same_row(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(one[k], other[k].to(one[k])) if k == "image" else one[k] == other[k] for k in one
    )


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


def make_loader(split: Split, batch_size: int = BATCH_SIZE, home: Split | None = None) -> DataLoader:
    """A shuffled loader over a split, as the competition hands it out; for `home` see Examples."""
    return DataLoader(Examples(split, home), batch_size=batch_size, shuffle=True)


def make_loaders(task: Task, home: Task | None = None) -> tuple[DataLoader, DataLoader, DataLoader]:
    """The retain, forget and validation loaders of a task, in the order of the submission's arguments."""
    names = ("retain", "forget", "validation")
    return tuple(make_loader(task.splits[name], home=home and home.splits[name]) for name in names)


def handed_out(task: Task, device: str, batches_on: str) -> tuple[Task, tuple[DataLoader, DataLoader, DataLoader]]:
    """The loaders that a submission gets, and the task whose splits they are over: on the device, or on the CPU.

    Args:
        task: in the computer's memory.
        batches_on: one of BATCHES_ON.
    """
    handed = task if batches_on == "cpu" else task.to(device)
    return handed, make_loaders(handed, task)
