"""Load a task: import its file, build it, check that it can be graded, and tell what was understood of its data.

How to see it: python -m local_eval check --task faces.csv
"""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from local_eval.isolation.device import seeded
from local_eval.store.errors import InputError
from local_eval.store.files import user_path
from local_eval.tasks.check import check_task, said
from local_eval.tasks.data.images import hashes
from local_eval.tasks.forget_set import with_forget_set
from local_eval.tasks.names import FORGET, NET, OF_RECIPE, ORIGINAL, START, TaskError, split_changes, split_spec
from local_eval.tasks.networks import network
from local_eval.tasks.own_code import Coded, builtins_for, forget_modules_of, is_own
from local_eval.tasks.task import Task
from local_eval.tasks.weights import name_of, original_state, read_given, start_state

# What brackets in a spec change in a task: network, starting weights, recipe, original model, and the forget set.
#
#     --net resnet34    --start weights.pth    --epochs 3    --lr 0.01    --recipe optimizer=sgd    --original model.pth
#     --forget class:3
#
# The task's own original model and oracles belong to its own network and recipe. Where these change, both are left
# out, and trained as the changed task says; an original that is given beside the change stays.


def changed(task: Task, changes: Mapping[str, object]) -> Task:
    """The task with these changes, and notes on what they left out.

    Raises:
        TaskError: a change that this task cannot have.
    """
    before = task
    if NET in changes:
        size = tuple(task.retain.images.shape[2:])
        start = None if START not in changes else task.start
        task = replace(task, make_net=network(changes[NET], task.num_classes, size), start=start)
    if START in changes:
        task = replace(task, start=_file(changes[START]))
    task = _with_recipe(task, {name: changes[name] for name in OF_RECIPE if name in changes})
    if (task.make_net, task.start, task.recipe) != (before.make_net, before.start, before.recipe):
        task = _without_its_own(task, changes)
    if ORIGINAL in changes:
        task = replace(task, original=_file(changes[ORIGINAL]))
    return with_forget_set(task, changes[FORGET]) if FORGET in changes else task


def _file(given: object) -> Path:
    return user_path(str(given)).absolute()


def _with_recipe(task: Task, fields: dict[str, object]) -> Task:
    if fields.keys() - {"batch_size"} and task.train is not None:
        raise TaskError(
            f"the task {task.name} trains by a function of its own (Task.train), which no recipe changes; leave "
            f"{', '.join(sorted(fields))} out, or change the function"
        )
    return replace(task, recipe=replace(task.recipe, **fields))


def _without_its_own(task: Task, changes: Mapping[str, object]) -> Task:
    """Without the original model and the oracles that come with it, which are of another network or recipe."""
    left = [name for name, there in (("original model", task.original), ("oracles", task.oracles)) if there is not None]
    what = ", ".join(name for name in changes if name != ORIGINAL)
    notes = (f"{what} changed: the {' and '.join(left)} that the task brings along do not fit, and are trained",)
    return replace(task, original=None, oracles=None, notes=task.notes + (notes if left else ()))


# Import a task's file, build the task and check it.


def load_task(spec: str | os.PathLike, tried: bool = False) -> Task:
    """Load and check a task by name ('digits'), name and place ('cifar10:/data') or path ('my_task.py', 'faces.csv').

    Changes in brackets behind it (names.py) are made: 'digits[epochs=3]'.

    Args:
        tried: its network has been tried in the process that asks this one to work.
    Raises:
        TaskError: no such task, its file has no `task()`, or its data cannot be read or graded.
    """
    spec, changes = split_changes(os.fspath(spec))
    path, where = split_spec(spec)
    task = _call(task_module(path).task, spec, path, where)
    return ready(changed(task, changes), path, user_path(where) if where else path, tried)


def ready(task: Task, path: Path, place: Path, tried: bool = False) -> Task:
    """A task with its own weights and functions as all stages take them, checked.

    Args:
        path: the task's file; relative paths in it count from its folder.
        place: what errors name: a person's data rather than our module.
        tried: as in `load_task`.
    Raises:
        TaskError: it cannot be graded.
    """
    if task.train is not None:
        task = replace(task, train=Coded.of(task.train, f"{place}: Task.train"))
    task = _with_plain_weights(task, path.parent, place)
    check_task(task, place, tried)
    return task


