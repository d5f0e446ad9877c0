"""Is a task fit to be graded? What could only come out after hours of training is refused when the task loads.

How it is used: `load_task` calls `check_task` for every task.
"""

from __future__ import annotations

import copy
import inspect
import sys
from collections.abc import Iterator
from functools import partial
from itertools import combinations
from numbers import Real
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parameter import is_lazy

from local_eval.isolation.device import seeded
from local_eval.tasks.data.arrays import class_numbers, lost_in_a_cast, pixel_bytes
from local_eval.tasks.data.images import hashes
from local_eval.tasks.evaluate import initial_net
from local_eval.tasks.names import TaskError
from local_eval.tasks.own_code import Coded
from local_eval.tasks.recipe import FIRST, Recipe, fault_in
from local_eval.tasks.task import BATCH_SIZE, Split, Task, structure

# Do the pixels of a task mean what they say? What trains without a complaint and means something else is refused.
#
# A network learns from images of nothing but 0 and 1, or from mean and std in the wrong unit, and answers with
# numbers; only the scores make no sense then. So that is looked for in every task, however its splits were made.


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
        reported = f"it must be a tuple of {channels} numbers, one a channel, in pixels; mean and std go together"
        raise TaskError(f"{path}: {title} of {name} is {values!r}; {reported}")


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
        reported = "; ".join(f"{t} {tuple(round(v, 1) for v in s.tolist())}" for t, s in zip(("mean", "std"), theirs))
        raise TaskError(
            f"{path}: mean {split.mean} and std {split.std} of {name} are not in pixels, but from 0 to 1, it seems: "
            f"multiply by 255. Images are bytes from 0 to 255; these have {reported}"
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


# Can a task's network be graded? Whatever of it could only come out in training is tried when the task loads.
#
# Three networks are made, or one if it is the kit's own, and two images are shown to them. A fault is the task's,
# told in a sentence with its file, so that it is not blamed on a submission hours later.


KNOWN = (Path(__file__).parents[1], Path(torchvision.__file__).parent)
IMAGES = 2  # that it is tried on; batch norms need two
FRESH = "make_net must make a fresh network on every call, such as make_net=lambda: Net(), or copy.deepcopy(net)"
WRAPPER = """
    class LogitsAlone(torch.nn.Module):
        def __init__(self, net):
            super().__init__()
            self.net = net

        def forward(self, x):
            out = self.net(x)
            return out if isinstance(out, torch.Tensor) else out{pick}

and give Task(...) make_net=lambda: LogitsAlone(...)"""


def check_network(task: Task, path: Path) -> None:
    """Raise TaskError unless networks are fresh on every call, answer with one number a class, and can be trained."""
    nets = [_made(task, seed, path) for seed in ((0,) if _known(task.make_net) else (0, 0, 1))]
    _check_fresh(nets, path)
    _check_state(nets[0], path)
    images = task.retain.pixels(slice(0, IMAGES)).cpu()
    for count in range(1, len(images) + 1):
        _answers(nets[0], images[:count], False, task, path)
    if len(images) > 1:
        _check_step(nets[0], images, task, path)
    _check_last_batches(nets[0], images[:1], task, path)
    if len(nets) > 1:
        _check_all_is_in_the_state(nets[1], nets[2], images, path)


def _known(make_net: object) -> bool:
    """Is it this kit's or torchvision's, which give fresh networks that are all in their state dict?"""
    if isinstance(make_net, Coded):  # a function with the hash of its code
        make_net = make_net.function
    while isinstance(make_net, partial):
        if any(callable(value) or isinstance(value, Tensor) for value in (*make_net.args, *make_net.keywords.values())):
            return False  # such as a layer that all networks would share
        make_net = make_net.func
    if isinstance(make_net, type):
        file = getattr(sys.modules.get(make_net.__module__), "__file__", None)
    else:  # by its code: what is wrapped around a function, such as a cache, takes over its name
        file = make_net.__code__.co_filename if isinstance(make_net, FunctionType) else None
    return file is not None and any(Path(file).is_relative_to(place) for place in KNOWN)


def _made(task: Task, seed: int, path: Path) -> nn.Module:
    """The network of a seed; raises TaskError if make_net gives none."""
    if isinstance(task.make_net, nn.Module):
        raise TaskError(f"{path}: make_net is a network; {FRESH}")
    if not callable(task.make_net):
        raise TaskError(f"{path}: make_net is a {type(task.make_net).__name__}; {FRESH}")
    try:
        net = initial_net(task, seed)
    except TaskError:
        raise
    except Exception as error:  # whatever the owner's code raises
        raise TaskError(f"{path}: make_net() fails: {said(error)}") from error
    if not isinstance(net, nn.Module):
        raise TaskError(f"{path}: make_net() gives a {type(net).__name__}, not a torch.nn.Module; let it return one")
    if lazy := [name for name, value in _tensors(net) if is_lazy(value)]:
        raise TaskError(
            f"{path}: the size of {lazy[0]} is not known before the first batch (a lazy layer); write the size out, or "
            f"let make_net() show the network one image before it returns it: net(torch.zeros(1, {_shape(task)}))"
        )
    return net


def _shape(task: Task) -> str:
    return ", ".join(map(str, task.retain.images.shape[1:]))


def _tensors(net: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from net.named_parameters()
    yield from net.named_buffers()


def _check_fresh(nets: list[nn.Module], path: Path) -> None:
    """No two networks share memory, and they have one structure."""
    for one, other in combinations(nets, 2):
        if one is other:
            raise TaskError(f"{path}: make_net hands out one and the same network again; {FRESH}")
        places = {value.untyped_storage().data_ptr() for _, value in _tensors(one) if value.numel()}
        if shared := [n for n, v in _tensors(other) if v.numel() and v.untyped_storage().data_ptr() in places]:
            raise TaskError(f"{path}: the networks that make_net hands out share {shared[0]}; {FRESH}")
        if structure(repr(one)) != structure(repr(other)) or _shapes(one) != _shapes(other):
            raise TaskError(f"{path}: make_net makes networks of different structures; all models need the same one")
    again = dict(_tensors(nets[min(1, len(nets) - 1)]))
    for name, value in _tensors(nets[0]):
        if not torch.equal(value.detach(), again[name].detach()):
            raise TaskError(
                f"{path}: make_net draws {name} differently each time for one seed; draw it with torch, numpy.random "
                "or random, which are seeded for every model, not from a generator of your own or torch.empty"
            )


def _shapes(net: nn.Module) -> list[tuple[str, tuple[int, ...], torch.dtype]]:
    return [(name, tuple(value.shape), value.dtype) for name, value in _tensors(net)]


def _check_state(net: nn.Module, path: Path) -> None:
    """The state dict can be kept as arrays, and copies can be made."""
    for name, value in net.state_dict().items():
        if not isinstance(value, Tensor):
            raise TaskError(f"{path}: {name} in the network's state dict is a {type(value).__name__}, not a tensor")
        try:
            value.detach().numpy()
        except (TypeError, RuntimeError) as error:
            raise TaskError(
                f"{path}: {name}, {value.dtype} on {value.device}, cannot be kept: {said(error)}"
            ) from error
    try:
        net.load_state_dict(dict(net.state_dict()))  # as it is read from a file
    except Exception as error:
        raise TaskError(f"{path}: the network does not take its own state dict: {said(error)}") from error
    try:
        copy.deepcopy(net)
    except Exception as error:
        raise TaskError(f"{path}: the network cannot be copied with copy.deepcopy: {said(error)}") from error
    if not any(value.requires_grad for value in net.parameters()):
        raise TaskError(f"{path}: nothing in the network can learn: no parameter has requires_grad")


def _check_all_is_in_the_state(one: nn.Module, other: nn.Module, images: Tensor, path: Path) -> None:
    """A network that takes another's state dict is that one: runs and oracles are handed on in no other way."""
    advice = "register it as a parameter or buffer, or draw it the same for every network"
    loose, theirs = dict(_loose_numbers(one)), dict(_loose_numbers(other))
    if differing := [name for name, value in loose.items() if not _equal(value, theirs.get(name))]:
        raise TaskError(f"{path}: {differing[0]} differs between networks and is not in their state dict; {advice}")
    generator = torch.Generator().manual_seed(0)
    state = {name: _moved(value, generator) for name, value in one.state_dict().items()}
    answers = []
    for net in (one, other):
        net.load_state_dict(state)
        with seeded(0), torch.no_grad():
            answers.append(net.eval()(images))
    if not torch.allclose(*answers, rtol=1e-3, atol=1e-4 * float(answers[0].abs().max()), equal_nan=True):
        raise TaskError(
            f"{path}: two networks with one state dict answer differently: something is not in it; {advice}"
        )


def _moved(value: Tensor, generator: torch.Generator) -> Tensor:
    """Near a value: a head of zeros would hide all that comes before it."""
    if not value.is_floating_point():
        return value
    return value + 0.1 * torch.randn(value.shape, generator=generator).to(value.dtype)


def _loose_numbers(net: nn.Module) -> Iterator[tuple[str, Any]]:
    """Numbers of a network that its state dict leaves out, by name; whole ones may be settings or counts."""
    kept, of_torch = net.state_dict().keys(), vars(nn.Module()).keys()
    yield from ((name, value) for name, value in net.named_buffers() if name not in kept)
    for name, module in net.named_modules():
        for key, value in vars(module).items():
            if key not in of_torch and isinstance(value, float | Tensor | np.ndarray):
                yield f"{name}.{key}".removeprefix("."), value


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return isinstance(other, Tensor) and torch.equal(one.detach(), other.detach())
    return bool(np.array_equal(one, other))


def _answers(net: nn.Module, images: Tensor, training: bool, task: Task, path: Path) -> Tensor:
    """Logits [n, C]; raises TaskError if the network gives something else."""
    mode, count = "train" if training else "eval", len(images)
    try:
        with seeded(0), torch.set_grad_enabled(training):
            found = net.train(training)(images)
    except Exception as error:
        height, width = images.shape[2:]
        raise TaskError(
            f"{path}: in {mode} mode the network cannot take {count} of the task's images, {images.shape[1]} channels "
            f"of {width}x{height} pixels: {said(error)}; change make_net or the images"
        ) from error
    if not isinstance(found, Tensor):
        raise TaskError(f"{path}: {_advice_on(found, mode, count, task)}")
    if tuple(found.shape) != (count, task.num_classes):
        what = "an image" if count == 1 else f"{count} images"
        raise TaskError(
            f"{path}: the network answers {what} with {tuple(found.shape)}, but num_classes is {task.num_classes}, so "
            f"{(count, task.num_classes)} is needed; change one of them"
        )
    if not found.is_floating_point() or not found.isfinite().all():
        text = f"{found.dtype}" if not found.is_floating_point() else "NaN or infinite values"
        raise TaskError(
            f"{path}: the network answers with {text} in {mode} mode before any training; logits are needed"
        )
    return found


def _advice_on(found: object, mode: str, count: int, task: Task) -> str:
    """What to write if the logits are in something else."""
    text = f"in {mode} mode the network answers with an object of type {type(found).__name__}, and methods need the "
    text += f"logits alone, a tensor [images, {task.num_classes}], in both modes"
    pick = _place_of_logits(found, (count, task.num_classes))
    return text + ("; change its forward()" if pick is None else ". Write" + "\n" + WRAPPER.format(pick=pick))


def _place_of_logits(found: Any, shape: tuple[int, int]) -> str | None:
    """How to take the logits out of an answer, as code."""
    fits = lambda value: isinstance(value, Tensor) and tuple(value.shape) == shape  # noqa: E731
    if fits(getattr(found, "logits", None)):
        return ".logits"
    parts = found.items() if isinstance(found, dict) else enumerate(found) if isinstance(found, list | tuple) else ()
    return next((f"[{key!r}]" for key, value in parts if fits(value)), None)


def _check_step(net: nn.Module, images: Tensor, task: Task, path: Path) -> None:
    """A forward and a backward pass in train mode."""
    logits = _answers(net, images, True, task, path)
    try:
        F.cross_entropy(logits, task.retain.labels[: len(images)].cpu()).backward()
    except Exception as error:
        raise TaskError(f"{path}: the network cannot be trained: {said(error)}") from error
    if all(value.grad is None for value in net.parameters()):
        raise TaskError(f"{path}: no gradient reaches the network's parameters; does forward() detach something?")


def _check_last_batches(net: nn.Module, image: Tensor, task: Task, path: Path) -> None:
    """No batch of a single image comes up that the network's batch norms cannot train on."""
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


def _trains_on_one(net: nn.Module, image: Tensor) -> bool:
    try:
        with torch.no_grad(), seeded(0):
            net.train()(image)
    except ValueError:  # "Expected more than 1 value per channel when training"
        return False
    return True


def said(error: BaseException) -> str:
    """An error's kind and the first line of what it says."""
    return f"{type(error).__name__}: {error}".strip().partition("\n")[0]


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
