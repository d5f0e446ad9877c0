"""Is a task fit to be graded? What could only come out after hours of training is refused when the task loads.

How it is used: `load_task` calls `check_task` for every task.
"""

from __future__ import annotations

import inspect
from pathlib import Path

import torch

from local_eval.tasks.check_data import check_data, check_images, check_numbers, check_seen_as
from local_eval.tasks.check_network import check_network
from local_eval.tasks.names import TaskError
from local_eval.tasks.own_code import Coded
from local_eval.tasks.recipe import FIRST, Recipe, fault_in
from local_eval.tasks.task import Split, Task


def check_task(task: Task, path: Path, tried: bool = False) -> None:
    """Raise TaskError, naming the task's file and the split, unless original, oracles and runs can be made.

    Args:
        tried: the network is known to be good.
    """
    for name, split in task.splits.items():
        _check_split(name, split, task, path)
    if task.class_names and len(task.class_names) != task.num_classes:
        raise TaskError(f"{path}: {len(task.class_names)} class_names for {task.num_classes} classes; give all or none")
    _check_apart(task, path)
    check_data(task, path)
    _check_training(task, path)
    if not tried:
        check_network(task, path)


def _check_split(name: str, split: Split, task: Task, path: Path) -> None:
    """Types, sizes and labels of one split."""
    if len(split) == 0:
        raise TaskError(f"{path}: the {name} set is empty")
    check_images(name, split, path)
    check_numbers(name, split, path)
    check_seen_as(name, split, path)
    if split.images.dtype != torch.uint8 or split.images.ndim != 4:
        found = f"{split.images.dtype} {tuple(split.images.shape)}"
        raise TaskError(f"{path}: {name} images must be uint8 [n, C, H, W], got {found}")
    _check_image_size(name, split, task, path)
    for column, tensor in split.tensors().items():
        if len(tensor) != len(split):
            raise TaskError(f"{path}: {name} has {len(tensor)} values of {column} for {len(split)} labels")
    low, high = int(split.labels.min()), int(split.labels.max())
    if low < 0 or high >= task.num_classes:
        one = "; classes are 0, 1, 2 ...: labels - 1" if low == 1 and high == task.num_classes else ""
        raise TaskError(f"{path}: {name} labels span {low}..{high}, but there are {task.num_classes} classes{one}")


def _check_image_size(name: str, split: Split, task: Task, path: Path) -> None:
    """Channels come first, and all splits have the same ones, of one size."""
    (channels, *size), (expected, *sizes) = split.images.shape[1:], task.retain.images.shape[1:]
    if size[1] <= 4 < channels:
        found = tuple(split.images.shape)
        raise TaskError(f"{path}: {name} images {found} have their channels last; try .permute(0, 3, 1, 2)")
    if channels != expected or channels == 0:
        raise TaskError(
            f"{path}: {name} images have {channels} channels, retain images {expected}; all splits need the same, "
            "one at least"
        )
    if size != sizes:
        text = f"{tuple(size)}, retain images {tuple(sizes)}"
        raise TaskError(f"{path}: {name} images are {text}; all splits must have one image size")


def _check_apart(task: Task, path: Path) -> None:
    """No image is in two splits or twice in one, and no person in both retain and forget."""
    seen: dict[int, str] = {}
    for name, split in task.splits.items():
        for image in split.image_id.tolist():
            if image in seen:
                where = f"twice in {name}" if seen[image] == name else f"in {seen[image]} and in {name}"
                raise TaskError(f"{path}: image {image} is {where}; splits must not overlap")
            seen[image] = name
    shared = set(task.retain.person_id.tolist()) & set(task.forget.person_id.tolist())
    if shared:
        raise TaskError(
            f"{path}: person {min(shared)} is in retain and in forget ({len(shared)} such persons in all); "
            "a person must be wholly in one of them, or the oracles see what they are to forget"
        )


def _check_training(task: Task, path: Path) -> None:
    """The recipe can be followed, or the task's own function be called."""
    if not isinstance(task.recipe, Recipe):
        raise TaskError(f"{path}: recipe is a {type(task.recipe).__name__}; give Recipe(epochs=..., lr=...)")
    if fault := fault_in(task.recipe, tuple(task.retain.images.shape[2:])):
        raise TaskError(f"{path}: the recipe's {fault}")
    if task.train is None:
        return
    if ignored := sorted(set(task.recipe.facts()) - set(FIRST)):
        text = f"leave {', '.join(ignored)} out of the recipe"
        raise TaskError(f"{path}: Task.train trains in the recipe's place; {text}")
    function = task.train.function if isinstance(task.train, Coded) else task.train
    try:
        inspect.signature(function).bind(None, None, 0)
    except TypeError as error:
        raise TaskError(f"{path}: Task.train is called as train(net, loader, seed), but {error}") from None
