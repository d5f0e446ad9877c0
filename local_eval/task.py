"""What is graded: a network, four splits of images and a training recipe.

A task is a file with a function `task() -> Task`: one of `local_eval/tasks/`, by name, or your own, by path. It says
what data there is and how the original model and the oracles (models retrained without the forget set) are trained.
See `local_eval/tasks/digits.py` for a complete one.

How to see them: python -m local_eval list
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

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
        images = self.images[index].float()
        if self.mean is None:
            return images
        shape = (1, -1, 1, 1)
        mean, std = (torch.tensor(v, device=images.device).view(shape) for v in (self.mean, self.std))
        return (images - mean) / std

    def digest(self) -> str:
        """Short hash of every value; it changes when anything in the split is changed in place."""
        sha = hashlib.sha256(repr((self.mean, self.std)).encode())
        for name, tensor in self.tensors().items():
            sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            sha.update(tensor.contiguous().cpu().numpy().data)
        return sha.hexdigest()[:16]


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
        counts = torch.bincount(torch.cat([self.retain.labels, self.forget.labels]), minlength=self.num_classes)
        return torch.where(counts > 0, 1.0 / counts.clamp(min=1), 0.0).float()

    def fingerprint(self) -> str:
        """Short hash of data, network structure and recipe: what oracles depend on."""
        from local_eval.train import TRAINING_VERSION  # here, because train imports this module

        sha = hashlib.sha256(f"{self.name} {TRAINING_VERSION} {sorted(asdict(self.recipe).items())}".encode())
        sha.update(repr(self.make_net()).encode())
        for name, split in self.splits.items():
            sha.update(f"{name} {split.digest()}".encode())
        return sha.hexdigest()[:12]


def task_path(spec: str) -> Path:
    """The file behind a task's name or path.

    Raises:
        TaskError: there is none; the message lists the names that exist.
    """
    path = Path(spec) if spec.endswith(".py") else TASKS / f"{spec}.py"
    if not path.is_file():
        raise TaskError(
            f"no task {spec!r}: {path} does not exist. Known: {', '.join(task_names())}, or a path to a .py file"
        )
    return path.resolve()


def task_names() -> list[str]:
    """Names of the tasks that come with the kit."""
    return sorted(p.stem for p in TASKS.glob("*.py") if not p.stem.startswith("_"))


def load_task(spec: str) -> Task:
    """Load and check a task by name ('digits') or by path ('my_task.py').

    Raises:
        TaskError: no such task, its file has no `task()`, or its data cannot be graded.
    """
    path = task_path(spec)
    module_spec = importlib.util.spec_from_file_location(f"task_{path.stem}", path)
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[module_spec.name] = module  # dataclasses look their module up there
    module_spec.loader.exec_module(module)
    if not hasattr(module, "task"):
        raise TaskError(f"{path} defines no function task(); see local_eval/tasks/digits.py")
    task = module.task()
    _check(task, path)
    return task


def _check(task: Task, path: Path) -> None:
    seen: dict[int, str] = {}
    for name, split in task.splits.items():
        if len(split) == 0:
            raise TaskError(f"{path}: the {name} set is empty")
        if split.images.dtype != torch.uint8 or split.images.ndim != 4 or split.images.shape[1] != 3:
            found = f"{split.images.dtype} {tuple(split.images.shape)}"
            raise TaskError(f"{path}: {name} images must be uint8 [n, 3, H, W], got {found}")
        if any(len(tensor) != len(split) for tensor in split.tensors().values()):
            raise TaskError(f"{path}: {name} has columns of different lengths")
        low, high = int(split.labels.min()), int(split.labels.max())
        if low < 0 or high >= task.num_classes:
            raise TaskError(f"{path}: {name} labels span {low}..{high}, but there are {task.num_classes} classes")
        for image in split.image_id.tolist():
            if image in seen:
                raise TaskError(f"{path}: image {image} is in {seen[image]} and in {name}; splits must not overlap")
            seen[image] = name
