"""What was understood of a task's data, and what the grader will do with it, as a table for people.

How to see it: python -m local_eval check --task faces.csv
"""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor

from local_eval.tasks.duplicates import hashes
from local_eval.tasks.task import Task

CLASSES = 20  # lines of classes; more are summed up
COLUMN = 12  # characters
TITLES = 16, 32  # characters of the rows' titles, at least and at most


def overview(task: Task) -> str:
    """Images, sizes, classes, persons, forget share and duplicates of a task, and what comes of them."""
    channels, height, width = task.retain.images.shape[1:]
    size = f"{width}x{height} pixels (width x height)" + ("" if channels == 3 else f" and {channels} channel(s)")
    lines = [f"{task.name}: images of {size}, {task.num_classes} classes", ""]
    lines += _table(task)
    lines += ["", *_duplicates(task), *(f"note: {note}" for note in task.notes), "", *_what_comes(task)]
    return "\n".join(line.rstrip() for line in lines)


def _table(task: Task) -> list[str]:
    splits = task.splits
    rows = [("", list(splits)), ("images", [len(split) for split in splits.values()])]
    rows.append(("persons", [len(split.person_id.unique()) for split in splits.values()]))
    counts = [_counts(split.labels, task.num_classes) for split in splits.values()]
    for label in range(min(CLASSES, task.num_classes)):
        rows.append((_class_title(task, label), [count[label] for count in counts]))
    if task.num_classes > CLASSES:
        rows.append(("other classes", [sum(count[CLASSES:]) for count in counts]))
    width = max(TITLES[0], *(len(title) + 1 for title, _ in rows))
    return [f"  {title:<{width}}" + "".join(f"{value!s:>{COLUMN}}" for value in values) for title, values in rows]


def _class_title(task: Task, label: int) -> str:
    """'class 3', or 'class 3: dog' where classes have names."""
    title = f"class {label}: {task.class_names[label]}" if task.class_names else f"class {label}"
    return title if len(title) <= TITLES[1] else title[: TITLES[1] - 3] + "..."


def _counts(labels: Tensor, classes: int) -> list[int]:
    return torch.bincount(labels, minlength=classes).tolist()


def _duplicates(task: Task) -> list[str]:
    """How many pictures are there twice by their pixels, within each split and between any two."""
    found = {name: hashes(split.images.cpu()) for name, split in task.splits.items()}
    lines = []
    for name, of_split in found.items():
        if again := len(of_split) - len(set(of_split)):
            lines.append(f"duplicates: {again} of the {name} images are there again in {name}")
    for one, other in combinations(found, 2):
        if both := len(set(found[one]) & set(found[other])):
            lines.append(f"duplicates: {both} pictures are in {one} and in {other}")
    return lines or ["duplicates: none, by pixels"]


def _what_comes(task: Task) -> list[str]:
    retain, forget, recipe = len(task.retain), len(task.forget), task.recipe
    share, persons = 100 * forget / (retain + forget), len(task.forget.person_id.unique())
    images = "images" if forget != 1 else "image"
    weights = "weighted by 1 / count of the class" if recipe.class_weighted else "unweighted"
    how = "by the task's own function" if task.train is not None else f"{recipe.in_words()}, loss {weights}"
    original = "comes with the task" if task.original is not None else f"is trained on all {retain + forget}"
    return [
        f"To be forgotten: {forget} {images} of {persons} persons, {share:.1f} % of the training images.",
        f"The original model {original}; oracles are trained on the {retain} retain images alone,",
        f"  {how}.",
        f"The score tells runs from oracles by each of the {forget} forget {images}, and compares accuracies on",
        f"  {retain} retain and {len(task.test)} test images; a submission sees retain, forget and validation.",
        "Its interval is for other draws of runs and oracles; how far other persons would move it is told beside it"
        + (f", from these {persons}." if persons > 1 else ", but needs two of them."),
    ]
