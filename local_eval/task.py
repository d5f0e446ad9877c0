"""What is graded: a network, four splits of images and a training recipe.

A task is a file with a function `task() -> Task`: one of `local_eval/tasks/`, by name, or your own, by path. It says
what data there is and how the original model and the oracles (models retrained without the forget set) are trained.
See `local_eval/tasks/digits.py` for a complete one. A task that reads files has a function `task(where)` instead, and
is named together with the place: `cifar10:/data/cifar`, `manifest:faces.csv`, `my_task.py:/data/mine`.

How to see them: python -m local_eval list
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

TASKS = Path(__file__).parent / "tasks"


class TaskError(ValueError):
    """The task cannot be used; the message names the file or split, what is wrong and what to do."""


@dataclass(frozen=True)
class Split:
    """Examples of one part of the data, all on one device."""

    images: Tensor  # uint8 [n, 3, H, W], raw pixels
    labels: Tensor  # int64 [n], the class: `age_group` in a batch
    image_id: Tensor  # int64 [n]
    person_id: Tensor  # int64 [n]; examples of one person are resampled together
    age: Tensor  # int64 [n]
    mean: tuple[float, ...] | None = None  # per channel, in pixels; None leaves images raw, as in the competition
    std: tuple[float, ...] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def tensors(self) -> dict[str, Tensor]:
        """The tensors by field name."""
        return {f.name: value for f in fields(self) if isinstance(value := getattr(self, f.name), Tensor)}

    def to(self, device: torch.device | str) -> Split:
        """The same split on another device."""
        return replace(self, **{name: tensor.to(device) for name, tensor in self.tensors().items()})

    def __getitem__(self, index: Tensor | slice) -> Split:
        return replace(self, **{name: tensor[index] for name, tensor in self.tensors().items()})

    def __add__(self, other: Split) -> Split:
        theirs = other.tensors()
        return replace(self, **{name: torch.cat([tensor, theirs[name]]) for name, tensor in self.tensors().items()})

    def pixels(self, index: Tensor | slice) -> Tensor:
        """float32 [k, 3, H, W]: a fresh copy of some images as the network is to see them."""
        return self.seen(self.images[index])

    def seen(self, raw: Tensor) -> Tensor:
        """float32 [..., 3, H, W]: raw pixels, of any images, as the network is to see them; a fresh copy."""
        images = raw.float()
        if self.mean is None:
            return images
        return (images - _per_channel(self.mean, images.device)) / _per_channel(self.std, images.device)

    def digest(self) -> str:
        """Short hash of every value; it changes when anything in the split is changed in place."""
        sha = hashlib.sha256(repr((self.mean, self.std)).encode())
        for name, tensor in self.tensors().items():
            sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            sha.update(tensor.contiguous().cpu().numpy().data)
        return sha.hexdigest()[:16]


@lru_cache(maxsize=8)
def _per_channel(values: tuple[float, ...], device: torch.device) -> Tensor:
    """float32 [C, 1, 1]; kept, since a copy to a GPU for every batch would make it wait."""
    return torch.tensor(values, device=device).view(-1, 1, 1)


@dataclass(frozen=True)
class Recipe:
    """How original and oracles are trained: Adam with coupled weight decay, cosine per epoch, cross-entropy."""

    epochs: int
    lr: float
    weight_decay: float
    batch_size: int = 64
    class_weighted: bool = True  # weight 1 / count(class) of the whole training set, for oracles too, as officially


@dataclass(frozen=True)
class Task:
    """Everything that the stages after it need to know."""

    name: str
    make_net: Callable[[], nn.Module]  # a fresh, untrained network with torchvision resnet18's module names
    retain: Split
    forget: Split
    validation: Split
    test: Split
    recipe: Recipe
    num_classes: int = 10
    class_counts: tuple[int, ...] | None = None  # of the original training, where its owner gives them
    original: dict[str, Tensor] | None = None  # state dict of an original model that exists already

    @property
    def splits(self) -> dict[str, Split]:
        """The four splits by name."""
        return {name: getattr(self, name) for name in ("retain", "forget", "validation", "test")}

    def to(self, device: torch.device | str) -> Task:
        """The same task with its data on another device."""
        return replace(self, **{name: split.to(device) for name, split in self.splits.items()})

    def class_weights(self) -> Tensor | None:
        """float32 [C]: 1 / occurrences in retain and forget together, or None. An absent class weighs 0."""
        if not self.recipe.class_weighted:
            return None
        if self.class_counts is not None:
            counts = torch.tensor(self.class_counts, device=self.retain.labels.device)
        else:
            counts = torch.bincount(torch.cat([self.retain.labels, self.forget.labels]), minlength=self.num_classes)
        return torch.where(counts > 0, 1.0 / counts.clamp(min=1), 0.0).float()

    def fingerprint(self) -> str:
        """Short hash of data, network structure and recipe: what oracles depend on."""
        from local_eval.train import TRAINING_VERSION  # here, because train imports this module

        sha = hashlib.sha256(f"{self.name} {TRAINING_VERSION} {sorted(asdict(self.recipe).items())}".encode())
        sha.update(repr(self.make_net()).encode())
        sha.update(repr(self.class_counts).encode() if self.class_counts else b"")
        for name, split in self.splits.items():
            sha.update(f"{name} {split.digest()}".encode())
        return sha.hexdigest()[:12]


def split_spec(spec: str) -> tuple[Path, str | None]:
    """The file of a task, and the place of its data if the spec names one: 'cifar10:/data' or 'my_task.py:/data'.

    Raises:
        TaskError: there is no such task; the message lists the names that exist.
    """
    name, colon, where = spec.partition(":")
    if not (TASKS / f"{name}.py").is_file():
        head, colon, where = spec.partition(".py:") if ".py:" in spec else (spec.removesuffix(".py"), "", "")
        name = f"{head}.py" if colon or spec.endswith(".py") else spec
    path = Path(name) if name.endswith(".py") else TASKS / f"{name}.py"
    if not path.is_file():
        raise TaskError(
            f"no task {name!r}: {path} does not exist. Known: {', '.join(task_names())}, or a path to a .py file"
        )
    return path.resolve(), where if colon else None


def task_names() -> list[str]:
    """Names of the tasks that come with the kit."""
    return sorted(p.stem for p in TASKS.glob("*.py") if not p.stem.startswith("_"))


def load_task(spec: str) -> Task:
    """Load and check a task by name ('digits'), name and place ('cifar10:/data') or path ('my_task.py').

    Raises:
        TaskError: no such task, its file has no `task()`, or its data cannot be read or graded.
    """
    path, where = split_spec(spec)
    from local_eval.task_check import check_task  # here, because it imports this module

    task = _call(task_module(path).task, spec, path, where)
    check_task(task, path)
    return task


def _call(function: Callable, spec: str, path: Path, where: str | None) -> Any:
    """Call a task file's `task` or `download` with the place of its data, if there is one; raises TaskError."""
    parameters = inspect.signature(function).parameters
    if where is not None and not parameters:
        raise TaskError(f"the task {path.stem} reads no files, so it cannot use {where}; leave ':{where}' out")
    if where is None and any(p.default is p.empty for p in parameters.values()):
        raise TaskError(f"the task {path.stem} needs data: --task {spec}:PATH. {inspect.getdoc(function) or ''}")
    return function(*([] if where is None else [Path(where).expanduser()]))


def download_task(spec: str) -> None:
    """Fetch the data of a task that can be fetched, to the place that the spec names or the task's default.

    Raises:
        TaskError: the task has no `download`, or what its `download` raises.
    """
    path, where = split_spec(spec)
    module = task_module(path)
    if not hasattr(module, "download"):
        raise TaskError(f"the task {path.stem} has nothing to download; leave --download out")
    _call(module.download, spec, path, where)


def task_module(path: Path) -> ModuleType:
    """The imported file of a task. Raises TaskError if it has no function `task`."""
    module_spec = importlib.util.spec_from_file_location(f"task_{path.stem}", path)
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[module_spec.name] = module  # dataclasses look their module up there
    module_spec.loader.exec_module(module)
    if not hasattr(module, "task"):
        raise TaskError(f"{path} defines no function task(); see local_eval/tasks/digits.py")
    return module
