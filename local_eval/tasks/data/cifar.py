"""CIFAR-10 from disk: the python files as torchvision stores them, or image folders.

    WHERE/cifar-10-batches-py/data_batch_1 ...      what torchvision downloads
    WHERE/train/<class>/*.png, WHERE/test/<class>/*.png      or .jpg, .jpeg; classes are numbered by name

CIFAR-10's classes by name are in torchvision's order, so labels are the same either way. Folders may hold any other
images of one size, in any number of classes.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.datasets import CIFAR10

from local_eval.tasks.data.images import image_files, read_images
from local_eval.tasks.names import TaskError


class Cifar(NamedTuple):
    """Both parts: images uint8 [n, 3, H, W], labels int64 [n]; CIFAR's own are 32x32."""

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor

    @property
    def classes(self) -> int:
        """How many there are: every folder holds images, and so do CIFAR's ten."""
        return int(self.train_labels.max()) + 1


def read_cifar(where: Path) -> Cifar:
    """CIFAR-10 from a folder in one of the two layouts; torchvision's files come first if both are there.

    Raises:
        TaskError: neither layout is there, or its files are damaged, incomplete or of several sizes.
    """
    if has_python_files(where):
        return Cifar(*_python_part(where, train=True), *_python_part(where, train=False))
    if not (where / "train").is_dir() or not (where / "test").is_dir():
        if where.absolute().name == CIFAR10.base_folder:
            raise TaskError(f"point at the folder that holds {CIFAR10.base_folder}: {where.absolute().parent}")
        raise TaskError(
            f"no CIFAR-10 in {where}: it needs the folder cifar-10-batches-py that torchvision downloads (--download "
            "does it), or image folders train/<class>/*.png and test/<class>/*.png. --data-dir names another place"
        )
    classes = sorted(folder.name for folder in (where / "train").iterdir() if folder.is_dir())
    if len(classes) < 2:
        raise TaskError(f"{where / 'train'} has {len(classes)} class folders; it takes two classes to tell anything")
    return Cifar(*_folder_part(where / "train", classes), *_folder_part(where / "test", classes))


def has_python_files(where: Path) -> bool:
    """Is this torchvision's layout?"""
    return (where / CIFAR10.base_folder).is_dir()


def fetch_cifar(where: Path) -> None:
    """Let torchvision download and unpack CIFAR-10 (170 MB) into `where`, unless it is there already.

    Raises:
        TaskError: there is no connection, no room, or what arrived is damaged.
    """
    try:
        CIFAR10(root=where, download=True)
    except (OSError, RuntimeError) as error:  # URLError is an OSError; torchvision reports damage by RuntimeError
        raise TaskError(
            f"CIFAR-10 cannot be fetched to {where} ({error}). Try again, or get {CIFAR10.url} by other means and "
            f"unpack it there, so that {where / CIFAR10.base_folder} exists"
        ) from error


def _python_part(where: Path, train: bool) -> tuple[Tensor, Tensor]:
    try:
        part = CIFAR10(root=where, train=train, download=False)
    except RuntimeError as error:  # torchvision compares checksums before it unpickles
        folder = where / CIFAR10.base_folder
        raise TaskError(f"{folder} is damaged or incomplete; delete it and fetch it again with --download") from error
    return torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(part.targets)


def _folder_part(part: Path, classes: list[str]) -> tuple[Tensor, Tensor]:
    """All images of train/ or test/, class by class."""
    foreign = sorted({folder.name for folder in part.iterdir() if folder.is_dir()} - set(classes))
    if foreign:
        raise TaskError(f"{part / foreign[0]}: train/ has no class of that name, only {', '.join(classes)}")
    files = [image_files(part / name) if (part / name).is_dir() else [] for name in classes]
    if empty := [name for name, of_class in zip(classes, files) if not of_class]:
        raise TaskError(f"{part / empty[0]} holds no .png or .jpg images; every class needs some")
    images = read_images([file for of_class in files for file in of_class])
    return images, torch.repeat_interleave(torch.tensor([len(of_class) for of_class in files]))
