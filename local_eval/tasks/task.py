"""What is graded: a network, four splits of images and a training recipe.

A task is a file with a function `task() -> Task`: one of `local_eval/tasks/`, by name, or your own, by path. It says
what data there is and how the original model and the oracles (models retrained without the forget set) are trained.
See `local_eval/tasks/digits.py` for a complete one. A task that reads files has a function `task(where)` instead, and
is named together with the place: `cifar10:/data/cifar`, `manifest:faces.csv`, `my_task.py:/data/mine`.

How to see them: python -m local_eval list
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn

from local_eval.tasks.own_code import Coded
from local_eval.tasks.recipe import Recipe
from local_eval.tasks.weights import Weights, digest_of

BATCH_SIZE = 64  # the competition's, for all three loaders of a submission
TRAINING_VERSION = 2  # raise it when training changes its results: cached originals and oracles are then retrained


@dataclass(frozen=True)
class Split:
    """Examples of one part of the data, all on one device."""

    images: Tensor  # uint8 [n, C, H, W], raw pixels; three channels unless the task says otherwise
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

    def copied(self) -> Split:
        """The same split in memory of its own."""
        return replace(self, **{name: tensor.clone() for name, tensor in self.tensors().items()})

    def __getitem__(self, index: Tensor | slice) -> Split:
        return replace(self, **{name: tensor[index] for name, tensor in self.tensors().items()})

    def __add__(self, other: Split) -> Split:
        theirs = other.tensors()
        return replace(self, **{name: torch.cat([tensor, theirs[name]]) for name, tensor in self.tensors().items()})

    def pixels(self, index: Tensor | slice) -> Tensor:
        """float32 [k, C, H, W]: a fresh copy of some images as the network is to see them."""
        return self.seen(self.images[index])

    def seen(self, raw: Tensor) -> Tensor:
        """float32 [..., C, H, W]: raw pixels, of any images, as the network is to see them; a fresh copy."""
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
class Task:
    """Everything that the stages after it need to know."""

    name: str
    make_net: Callable[[], nn.Module]  # a fresh, untrained network: images [B, C, H, W] -> logits [B, num_classes]
    retain: Split
    forget: Split
    validation: Split
    test: Split
    recipe: Recipe
    num_classes: int = 10
    class_counts: tuple[int, ...] | None = None  # of the original training, where its owner gives them
    original: Weights | None = None  # an original model that exists already; a state dict once the task is loaded
    oracles: Path | None = None  # a file of oracles that come with the task; see oracles/oracles.py
    class_names: tuple[str, ...] = ()  # what people call class 0, 1, 2 ..., where that is not its number
    notes: tuple[str, ...] = ()  # how the data was read where its files left a choice; told before grading
    start: Weights | None = None  # pretrained weights that original and oracles start from; likewise
    train: Callable | None = None  # train(net, loader, seed) in place of the recipe; see oracles/train.py
    network: str = ""  # hash of the text that makes the network, where that is known: a changed `forward` shows in it

    @property
    def splits(self) -> dict[str, Split]:
        """The four splits by name."""
        return {name: getattr(self, name) for name in ("retain", "forget", "validation", "test")}

    def apart(self) -> Task:
        """The same task, each split in memory of its own: a view would keep all that it is a part of."""
        return replace(self, **{name: split.copied() for name, split in self.splits.items()})

    def without_test(self) -> Task:
        """The task with an empty test set; the numbers of the one that it had are overwritten where they lie."""
        for tensor in self.test.tensors().values():
            tensor.zero_()
        return replace(self, test=self.test[:0])

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
        """Short hash of data, network structure and recipe, or what is in its place: what oracles depend on."""
        sha = hashlib.sha256(f"{self.name} {TRAINING_VERSION} {sorted(self.recipe.facts().items())}".encode())
        sha.update(structure(repr(self.make_net())).encode())
        sha.update(repr(self.class_counts).encode() if self.class_counts else b"")
        sha.update(f"start {digest_of(self.start)}".encode() if self.start is not None else b"")
        sha.update(f"train {Coded.of(self.train, 'Task.train').code}".encode() if self.train is not None else b"")
        sha.update(f"make_net {self.make_net.code}".encode() if isinstance(self.make_net, Coded) else b"")
        sha.update(f"network {self.network}".encode() if self.network else b"")
        for name, split in self.splits.items():
            sha.update(f"{name} {split.digest()}".encode())
        return sha.hexdigest()[:12]


def structure(shown: str) -> str:
    """What a network's repr says, in the words of the newest torch, so that a task is the same under each.

    Newer ones say of normalisations whether they have a bias; older ones do not, and there it goes with `affine`.
    """
    shown = re.sub(r" at 0x[0-9a-f]+", "", shown)  # where something lies in memory says nothing of what it is
    return re.sub(r"affine=(True|False), track_running_stats", r"affine=\1, bias=\1, track_running_stats", shown)
