"""From a person's list of images to a task: paths, classes and persons as people write them, read and checked.

How it is used: manifest.py and folder.py make `Example`s, and `own_task` the task.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torchvision.models import resnet18

from local_eval.tasks.data.images import hashes, read_images, twins
from local_eval.tasks.data.tables import TOLD, Faults
from local_eval.tasks.names import SPLITS, TaskError
from local_eval.tasks.recipe import Recipe
from local_eval.tasks.task import Split, Task

# Classes and persons as people write them: numbers or words, and what must not pass as either.


MISSING = {"nan", "null", "n/a", "<na>", "?", "-", "#n/a", "none", "unknown"}  # how tables write that nobody knows
SHOWN = 12  # classes in a note


def class_numbers(labels: Sequence[str], places: Sequence[str], source: Path) -> tuple[dict[str, int], list[str]]:
    """The class 0, 1, 2 ... of every label, and notes that say how labels were read if they were not 0, 1, 2 ...

    All labels are integers >= 0, numbered in their order, or all are words, numbered by the alphabet.

    Raises:
        TaskError: neither, a single class, or so many that they can be no classes.
    """
    faults = Faults(source)
    words = 2 * sum(label.isdecimal() for label in labels) < len(labels)
    for label, place in zip(labels, places):
        with faults.collecting():
            _check_label(label, place, words, len(labels))
    faults.tell()
    distinct = sorted(set(labels)) if words else sorted(set(labels), key=int)
    _check_spelling(distinct, places, labels, "labels")
    values = distinct if words else sorted({int(label) for label in distinct})
    if len(values) < 2:
        raise TaskError(f"{source}: all labels are {values[0]}; it takes two classes to tell anything")
    if 2 * len(values) > len(labels):
        raise TaskError(
            f"{source}: {len(values)} different labels with {len(labels)} images; these look like names, not classes"
        )
    number = {value: k for k, value in enumerate(values)}
    notes = [] if values == list(range(len(values))) else [_mapping(values)]
    return {label: number[label if words else int(label)] for label in distinct}, notes


def _check_label(label: str, place: str, words: bool, count: int) -> None:
    if not words and not label.isdecimal():
        raise TaskError(f"{place}: label is {label!r}, not an integer >= 0 as others are; use numbers or words for all")
    if not words and (len(label) > 18 or int(label) >= count):  # an age or a person's number, more likely than classes
        kind = (
            f"label {label} with {count} images" if len(label) <= 18 else f"label is {label!r}, not an integer so low"
        )
        raise TaskError(f"{place}: {kind}; number the classes 0, 1, 2 ...")
    if words and (_is_number(label) or label.lower() in MISSING - {"none", "unknown"} or label == "NA"):
        remedy = f"write {label.partition('.')[0]}" if re.fullmatch(r"\d+\.0*", label) else "use one kind for all"
        raise TaskError(f"{place}: label is {label!r}, not an integer >= 0 and not a word; {remedy}")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _mapping(values: Sequence[str | int]) -> str:
    shown = ", ".join(f"{value} -> {k}" for k, value in enumerate(values[:SHOWN]))
    return f"labels are read as classes: {shown}" + (f", and so on to {len(values) - 1}" * (len(values) > SHOWN))


def check_groups(groups: Sequence[str], places: Sequence[str], source: Path) -> None:
    """Raise TaskError for names of persons that mean that nobody knows, or that differ in their spelling only."""
    faults = Faults(source)
    for group, place in zip(groups, places):
        if group.lower() in MISSING or group == "NA":
            faults.add([f"{place}: group is {group!r}; leave the cell empty where the person is not known"])
    faults.tell()
    _check_spelling(sorted(set(groups) - {""}), places, groups, "groups")


def _check_spelling(distinct: Sequence[str], places: Sequence[str], values: Sequence[str], what: str) -> None:
    """Raise TaskError if two names differ in their spelling only: one person would be two."""
    seen: dict[str, str] = {}
    for name in distinct:
        first = seen.setdefault(_plain(name), name)
        if first != name and not (what == "labels" and name.isdecimal()):  # 01 and 1 are one number
            place = places[values.index(name)]
            raise TaskError(
                f"{place}: the {what} {first!r} and {name!r} differ in case, spaces, zeros or in how letters are "
                "stored only; write them one way"
            )


def _plain(name: str) -> str:
    """A name without what two spellings of one name differ in; 7, 07 and a spreadsheet's 7.0 are the same."""
    plain = "".join(unicodedata.normalize("NFKC", name).casefold().split())
    whole, _, fraction = plain.partition(".")
    if whole.isdecimal() and not fraction.strip("0") and len(whole) < 4000:
        return str(int(whole))
    return unicodedata.normalize("NFKC", plain)


# Where a person's table says that the images are: relative to the table or to the current folder, in any notation.
#
# Backslashes, ~ and both forms of accented letters (a Mac's file names, a table's text) are understood if the file is
# there under that name; the text as it is written comes first.


def find_files(texts: Sequence[str], places: Sequence[str], table: Path) -> tuple[list[Path], list[str]]:
    """The path of every image as written, and notes. A path that leads nowhere is returned relative to the table.

    Paths are relative to the table's folder. Only if not one is found there, they are to the current folder.

    Raises:
        TaskError: some relative paths are found beside the table, and others only in the current folder.
    """
    here = [_find(text, table.parent) for text in texts]
    if all(here):
        return here, []
    there = [_find(text, Path.cwd()) if file is None else None for text, file in zip(texts, here)]
    relative = [file for text, file in zip(texts, here) if not _is_absolute(text)]
    if any(there) and not any(relative):
        files = [one or other or Path.cwd() / text for text, one, other in zip(texts, here, there)]
        return files, ["image paths are relative to the current folder, not to the table"]
    faults = Faults(table)
    for text, place, file in zip(texts, places, there):
        if file:
            faults.add([f"{place}: image {text} is in the current folder, others are beside the table; move it there"])
    faults.tell()
    return [file or table.parent / text for text, file in zip(texts, here)], []


def shown(file: Path, folder: Path) -> str:
    """A path without detours: relative to a folder if it lies in it."""
    whole, base = os.path.abspath(file), os.path.abspath(folder)
    return os.path.relpath(whole, base) if whole.startswith(base.rstrip(os.sep) + os.sep) else whole


def _is_absolute(text: str) -> bool:
    return os.path.isabs(text) or text.startswith("~")


def _find(text: str, folder: Path) -> Path | None:
    """The first reading of a text that is there."""
    forms = (text, text.replace("\\", "/"))
    forms += tuple(unicodedata.normalize(form, text) for text in forms for form in ("NFC", "NFD"))
    for form in dict.fromkeys(forms):
        for name in (form, os.path.expanduser(form)):
            if os.path.lexists(file := folder / name):
                return file
    return None


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