def _with_plain_weights(task: Task, folder: Path, place: Path) -> Task:
    """The task with its `original` and `start` as checked state dicts, and notes on how they were read.

    Raises:
        TaskError, CheckpointError: they cannot be read, or do not fit the task's network.
    """
    if task.original is None and task.start is None:
        return task
    net, notes = _any_net(task, place), list(task.notes)
    if task.original is not None:
        name = name_of(task.original, f"{place}: Task.original")
        original, how = original_state(read_given(task.original, name, folder), net, name)
        notes += [f"the original model, {name}: {how}"] if how else []
        task = replace(task, original=original)
    if task.start is not None:
        name = name_of(task.start, f"{place}: Task.start")
        start, how = start_state(read_given(task.start, name, folder), net, name, task.num_classes)
        notes += [f"networks start from {name}: {how}"] if how else []
        task = replace(task, start=start)
    return replace(task, notes=tuple(dict.fromkeys(notes)))


def _any_net(task: Task, place: Path) -> nn.Module:
    try:
        with seeded(0):  # looking must not draw
            net = task.make_net()
    except Exception as error:  # whatever the owner's code raises
        raise TaskError(f"{place}: make_net fails with {type(error).__name__}: {error}") from error
    if not isinstance(net, nn.Module):
        raise TaskError(f"{place}: make_net gives a {type(net).__name__}, no network (torch.nn.Module)")
    return net


def _call(function: Callable, spec: str, path: Path, where: str | None) -> Any:
    """Call a task file's `task` or `download` with the place of its data, if there is one; raises TaskError."""
    parameters = inspect.signature(function).parameters
    if where is not None and not parameters:
        raise TaskError(f"the task {path.stem} reads no files, so it cannot use {where}; leave ':{where}' out")
    if where is None and any(p.default is p.empty for p in parameters.values()):
        raise TaskError(f"the task {path.stem} needs data: --task {spec}:PATH. {inspect.getdoc(function) or ''}")
    with telling(path, f"{function.__name__}()"):
        return function(*([] if where is None else [user_path(where)]))


@contextlib.contextmanager
def telling(path: Path, what: str) -> Iterator[None]:
    """An error in a person's own file becomes a TaskError with the line; one in the kit's stays what it is."""
    try:
        yield
    except (InputError, MemoryError):
        raise
    except Exception as error:
        if not is_own(path):
            raise
        own = [frame for frame in traceback.extract_tb(error.__traceback__) if is_own(Path(frame.filename))]
        own = [frame for frame in own if Path(frame.filename).is_relative_to(path.parent)] or own
        where = f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""
        raise TaskError(f"{path}: {what} fails{where}: {said(error)}") from error


def download_task(spec: str) -> None:
    """Fetch the data of a task that can be fetched, to the place that the spec names or the task's default.

    Raises:
        TaskError: the task has no `download`, or what its `download` raises.
    """
    spec, _ = split_changes(spec)
    path, where = split_spec(spec)
    module = task_module(path)
    if not hasattr(module, "download"):
        raise TaskError(f"the task {path.stem} has nothing to download; leave --download out")
    _call(module.download, spec, path, where)


def task_module(path: Path) -> ModuleType:
    """The imported file of a task. Raises TaskError if it has no function `task` or cannot be imported."""
    module_spec = importlib.util.spec_from_file_location(f"task_{path.stem}", path)
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[module_spec.name] = module  # dataclasses look their module up there
    if is_own(path):
        forget_modules_of(path.parent)
        module.__builtins__ = builtins_for(path.parent)
    with telling(path, "importing it"):
        module_spec.loader.exec_module(module)
    if not hasattr(module, "task"):
        raise TaskError(f"{path} defines no function task(); see local_eval/tasks/digits.py")
    return module


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
