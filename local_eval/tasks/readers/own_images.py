"""From a person's list of images to a task: everything is read and checked, and what was understood is noted.

How it is used: manifest.py and folder.py make `Example`s, and `own_task` the task.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torchvision.models import resnet18

from local_eval.tasks.duplicates import hashes, twins
from local_eval.tasks.names import SPLITS, TaskError
from local_eval.tasks.readers.faults import TOLD, Faults
from local_eval.tasks.readers.images import read_images
from local_eval.tasks.readers.own_labels import check_groups, class_numbers
from local_eval.tasks.task import Recipe, Split, Task

RECIPE = Recipe(epochs=30, lr=1e-4, weight_decay=5e-3, batch_size=64, class_weighted=True)


@dataclass(frozen=True)
class Example:
    """An image with all that is said of it."""

    place: str  # for messages: "faces.csv, row 7"
    short: str  # the same without the source: "row 7"
    file: Path
    split: str
    label: str
    group: str  # empty if nobody is named
    number: int  # `image_id`


def own_task(name: str, source: Path, examples: Sequence[Example], faults: Faults, notes: Sequence[str]) -> Task:
    """The task of these examples; `faults` are those found so far, which are told together with what is found here.

    Raises:
        TaskError: the first ten faults.
    """
    examples = sorted(examples, key=lambda one: SPLITS.index(one.split))  # each split is then one slice
    numbers, more = {}, []
    places = [one.place for one in examples]
    with faults.collecting():
        numbers, more = class_numbers([one.label for one in examples], places, source)
    with faults.collecting():
        check_groups([one.group for one in examples], places, source)
    if not faults.messages:
        for split in sorted(set(SPLITS) - {one.split for one in examples}, key=SPLITS.index):
            faults.add([f"{source}: the {split} set is empty; no {_unit(name)} has {split} as its split"])
    images = None
    if len(faults.messages) < TOLD:
        with faults.collecting():
            images = read_images([one.file for one in examples], places, source=source)
    if images is not None:
        faults.add(_seen_by_both(examples, images, source))
    faults.tell()
    labels = torch.tensor([numbers[one.label] for one in examples])
    ids = torch.tensor([one.number for one in examples])
    everything = Split(images, labels, image_id=ids, person_id=_persons(examples), age=labels)
    notes = (*notes, *more, *_remarks(examples))
    classes = max(numbers.values()) + 1
    net = partial(resnet18, num_classes=classes)
    more = {"class_names": _class_names(numbers), "notes": notes} | _slices(everything, examples)
    return Task(name, net, recipe=RECIPE, num_classes=classes, **more)


def _class_names(numbers: dict[str, int]) -> tuple[str, ...]:
    """What the source calls the classes, in their order; () if these are their numbers."""
    names = {number: label for label, number in numbers.items()}
    found = tuple(names[number] for number in sorted(names))
    return () if all(name.isdecimal() and int(name) == number for number, name in enumerate(found)) else found


def _unit(name: str) -> str:
    return "row" if name == "manifest" else "image"


def _slices(everything: Split, examples: Sequence[Example]) -> dict[str, Split]:
    sizes = [sum(one.split == name for one in examples) for name in SPLITS]
    ends = torch.tensor(sizes).cumsum(0).tolist()
    return {name: everything[end - size : end] for name, size, end in zip(SPLITS, sizes, ends)}


def _persons(examples: Sequence[Example]) -> Tensor:
    """int64 [n]: groups numbered as they come; an image without a group is a person of its own."""
    numbers: dict[str | int, int] = {}
    return torch.tensor([numbers.setdefault(one.group or one.number, len(numbers)) for one in examples])


def _seen_by_both(examples: Sequence[Example], images: Tensor, source: Path) -> list[str]:
    """A message for every picture of the retain set that is in the forget set too."""
    count = sum(one.split in ("retain", "forget") for one in examples)  # they come first
    found = []
    for group in twins(hashes(images[:count])):
        one = examples[group[0]]
        other = next((examples[k] for k in group if examples[k].split != one.split), None)
        if other is not None and os.path.abspath(other.file) != os.path.abspath(one.file):  # that is told by its name
            found.append(
                f"{source}: {one.short} ({one.split}) and {other.short} ({other.split}) hold the same pixels; oracles "
                "would see what is to be forgotten: leave one out"
            )
    return found


def _remarks(examples: Sequence[Example]) -> list[str]:
    """What is allowed, and yet seldom meant."""
    remarks = []
    classes = {name: Counter(one.label for one in examples if one.split == name) for name in SPLITS}
    for name, found in classes.items():
        if len(found) == 1:
            remarks.append(f"the {name} set has a single class, {next(iter(found))}")
        if found.total() == 1:
            remarks.append(f"the {name} set has a single image")
    if unseen := sorted((set(classes["validation"]) | set(classes["test"])) - set(classes["retain"])):
        remarks.append(f"no retain image is of class {', '.join(unseen[:8])}, so oracles cannot know it")
    without = sum(not one.group for one in examples)
    if 0 < without < len(examples):
        remarks.append(f"{without} images have no group; each of them counts as a person of its own")
    return remarks


def check_split_name(text: str, place: str) -> str:
    """The split that a text names, in any case; raises TaskError with the nearest one."""
    if (name := text.lower()) in SPLITS:
        return name
    meant = {"val": "validation", "valid": "validation", "unlearn": "forget", "keep": "retain"}.get(name)
    advice = f"; write {meant} if that is meant" if meant else ""
    raise TaskError(f"{place}: split is {text!r}; it must be one of {', '.join(SPLITS)}{advice}")
