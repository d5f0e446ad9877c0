"""CASIA-SURF as the official grader reads it: the order, the shuffle, the cuts and the forgotten persons are its own.

Only the pixels may differ in places: the organisers pinned torch 1.12, and the Resize of its torchvision did not
antialias tensors, as today's does.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from local_eval.tasks.data.images import read_images
from local_eval.tasks.names import TaskError
from local_eval.tasks.task import Split

PEOPLE = "Age_Gender.txt"
AGE_GROUPS = 10
SIDE = 32  # pixels
SHUFFLE_SEED = 43
FORGOTTEN = 15  # persons


@dataclass(frozen=True)
class Person:
    """One line of Age_Gender.txt."""

    number: int  # place among the sorted ids
    age: int
    age_group: int


def splits(where: Path) -> dict[str, Split]:
    """The four splits by name; images uint8 [n, 3, 32, 32], `image_id` is the place in the sorted list of files.

    Raises:
        TaskError: a line of Age_Gender.txt or an image cannot be used, or there are too few persons.
    """
    people = read_people(where / PEOPLE)
    files = list(enumerate(color_images(where / "WBackground", people)))
    random.Random(SHUFFLE_SEED).shuffle(files)
    train, held_out = files[: (cut := int(0.8 * len(files)))], files[cut:]
    numbers = sorted({people[person_of(file)].number for _, file in train})
    if len(numbers) <= FORGOTTEN:
        raise TaskError(
            f"{where}: {len(numbers)} persons in the training part, of which {FORGOTTEN} are to be forgotten"
        )
    leaving = set(numbers[:FORGOTTEN])
    retain = [k for k in train if people[person_of(k[1])].number not in leaving]
    forget = [k for k in train if people[person_of(k[1])].number in leaving]
    everything = read_split(retain + forget + held_out, people)
    ends = np.cumsum([0, len(retain), len(forget), int(0.9 * len(files)) - cut]).tolist() + [None]
    names = ("retain", "forget", "validation", "test")
    return {name: everything[start:end] for name, start, end in zip(names, ends, ends[1:])}


def read_people(file: Path) -> dict[str, Person]:
    """Everybody in Age_Gender.txt by id, with ten age groups of equal width; raises TaskError with the line."""
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise TaskError(f"{file} cannot be read ({error.strerror})") from error
    ages: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        cells = line.split()
        if not cells:
            continue
        if len(cells) != 3 or not cells[1].isdecimal():
            raise TaskError(f"{file}, line {number}: {line!r} is not 'ID AGE GENDER' with an age in whole years")
        if cells[0] in ages:
            raise TaskError(f"{file}, line {number}: the id {cells[0]} is there twice")
        ages[cells[0]] = int(cells[1])
    if not ages:
        raise TaskError(f"{file} lists nobody")
    edges = np.linspace(min(ages.values()), max(ages.values()) + 1, AGE_GROUPS + 1)
    numbers = {who: k for k, who in enumerate(sorted(ages))}
    return {who: Person(numbers[who], age, int(np.digitize(age, edges)) - 1) for who, age in ages.items()}


def color_images(folder: Path, people: dict[str, Person]) -> list[Path]:
    """All images: person folders sorted by path, then each one's images sorted by path, as strings."""
    files = []
    for person in sorted(folder.glob("*/*"), key=Path.as_posix):
        found = sorted((person / "real.rssdk" / "color").glob("[!.]*.jpg"), key=Path.as_posix)  # no ._0001.jpg of a Mac
        if found and person.name not in people:
            raise TaskError(f"{person} has images, but the id {person.name} is not in {folder.parent / PEOPLE}")
        files += found
    if not files:
        raise TaskError(f"no images in {folder}; they are expected as <part>/<ID>/real.rssdk/color/*.jpg")
    return files


def person_of(file: Path) -> str:
    """The id in .../<ID>/real.rssdk/color/0001.jpg."""
    return file.parents[2].name


def read_split(files: list[tuple[int, Path]], people: dict[str, Person]) -> Split:
    """Read numbered files into one Split, in their order."""
    who = [people[person_of(file)] for _, file in files]
    return Split(
        images=read_images([file for _, file in files], resize=(SIDE, SIDE), upright=False),
        labels=torch.tensor([person.age_group for person in who]),
        image_id=torch.tensor([number for number, _ in files]),
        person_id=torch.tensor([person.number for person in who]),
        age=torch.tensor([person.age for person in who]),
    )
