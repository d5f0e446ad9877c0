"""Choose another forget set from a task's training examples: --forget, or forget='...' in a task's spec.

    random:7       as many persons of every class as the task forgets, drawn by this seed
    class:3        a whole class, by number or name
    person:17      a person, or several: person:17,20
    ids.csv        the examples, or persons, in a table with a column image_id, or person_id; or one image_id a line

What was to be forgotten and is not chosen goes back to the retain set. The training examples are the same as a whole,
so the task's original model stays; its oracles are of its own forget set, and are trained anew.

How to see one: python -m local_eval check --task "digits[forget='random:7']"
"""

from __future__ import annotations

import csv
import random
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from local_eval.store.errors import many
from local_eval.store.files import user_path
from local_eval.tasks.names import CHOICES, RANKED, TaskError, nearest
from local_eval.tasks.task import Split, Task

COLUMNS = ("image_id", "person_id")  # by which a table names examples; the first that it has
FEW = 5  # numbers in a message


def with_forget_set(task: Task, choice: str) -> Task:
    """The task with another forget set, without the oracles that come with it.

    Raises:
        TaskError: nothing is chosen, all is, or what is named is not among the training examples.
    """
    training = task.retain + task.forget
    chosen = _chosen(task, training, str(choice))
    count = int(chosen.sum())
    if not 0 < count < len(training):
        what = "none" if count == 0 else "all"
        raise TaskError(f"--forget {choice} chooses {what} of the {len(training)} training examples; choose some")
    retain, forget = (training[torch.nonzero(part).flatten()] for part in (~chosen, chosen))
    persons, name = len(forget.person_id.unique()), Path(choice).name
    note = f"--forget {name}: {many(count, 'example')} of {many(persons, 'person')}, in place of {len(task.forget)}"
    if task.oracles is not None:
        note += "; the oracles that the task brings along do not fit, and are trained"
    return replace(task, retain=retain, forget=forget, oracles=None, notes=(*task.notes, note))


def _chosen(task: Task, training: Split, choice: str) -> Tensor:
    """bool [n]: which training examples are to be forgotten."""
    kind, colon, what = choice.partition(":")
    if choice in RANKED:
        raise TaskError(f"forget={choice!r} is measured first, by --forget {choice} on the command line; give its file")
    if colon and kind in CHOICES:
        return {"random": _drawn, "class": _of_class, "person": _of_persons}[kind](task, training, what)
    path = user_path(choice)
    if not path.is_file():
        known = (*RANKED, *(f"{one}:..." for one in CHOICES))
        raise TaskError(f"--forget {choice}: there is no such file{nearest(choice, known)}")
    return _listed(task, training, path)


def _drawn(task: Task, training: Split, seed: str) -> Tensor:
    """As many persons of each class as now; a person's class is that of its first example."""
    if not seed.isdecimal():
        raise TaskError(f"--forget random:{seed}: give a seed, such as random:7")
    classes = _classes_of_persons(training)
    leaving = [classes[person] for person in task.forget.person_id.unique().tolist()]
    draw, persons = random.Random(f"forget {int(seed)}"), []
    for label in sorted(set(leaving)):
        of_class = sorted(person for person, its in classes.items() if its == label)
        persons += draw.sample(of_class, leaving.count(label))
    return torch.isin(training.person_id, torch.tensor(persons))


def _classes_of_persons(split: Split) -> dict[int, int]:
    backwards = zip(reversed(split.person_id.tolist()), reversed(split.labels.tolist()))
    return dict(backwards)  # the first example of a person is the last that is written


def _of_class(task: Task, training: Split, name: str) -> Tensor:
    names = list(task.class_names) or [str(label) for label in range(task.num_classes)]
    label = names.index(name) if name in names else int(name) if name.isdecimal() else -1
    if label not in range(task.num_classes):
        raise TaskError(f"--forget class:{name}: the task {task.name} has no such class{nearest(name, names)}")
    return training.labels == label


def _of_persons(task: Task, training: Split, names: str) -> Tensor:
    words = [word.strip() for word in names.split(",")]
    if not all(word.removeprefix("-").isdecimal() for word in words):
        raise TaskError(f"--forget person:{names}: give numbers of persons, such as person:17 or person:17,20")
    return _all_there(task, training, "person_id", map(int, words), f"--forget person:{names}")


def _listed(task: Task, training: Split, path: Path) -> Tensor:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise TaskError(f"--forget {path} cannot be read ({error}); give a table with a column image_id") from error
    rows = [row for row in csv.reader(lines) if any(cell.strip() for cell in row)]
    titles = [cell.strip().lower() for cell in rows[0]] if rows else []
    column = next((name for name in COLUMNS if name in titles), None)
    place = titles.index(column) if column else 0
    numbers = [row[place].strip() if place < len(row) else "" for row in (rows[1:] if column else rows)]
    for line, number in enumerate(numbers, 2 if column else 1):
        if not number.removeprefix("-").isdecimal():
            want = f"no {column or 'image_id'}; give a column of numbers with the title image_id or person_id"
            raise TaskError(f"--forget {path}, row {line}: {number[:40]!r} is {want}")
    return _all_there(task, training, column or "image_id", map(int, numbers), f"--forget {path}")


def _all_there(task: Task, training: Split, field: str, numbers: Iterable[int], where: str) -> Tensor:
    """Which training examples have one of these numbers; raises TaskError for numbers that none has."""
    wanted = sorted(set(numbers))
    known = set(getattr(training, field).tolist())
    if absent := [number for number in wanted if number not in known]:
        held_out = {n for name in ("validation", "test") for n in getattr(task.splits[name], field).tolist()}
        why = "of the validation or test set" if absent[0] in held_out else "not in the task"
        shown = ", ".join(map(str, absent[:FEW])) + (" ..." if len(absent) > FEW else "")
        raise TaskError(f"{where}: {field} {shown}: {why}; only training examples can be forgotten")
    return torch.isin(getattr(training, field), torch.tensor(wanted, dtype=torch.int64))
