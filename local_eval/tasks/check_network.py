"""Can a task's network be graded? Whatever of it could only come out in training is tried when the task loads.

Three networks are made, or one if it is the kit's own, and two images are shown to them. A fault is the task's, told in
a sentence with its file, so that it is not blamed on a submission hours later.

How it is used: `check_network(task, path)` in check.py.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parameter import is_lazy

from local_eval.engine.randomness import seeded
from local_eval.tasks.evaluate import initial_net
from local_eval.tasks.names import TaskError
from local_eval.tasks.own_code import Coded
from local_eval.tasks.task import BATCH_SIZE, Task, structure

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
        _check_training(nets[0], images, task, path)
    _check_last_batches(nets[0], images[:1], task, path)
    if len(nets) > 1:
        _check_all_is_in_the_state(nets[1], nets[2], images, path)


def _known(make_net: object) -> bool:
    """Is it this kit's or torchvision's, which give fresh networks that are all in their state dict?"""
    while isinstance(make_net, partial | Coded):
        make_net = make_net.func if isinstance(make_net, partial) else make_net.function
    file = getattr(sys.modules.get(getattr(make_net, "__module__", "")), "__file__", None)
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
    for name, value in _tensors(nets[0]):
        again = dict(_tensors(nets[min(1, len(nets) - 1)]))[name]
        if not torch.equal(value.detach(), again.detach()):
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


def _check_training(net: nn.Module, images: Tensor, task: Task, path: Path) -> None:
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
