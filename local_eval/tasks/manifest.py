"""Your own images: a CSV file says image by image which class and which split it belongs to.

    python -m local_eval grade fanchuan --task manifest:faces.csv               or --task manifest --data-dir faces.csv

    image,label,split,group
    anna/1.png,0,forget,anna
    anna/2.png,0,forget,anna
    ben/1.png,3,retain,ben

`image` is a path relative to the CSV file, `label` a class 0, 1, 2 ..., `split` one of retain, forget, validation and
test. `group` may be left out; images with the same group are one person, who must not be in both retain and forget.
Images are read as RGB, must have one size and are not normalised. Network and recipe are the competition's, with as
many classes as the largest label asks for. `image_id` is the row in the file, `age` repeats the label.
"""

from __future__ import annotations

import os.path
from functools import partial
from pathlib import Path

import torch
from torchvision.models import resnet18

from local_eval.tasks.names import TaskError
from local_eval.tasks.readers.csv_rows import Listed, Row, check_apart, read_rows
from local_eval.tasks.readers.images import read_images
from local_eval.tasks.task import Recipe, Split, Task

SPLITS = ("retain", "forget", "validation", "test")
RECIPE = Recipe(epochs=30, lr=1e-4, weight_decay=5e-3, batch_size=64, class_weighted=True)


def task(where: Path) -> Task:
    """Point it at a CSV file with the columns image, label, split and, if there are persons, group."""
    rows = in_order_of_splits(read_rows(where, ("image", "label", "split")))
    normal = os.path.normpath  # a/../b.png is b.png
    check_apart(Listed(r, normal(r.text("image")), r.text("split"), r.cells.get("group", "")) for r in rows)
    num_classes = classes(rows)
    images = read_images([where.parent / row.text("image") for row in rows], [row.place for row in rows])
    labels = torch.tensor([row.integer("label") for row in rows])
    numbers = torch.tensor([row.number for row in rows])
    everything = Split(images, labels, image_id=numbers, person_id=persons(rows), age=labels)
    sizes = [sum(row.text("split") == name for row in rows) for name in SPLITS]
    ends = torch.tensor(sizes).cumsum(0).tolist()
    splits = {name: everything[end - size : end] for name, size, end in zip(SPLITS, sizes, ends)}
    return Task(
        "manifest", partial(resnet18, num_classes=num_classes), recipe=RECIPE, num_classes=num_classes, **splits
    )


def in_order_of_splits(rows: list[Row]) -> list[Row]:
    """The rows sorted by split, so that each split is one slice; raises TaskError for unknown and empty splits."""
    for row in rows:
        if row.text("split") not in SPLITS:
            raise TaskError(f"{row.place}: split is {row.text('split')!r}; it must be one of {', '.join(SPLITS)}")
    there = {row.text("split") for row in rows}
    for name in SPLITS:
        if name not in there:
            raise TaskError(f"{rows[0].file}: the {name} set is empty; no row has {name} as its split")
    return sorted(rows, key=lambda row: SPLITS.index(row.text("split")))


def classes(rows: list[Row]) -> int:
    """The number of classes, largest label + 1. Raises TaskError if labels are no numbers of classes."""
    last = max(rows, key=lambda row: row.integer("label"))
    label = last.integer("label")
    if label >= len(rows):  # an age or a person's number, more likely than so many classes without images
        raise TaskError(f"{last.place}: label {label} with {len(rows)} images; number the classes 0, 1, 2 ...")
    if label == 0:
        raise TaskError(f"{last.file}: all labels are 0; it takes two classes to tell anything")
    return label + 1


def persons(rows: list[Row]) -> torch.Tensor:
    """int64 [n]: groups numbered as they come; an image without a group is a person of its own."""
    numbers: dict[str | int, int] = {}
    return torch.tensor([numbers.setdefault(row.cells.get("group") or row.number, len(numbers)) for row in rows])
