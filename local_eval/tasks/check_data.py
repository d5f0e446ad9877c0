"""Do the pixels of a task mean what they say? What trains without a complaint and means something else is refused.

A network learns from images of nothing but 0 and 1, or from mean and std in the wrong unit, and answers with numbers;
only the scores make no sense then. So that is looked for in every task, however its splits were made.

How it is used: `check_images`, `check_numbers`, `check_seen_as` and `check_data` by check.py when a task loads.
"""

from __future__ import annotations

from itertools import combinations
from numbers import Real
from pathlib import Path

import torch
from torch import Tensor

from local_eval.tasks.duplicates import hashes
from local_eval.tasks.names import TaskError
from local_eval.tasks.readers.arrays import class_numbers, lost_in_a_cast, pixel_bytes
from local_eval.tasks.task import Split, Task

BOTH = 0.5  # share of the smaller split whose pictures are in the other: the same data given twice, and no chance
FAR = 4.0  # times: how much more the pixels spread, or how much larger they are, than std and mean say
DARK = 8.0  # mean of pixels below which a mean in 0 to 1 may be one of pixels
LEAST = 4  # images of a split that must not be all the same


def check_images(name: str, split: Split, path: Path | str) -> None:
    """Raise TaskError, with what to do, for images of one split that are no pixels, or are laid out another way."""
    images = split.images
    if not isinstance(images, Tensor):
        raise TaskError(f"{path}: {name} images are a {type(images).__name__}, not a tensor: torch.from_numpy(images)")
    shape = tuple(images.shape)
    if images.dtype != torch.uint8 and images.numel():
        read = pixel_bytes(images.detach().cpu(), f"{path}: {name} images")  # says what to do, or that they can be read
        advice = "(images * 255).round().to(torch.uint8)" if "from 0 to 1" in read[1] else "images.to(torch.uint8)"
        found = f"{images.dtype} {shape}, but hold bytes all the same: {advice} loses nothing"
        raise TaskError(f"{path}: {name} images must be uint8 [n, channels, H, W]; these are {found}")
    if images.ndim == 3:
        raise TaskError(f"{path}: {name} images are {shape}: grey, without their axis of channels; images[:, None]")
    if images.ndim == 4 and _channels_last(shape):
        text = "with their channels last; images must be [n, channels, H, W]: images.permute(0, 3, 1, 2).contiguous()"
        raise TaskError(f"{path}: {name} images are {shape}, {text}")
    if images.numel() and (lost := lost_in_a_cast(images)):
        raise TaskError(f"{path}: {name} images {lost}")


def check_numbers(name: str, split: Split, path: Path | str) -> None:
    """Raise TaskError, with what to do, for labels, ids or ages of one split that are not int64 [n]."""
    for column in ("labels", "image_id", "person_id", "age"):
        values, advice = getattr(split, column), ".long()"
        if not isinstance(values, Tensor):
            kind = f"a {type(values).__name__}"
            raise TaskError(f"{path}: {column} of the {name} set are {kind}; make it a tensor: torch.as_tensor(...)")
        if values.dtype == torch.int64 and values.ndim == 1:
            continue
        if column == "labels" and values.ndim and len(values):
            class_numbers(values, len(values), f"{path}: {name} labels")  # says what is wrong, or that it can be read
        if values.ndim == 2:
            advice = ".squeeze(1).long()" if values.shape[1] == 1 else ".argmax(1)" if column == "labels" else advice
        found = f"{values.dtype} {tuple(values.shape)}"
        raise TaskError(f"{path}: {column} of the {name} set must be int64 [n], got {found}; try {advice}")


def check_seen_as(name: str, split: Split, path: Path | str) -> None:
    """Raise TaskError for mean and std of one split that are no tuples of a number for each channel."""
    channels = split.images.shape[1] if split.images.ndim == 4 else 1
    for title, values in (("mean", split.mean), ("std", split.std)):
        plain = isinstance(values, tuple) and all(isinstance(one, Real) for one in values)
        if (plain and len(values) == channels) or (split.mean is None and split.std is None):
            continue
        told = f"it must be a tuple of {channels} numbers, one a channel, in pixels; mean and std go together"
        raise TaskError(f"{path}: {title} of {name} is {values!r}; {told}")


def _channels_last(shape: tuple[int, ...]) -> bool:
    """Does [n, a, b, c] look like [n, H, W, channels]? Nobody's pictures are three pixels wide and many high."""
    _, first, middle, last = shape
    return (last in (3, 4) and middle > 4) or (last == 1 and first == middle > 1)


def check_data(task: Task, path: Path | str) -> None:
    """Raise TaskError for mean and std that do not fit the pixels, and for splits that hold the same pictures."""
    for name, split in task.splits.items():
        _check_units(name, split, path)
        if (split.mean, split.std) != (task.retain.mean, task.retain.std):
            theirs = f"mean {split.mean} and std {split.std}, retain {task.retain.mean} and {task.retain.std}"
            raise TaskError(f"{path}: {name} has {theirs}; a network must see all splits alike: give them one of each")
    found = {name: hashes(split.images.cpu().contiguous()) for name, split in task.splits.items()}
    for name, of_split in found.items():
        if len(of_split) >= LEAST and len(set(of_split)) == 1:
            raise TaskError(f"{path}: all {len(of_split)} {name} images are one and the same picture; how was it read?")
    for one, other in combinations(found, 2):
        if (one, other) == ("validation", "test"):
            continue  # no model is trained on either: one set may serve as both
        both = len(set(found[one]) & set(found[other]))
        if both >= max(2, BOTH * min(len(set(found[one])), len(set(found[other])))):
            raise TaskError(
                f"{path}: {both} pictures are in {one} and in {other}, pixel by pixel, whatever their image_id says; "
                "splits must not overlap"
            )


def _check_units(name: str, split: Split, path: Path | str) -> None:
    """mean and std are in pixels."""
    if split.mean is None and split.std is None:
        return
    mean, std = (torch.tensor(v, dtype=torch.float64) for v in (split.mean, split.std))
    if not torch.isfinite(mean + std).all() or (std <= 0).any():
        raise TaskError(f"{path}: mean {split.mean} and std {split.std} of {name}: std must be above 0, both finite")
    theirs = _mean_and_std(split.images)
    if _in_other_units(mean, std, *theirs):
        told = "; ".join(f"{t} {tuple(round(v, 1) for v in s.tolist())}" for t, s in zip(("mean", "std"), theirs))
        raise TaskError(
            f"{path}: mean {split.mean} and std {split.std} of {name} are not in pixels, but from 0 to 1, it seems: "
            f"multiply by 255. Images are bytes from 0 to 255; these have {told}"
        )


def _in_other_units(mean: Tensor, std: Tensor, true_mean: Tensor, true_std: Tensor) -> bool:
    """Are mean or std [C] such that pixels would come out many spreads from zero? 0 and 1 change nothing: allowed."""
    narrow = (std < 1) & (true_std > FAR * std)
    low = (mean > 0) & (mean <= 1) & (true_mean > DARK) & (true_mean > FAR * mean)
    return bool(narrow.any() or low.any())


def _mean_and_std(images: Tensor) -> tuple[Tensor, Tensor]:
    """float64 [C] each, in pixels, of at most 512 images, evenly spaced."""
    some = images[:: max(1, len(images) // 512)][:512].double()
    return some.mean(dim=(0, 2, 3)).cpu(), some.std(dim=(0, 2, 3)).cpu()
