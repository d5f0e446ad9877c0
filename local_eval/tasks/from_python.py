"""A task from what a script or notebook holds: data sets of torch, or arrays, for the four splits, and a network.

Everything is read once, into bytes, exactly or not at all (readers/arrays.py says what is taken). What was read in a
way that somebody might not expect stands in the task's notes, which are told before grading.

How it is used: `local_eval.task_from(retain, forget, validation, test, make_net=...)`, docs/python.md
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, Subset

from local_eval.tasks.data.arrays import as_tensor, channels_first, class_numbers, pixel_bytes
from local_eval.tasks.data.images import hashes
from local_eval.tasks.data.own_images import RECIPE
from local_eval.tasks.loading import ready
from local_eval.tasks.names import SPLITS, TaskError
from local_eval.tasks.recipe import Recipe
from local_eval.tasks.task import Split, Task
from local_eval.tasks.weights import Weights

WHO = "task_from"  # stands where other messages have the task's file
IMAGE_KEYS = ("image", "images", "img", "pixel_values")
LABEL_KEYS = ("age_group", "label", "labels", "target", "targets")
TWICE = 256  # items that are read again: does a transform draw at random?
SHOWN = 5  # examples in a message
PICTURES = ("L", "RGB")  # modes of pictures whose bytes are taken as they are


@dataclass(frozen=True)
class Given:
    """One split as it came, in tensors; None for what was not given."""

    images: Tensor  # uint8 [n, C, H, W]
    labels: Tensor  # int64 [n]
    image_id: Tensor | None = None  # int64 [n]
    persons: list | None = None  # [n], numbers or texts
    age: Tensor | None = None
    places: list[tuple[int, int]] | None = None  # [n] of items of a data set: whose, and which
    seen_as: tuple = (None, None)  # mean and std of a Split
    notes: tuple[str, ...] = ()


def task_from(
    retain: Any,
    forget: Any,
    validation: Any,
    test: Any,
    *,
    make_net: Callable[[], nn.Module],
    recipe: Recipe = RECIPE,
    num_classes: int | None = None,
    name: str = "mine",
    persons: Mapping[str, Sequence] | None = None,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    class_names: Sequence[str] = (),
    original: Weights | None = None,
    start: Weights | None = None,
    train: Callable | None = None,
) -> Task:
    """A task to be graded: `local_eval.grade("my_method.py", task=that)`.

    Args:
        retain, forget, validation, test: each a data set of torch (any thing with a length and items `(image, label)`,
            `(image, label, index)` or a dict with the keys of the competition's batches), a pair `(images, labels)` of
            arrays or tensors, a dict of them (`images`, `labels`, and if you like `image_id`, `person_id`, `age`), or a
            Split. Images are bytes, or floats from 0 to 1 that were bytes; [n, H, W], [n, C, H, W] or [n, H, W, C].
        make_net: makes a fresh, untrained network: a function, a class, a partial or a lambda, but no network.
        recipe: how original and oracles are trained; by default as the competition's.
        num_classes: found from the labels if they have no gap.
        name: of the folder for results.
        persons: by split, one number or text an image: who is in it; default: every image is its own person.
        mean, std: per channel, in pixels (0 to 255), if the network is to see (pixels - mean) / std.
        class_names: what people call class 0, 1, 2 ...
        original: the model that is to unlearn: a network, its state dict, or the path of its weights; None to train
            one.
        start: pretrained weights that original and oracles start from, given likewise.
        train: `train(net, loader, seed)`, if original and oracles are not to be trained by the recipe.
    Raises:
        TaskError: something cannot be read exactly, or cannot be graded; the message says what to do.
    """
    _check_name_and_net(name, make_net)
    given = {split: _read(split, data) for split, data in zip(SPLITS, (retain, forget, validation, test))}
    given = {split: replace(one, persons=_persons_of(split, one, persons)) for split, one in given.items()}
    _check_items_apart(given)
    notes = [note for one in given.values() for note in one.notes]
    classes = num_classes or _classes_found(given)
    images = _fit_channels({split: one.images for split, one in given.items()}, make_net, notes)
    given = {split: replace(one, images=images[split]) for split, one in given.items()}
    splits = _splits_of(given, _per_channel(mean), _per_channel(std), notes)
    more = {"original": original, "start": start, "train": train, "class_names": tuple(class_names)}
    task = Task(name, make_net, recipe=recipe, num_classes=classes, **splits, **more)
    task = ready(task, Path.cwd() / WHO, Path(WHO))
    task = replace(task, original=_copy(task.original), start=_copy(task.start))
    notes += [*_remarks(splits, classes), *_pictures_apart(splits), *task.notes]
    return replace(task, notes=tuple(dict.fromkeys(notes)))


def _splits_of(
    given: dict[str, Given], mean: tuple[float, ...] | None, std: tuple[float, ...] | None, notes: list[str]
) -> dict[str, Split]:
    """The splits with numbers for images and persons; mean and std as given, or else those that came with a Split."""
    ids, persons = _image_ids(given, notes), _person_ids(given)
    persons = ids if persons is None else persons
    splits = {}
    for split, one in given.items():
        age = one.labels if one.age is None else one.age
        seen_as = one.seen_as if (mean, std) == (None, None) else (mean, std)
        seen_as = [v * one.images.shape[1] if v and len(v) == 1 else v for v in seen_as]  # one number for all channels
        splits[split] = Split(one.images, one.labels, ids[split], persons[split], age, *seen_as)
    return splits


def _copy(state: dict[str, Tensor] | None) -> dict[str, Tensor] | None:
    """Weights that stay as they are whatever becomes of the network that they were taken from."""
    return None if state is None else {name: value.detach().cpu().clone() for name, value in state.items()}


def _check_name_and_net(name: str, make_net: Any) -> None:
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w.-]*", name):
        raise TaskError(f"{WHO}: {name!r} is no name for a folder; take letters, digits, '_', '-' and '.'")
    if isinstance(make_net, nn.Module):
        kind = type(make_net).__name__
        remedy = f"every model starts from a fresh one: give what makes it, such as lambda: {kind}(...)"
        raise TaskError(f"{WHO}: make_net is a {kind} that exists already; {remedy}")
    if not callable(make_net):
        raise TaskError(f"{WHO}: make_net is {make_net!r}; give a function or class that makes a fresh network")


def _read(split: str, data: Any) -> Given:
    """One split, of whatever kind."""
    if isinstance(data, Split):
        return _of_split(data)
    if isinstance(data, DataLoader):
        raise TaskError(f"{WHO}: {split} is a DataLoader; give its data set, {split}_loader.dataset")
    if isinstance(data, Mapping):
        return _of_columns(split, dict(data))
    if isinstance(data, tuple) and len(data) == 2:
        return _of_columns(split, {"images": data[0], "labels": data[1]})
    if isinstance(data, Tensor | np.ndarray | tuple | str | bytes | None):
        raise TaskError(f"{WHO}: {split} is a {type(data).__name__}; give a data set, or a pair (images, labels)")
    if isinstance(data, IterableDataset) or not hasattr(data, "__getitem__") or not hasattr(data, "__len__"):
        raise TaskError(f"{WHO}: {split} is a {type(data).__name__}, whose items have no numbers; give a map-style one")
    return _of_items(split, data)


def _of_split(split: Split) -> Given:
    images, labels, image_id, person_id, age = (value.detach().cpu() for value in split.tensors().values())
    return Given(images, labels, image_id, person_id.tolist(), age, seen_as=(split.mean, split.std))


def _of_columns(split: str, columns: dict[str, Any]) -> Given:
    """Arrays by name."""
    image, label = (_one_key(f"{WHO}: {split}", columns, keys) for keys in (IMAGE_KEYS, LABEL_KEYS))
    images, labels = (as_tensor(columns[key], f"{WHO}: {split} {key}") for key in (image, label))
    if images.ndim < labels.ndim:
        raise TaskError(f"{WHO}: {split} has the labels before the images; give (images, labels)")
    if images.ndim == 4 and len(images) != len(labels) == images.shape[3]:
        last = f"{WHO}: {split} images are {list(images.shape)}, counted by their last axis"
        raise TaskError(f"{last}; move it to the front: numpy.moveaxis(images, -1, 0)")
    if not len(images):
        raise TaskError(f"{WHO}: the {split} set is empty")
    numbers = {
        key: _numbers(columns[key], len(images), f"{WHO}: {split} {key}")
        for key in ("image_id", "age")
        if key in columns
    }
    found, note = pixel_bytes(images, f"{WHO}: {split} images")
    found = channels_first(found, f"{WHO}: {split} images")
    persons = columns.get("person_id")
    persons = None if persons is None else np.asarray(persons).ravel().tolist()
    labels = class_numbers(labels, len(images), f"{WHO}: {split} labels")
    return Given(found, labels, persons=persons, notes=(note,) if note else (), **numbers)


def _numbers(values: Any, count: int, who: str) -> Tensor | None:
    """int64 [n]; None for texts, such as names of files, since images are then numbered."""
    if values is None or any(isinstance(one, str) for one in values):
        return None
    found = as_tensor(values, who).flatten().long()
    if len(found) != count:
        raise TaskError(f"{who}: {len(found)} for {count} images")
    return found


def _one_key(who: str, columns: Mapping, keys: tuple[str, ...]) -> str:
    found = [key for key in keys if key in columns]
    if len(found) != 1:
        reported = f"{' and '.join(found)}: which is it" if found else f"none of {', '.join(keys)}"
        raise TaskError(f"{who} has the keys {', '.join(map(str, columns))}, and of these {reported}?")
    return found[0]


def _of_items(split: str, data: Any) -> Given:
    """A data set, read item by item, some of them twice."""
    count = len(data)
    if not count:
        raise TaskError(f"{WHO}: the {split} set is empty")
    rows = [_item(split, data, k) for k in range(count)]
    for k in dict.fromkeys(np.linspace(0, count - 1, min(count, TWICE)).astype(int).tolist()):
        again = _item(split, data, k)
        if not all(np.array_equal(again[key], rows[k][key]) for key in ("images", "labels")):
            why = "is another one each time that it is read: its transform draws at random"
            raise TaskError(f"{WHO}: {split} item {k} {why}. Give the data set without augmentation")
    columns = {key: [row[key] for row in rows] for key in rows[0] if all(key in row for row in rows)}
    columns["images"] = _stacked(split, columns["images"])
    return replace(_of_columns(split, columns), places=[_place(data, k) for k in range(count)])


def _item(split: str, data: Any, k: int) -> dict[str, Any]:
    """Item k as a row: images, labels, and image_id, person_id, age where it has them."""
    who = f"{WHO}: {split} item {k}"
    try:
        item = data[k]
    except Exception as error:  # whatever somebody's data set raises
        raise TaskError(f"{who} cannot be read: {type(error).__name__}: {str(error)[:200]}") from error
    if isinstance(item, Mapping):
        image, label = (_one_key(who, item, keys) for keys in (IMAGE_KEYS, LABEL_KEYS))
        more = {key: item[key] for key in ("image_id", "person_id", "age") if key in item}
        return {"images": _pixels(who, item[image]), "labels": _here(item[label]), **more}
    if not isinstance(item, tuple | list) or len(item) not in (2, 3):
        kind = f"{len(item)} things" if isinstance(item, tuple | list) else f"a {type(item).__name__}"
        raise TaskError(f"{who} is {kind}; items are (image, label), (image, label, index) or a dict")
    more = {"image_id": item[2]} if len(item) == 3 else {}
    return {"images": _pixels(who, item[0]), "labels": _here(item[1]), **more}


def _here(value: Any) -> Any:
    """A tensor as numpy takes it."""
    return value.detach().cpu() if isinstance(value, Tensor) else value


def _pixels(who: str, image: Any) -> np.ndarray:
    """One image as an array; of a picture its bytes."""
    if isinstance(image, Image):
        if image.mode not in (*PICTURES, "1", "P"):
            raise TaskError(f"{who} is a picture of mode {image.mode}; let the data set .convert('RGB') it")
        return np.asarray(image.convert({"1": "L", "P": "RGB"}.get(image.mode, image.mode)))
    return as_tensor(image, f"{who}, its image,").numpy() if not _is_coarse(image) else image.detach().float().numpy()


def _is_coarse(image: Any) -> bool:
    return isinstance(image, Tensor) and image.dtype == torch.bfloat16  # which numpy has not


def _stacked(split: str, images: list[np.ndarray]) -> np.ndarray:
    """All images in one array; grey pictures among coloured ones are repeated for red, green and blue."""
    first, types = images[0], {image.dtype for image in images}
    if len(types) > 1:
        raise TaskError(f"{WHO}: {split} images are of several types, {', '.join(sorted(map(str, types)))}; take one")
    if {image.ndim for image in images} == {2, 3}:
        images = [np.repeat(one[..., None], 3, axis=2) if one.ndim == 2 else one for one in images]
        first = images[0]
    for k, image in enumerate(images):
        if image.shape != first.shape:
            reported = f"item {k} is {list(image.shape)}, item 0 {list(first.shape)}"
            raise TaskError(f"{WHO}: {split} images differ in size: {reported}; resize them in the data set")
    return np.stack(images)


def _place(data: Any, k: int) -> tuple[int, int]:
    """Where item k really is: data set and number, through subsets of subsets."""
    while isinstance(data, Subset):
        data, k = data.dataset, int(data.indices[k])
    return id(data), k


def _persons_of(split: str, given: Given, persons: Mapping[str, Sequence] | None) -> list | None:
    """One label an image, or None where nobody is named. An image's own is overruled by what is given beside it."""
    if unknown := set(persons or ()) - set(SPLITS):
        raise TaskError(f"{WHO}: persons has {', '.join(sorted(map(str, unknown)))}; its keys are {', '.join(SPLITS)}")
    found = given.persons if persons is None or split not in persons else np.asarray(persons[split]).ravel().tolist()
    if found is not None and len(found) != len(given.labels):
        raise TaskError(f"{WHO}: {len(found)} persons for {len(given.labels)} images of the {split} set")
    return found


def _check_items_apart(given: dict[str, Given]) -> None:
    """No item of one data set is in two splits or twice in one, and no named person in both retain and forget."""
    seen: dict[tuple[int, int], str] = {}
    for split, one in given.items():
        for place in one.places or ():
            if place in seen:
                where = f"twice in {split}" if seen[place] == split else f"in {seen[place]} and in {split}"
                raise TaskError(f"{WHO}: item {place[1]} of one data set is {where}; splits must not overlap")
            seen[place] = split
    shared = set(given["retain"].persons or ()) & set(given["forget"].persons or ())
    if shared:
        raise TaskError(
            f"{WHO}: person {min(shared, key=str)!r} is in retain and in forget ({len(shared)} such persons in all); a "
            "person must be wholly in one of them, or the oracles see what they are to forget"
        )


def _fit_channels(images: dict[str, Tensor], make_net: Callable, notes: list[str]) -> dict[str, Tensor]:
    """Grey images as the network takes them: with one channel, or three times the same."""
    channels = {one.shape[1] for one in images.values()}
    if channels not in ({1}, {1, 3}):
        return images
    if channels == {1} and (_takes(make_net, images["retain"]) or not _takes(make_net, _coloured(images["retain"]))):
        return images
    notes.append("grey images are given to the network three times, as red, green and blue")
    return {split: _coloured(one) if one.shape[1] == 1 else one for split, one in images.items()}


def _coloured(images: Tensor) -> Tensor:
    return images.repeat(1, 3, 1, 1)


def _takes(make_net: Callable[[], nn.Module], images: Tensor) -> bool:
    """Does the network answer two such images?"""
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            make_net().eval()(images[:2].float())
    except Exception:  # a network of somebody's raises what it likes
        return False
    return True


def _classes_found(given: dict[str, Given]) -> int:
    """The number of classes, if labels are 0, 1, 2 ... without a gap."""
    there = torch.cat([one.labels for one in given.values()]).unique().tolist()
    if there == list(range(len(there))) and len(there) > 1:
        return len(there)
    if len(there) < 2:
        raise TaskError(f"{WHO}: all labels are {there[0]}; it takes two classes to tell anything, or num_classes=...")
    absent = [k for k in range(there[-1]) if k not in there]
    if absent == [0]:
        raise TaskError(f"{WHO}: labels start at 1; give labels - 1, or num_classes={there[-1] + 1} if class 0 exists")
    shown = ", ".join(map(str, absent[:SHOWN])) + (" ..." if len(absent) > SHOWN else "")
    raise TaskError(
        f"{WHO}: no image has label {shown}, the largest is {there[-1]}; number the classes 0, 1, 2 ..., or give "
        f"num_classes={there[-1] + 1} if these exist"
    )


def _per_channel(values: float | Sequence[float] | None) -> tuple[float, ...] | None:
    """As Split has it: a tuple of floats."""
    return None if values is None else tuple(float(v) for v in np.asarray(values, dtype=np.float64).ravel())


def _image_ids(given: dict[str, Given], notes: list[str]) -> dict[str, Tensor]:
    """int64 [n] by split: those given, the places in the one data set that all are parts of, or running numbers."""
    counts = [len(one.labels) for one in given.values()]
    running = dict(zip(given, torch.arange(sum(counts)).split(counts)))
    ids = [one.image_id for one in given.values()]
    if all(one is not None for one in ids):
        if all(sorted(one.tolist()) == list(range(len(one))) for one in ids):
            return running  # each split counts from 0: these are places and no names
        return dict(zip(given, ids))
    if any(one is not None for one in ids):
        notes.append("image ids are not used, since not all splits have them")
    if all(one.places for one in given.values()) and len({p[0] for one in given.values() for p in one.places}) == 1:
        return {split: torch.tensor([place[1] for place in one.places]) for split, one in given.items()}
    return running


def _person_ids(given: dict[str, Given]) -> dict[str, Tensor] | None:
    """int64 [n] by split, as given if all are whole numbers; None if nobody is named, in any split."""
    lists = {split: one.persons for split, one in given.items()}
    if all(one is None for one in lists.values()):
        return None
    if all(one is not None and all(type(p) is int for p in one) for one in lists.values()):
        return {split: torch.tensor(one) for split, one in lists.items()}
    numbers: dict[Any, int] = {}
    each = {split: one or [(split, k) for k in range(len(given[split].labels))] for split, one in lists.items()}
    return {split: torch.tensor([numbers.setdefault(p, len(numbers)) for p in one]) for split, one in each.items()}


def _pictures_apart(splits: dict[str, Split]) -> list[str]:
    """Notes of pictures that are in two splits by their pixels. Raises TaskError for retain and forget."""
    found = {name: hashes(split.images) for name, split in splits.items()}
    kept = {one: k for k, one in enumerate(found["retain"])}
    if both := [(kept[one], k) for k, one in enumerate(found["forget"]) if one in kept]:
        shown = ", ".join(f"retain {a} and forget {b}" for a, b in both[:SHOWN])
        reported = f"{len(both)} pictures are in retain and in forget, pixel by pixel ({shown})"
        raise TaskError(f"{WHO}: {reported}; oracles would see what is to be forgotten: leave them out of one")
    each = {pair: len(set(found[pair[0]]) & set(found[pair[1]])) for pair in combinations(SPLITS, 2)}
    return [f"{n} pictures are in {one} and in {other}, pixel by pixel" for (one, other), n in each.items() if n]


def _remarks(splits: dict[str, Split], classes: int) -> list[str]:
    """What is allowed, and yet seldom meant."""
    count = {name: torch.bincount(split.labels, minlength=classes) for name, split in splits.items()}
    remarks = []
    gone = ((count["retain"] == 0) & (count["forget"] > 0)).nonzero().flatten().tolist()
    never = ((count["retain"] + count["forget"] == 0) & (count["validation"] + count["test"] > 0)).nonzero().flatten()
    if gone:
        remarks.append(f"class {_listed(gone)} is in the forget set alone: a whole class is to be forgotten")
    if len(never):
        remarks.append(f"class {_listed(never.tolist())} is in validation or test but in no training image")
    return remarks


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers[:SHOWN])) + (" ..." if len(numbers) > SHOWN else "")
