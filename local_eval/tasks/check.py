"""Is a task fit to be graded? What could only come out after hours of training is refused when the task loads.

How it is used: `load_task` calls `check_task` for every task.
"""

from __future__ import annotations

import inspect
from pathlib import Path

import torch
from torch import nn

from local_eval.tasks.check_data import check_data, check_images, check_numbers, check_seen_as
from local_eval.tasks.evaluate import initial_net
from local_eval.tasks.names import TaskError
from local_eval.tasks.own_code import Coded
from local_eval.tasks.recipe import FIRST, Recipe, fault_in
from local_eval.tasks.task import BATCH_SIZE, Split, Task


def check_task(task: Task, path: Path) -> None:
    """Raise TaskError, naming the task's file and the split, unless original, oracles and runs can be made."""
    for name, split in task.splits.items():
        _check_split(name, split, task, path)
    if task.class_names and len(task.class_names) != task.num_classes:
        raise TaskError(f"{path}: {len(task.class_names)} class_names for {task.num_classes} classes; give all or none")
    _check_apart(task, path)
    check_data(task, path)
    _check_training(task, path)
    _check_network(task, path)


def _check_split(name: str, split: Split, task: Task, path: Path) -> None:
    """Types, sizes and labels of one split."""
    if len(split) == 0:
        raise TaskError(f"{path}: the {name} set is empty")
    check_images(name, split, path)
    check_numbers(name, split, path)
    check_seen_as(name, split, path)
    if split.images.dtype != torch.uint8 or split.images.ndim != 4 or split.images.shape[1] != 3:
        found = f"{split.images.dtype} {tuple(split.images.shape)}"
        raise TaskError(f"{path}: {name} images must be uint8 [n, 3, H, W], got {found}")
    if split.images.shape[2:] != task.retain.images.shape[2:]:
        sizes = f"{tuple(split.images.shape[2:])}, retain images {tuple(task.retain.images.shape[2:])}"
        raise TaskError(f"{path}: {name} images are {sizes}; all splits must have one image size")
    for column, tensor in split.tensors().items():
        if len(tensor) != len(split):
            raise TaskError(f"{path}: {name} has {len(tensor)} values of {column} for {len(split)} labels")
    low, high = int(split.labels.min()), int(split.labels.max())
    if low < 0 or high >= task.num_classes:
        one = "; classes are 0, 1, 2 ...: labels - 1" if low == 1 and high == task.num_classes else ""
        raise TaskError(f"{path}: {name} labels span {low}..{high}, but there are {task.num_classes} classes{one}")


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


def _check_network(task: Task, path: Path) -> None:
    """The network answers with one number a class, and can be trained on every last batch that will come."""
    image = task.retain.pixels(slice(0, 1)).cpu()
    net, found = _answer(task, image, path)
    if found != (1, task.num_classes):
        raise TaskError(
            f"{path}: the network answers an image with {found}, but num_classes is {task.num_classes}, so "
            f"{(1, task.num_classes)} is needed; change one of them"
        )
    sizes = {"retain": (len(task.retain), {task.recipe.batch_size, BATCH_SIZE})}
    sizes["forget"] = (len(task.forget), {BATCH_SIZE})
    if task.original is None:
        sizes["retain and forget"] = (len(task.retain) + len(task.forget), {task.recipe.batch_size})
    single = [(name, size) for name, (size, batches) in sizes.items() if any(size % b == 1 for b in batches)]
    if single and not _trains_on_one(net, image):
        name, size = single[0]
        raise TaskError(
            f"{path}: {name} has {size} images, so that the last batch holds a single one, which the network's batch "
            "norms cannot train on; add an image or leave one out"
        )


def _answer(task: Task, image: torch.Tensor, path: Path) -> tuple[nn.Module, tuple[int, ...]]:
    """An initial network, and the shape of what it answers an image with; raises TaskError if it cannot."""
    try:
        net = initial_net(task, seed=0)
        with torch.no_grad():
            return net, tuple(net.eval()(image).shape)
    except TaskError:
        raise
    except Exception as error:  # whatever the owner's code, or a layer on too small a map, raises
        said = (str(error).splitlines() or [""])[0]
        size = f"{image.shape[3]}x{image.shape[2]}"
        raise TaskError(
            f"{path}: the network cannot be made for, or take, images of {size} pixels ({type(error).__name__}: "
            f"{said}); take another network (make_net, --net) or images of another size"
        ) from error


def _trains_on_one(net: nn.Module, image: torch.Tensor) -> bool:
    try:
        with torch.no_grad():
            net.train()(image)
    except ValueError:  # "Expected more than 1 value per channel when training"
        return False
    return True
