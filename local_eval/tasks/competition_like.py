"""CIFAR-10 cut to the competition's shape: its sizes, its unbalanced classes, its persons with near-duplicate frames.

    python -m local_eval grade fanchuan --task competition_like --download      data in ./data
    python -m local_eval grade fanchuan --task competition_like --data-dir DIR

DIR is the one of the task cifar10. For those who lack the competition's faces: network, recipe, raw 0-255 pixels and
the official class weights are the competition's, and so are 24,000 training, 3,000 validation and 3,000 test images.
To be forgotten are 2 % of the training images in whole persons (479), nine tenths of class 0 and the rest of class 1.

A person is a CIFAR image with 7 jittered copies that stand for the frames of a video; there are 3,750, where the
competition had about 1,000. As officially, frames are split by image: validation and test hold frames of persons that
are in the training part, forgotten ones too, which makes test accuracy higher than among strangers; a person of the
training part is wholly in retain or wholly in forget. `age` is a stand-in: ten times the class, as if classes were
decades.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision.models import resnet18

from local_eval.tasks.data.cifar import fetch_cifar, read_cifar
from local_eval.tasks.names import TaskError
from local_eval.tasks.recipe import Recipe
from local_eval.tasks.task import Split, Task

DATA = Path("data")
CLASSES = 10
TOTAL, FRAMES = 30_000, 8  # images in all, images a person
CLASS_RATIO = 0.5  # every class has half as many persons as the one before; class 0 has half of all
FORGET_SHARE = 0.02  # of the training images
FORGET_FROM_CLASS_1 = 0.1  # of the forget images; the rest is of class 0
SHIFT = 2  # pixels at most, in each direction; what moves in from outside is a reflection
BRIGHTNESS = 0.1  # at most this share brighter or darker
SEED = 43
RECIPE = Recipe(epochs=30, lr=1e-4, weight_decay=5e-3, batch_size=64, class_weighted=True)


def task(where: Path = DATA) -> Task:
    """Point it at the folder with torchvision's cifar-10-batches-py, or with image folders train/ and test/."""
    data = read_cifar(where)
    if data.classes != CLASSES:
        raise TaskError(f"{where} has {data.classes} classes; competition_like is cut from the {CLASSES} of CIFAR-10")
    images = torch.cat([data.train_images, data.test_images])
    return build(images, torch.cat([data.train_labels, data.test_labels]))


def download(where: Path = DATA) -> None:
    """Fetch CIFAR-10 by torchvision; raises TaskError if that fails."""
    fetch_cifar(where)


def build(images: Tensor, labels: Tensor, total: int = TOTAL, frames: int = FRAMES) -> Task:
    """The task from base images uint8 [n, 3, H, W] and labels int64 [n] in 0..9; the same for the same arguments.

    Raises:
        TaskError: a class has too few base images for `total // frames` persons.
    """
    generator = torch.Generator().manual_seed(SEED)
    base = draw_persons(labels, total // frames, generator)
    person = torch.arange(len(base)).repeat_interleave(frames)
    pixels, of_image = jittered(images[base], frames, generator), labels[base][person]
    everything = Split(pixels, of_image, torch.arange(len(person)), person, age=10 * of_image)
    order = torch.randperm(len(person), generator=generator)
    train, validation, test = order.tensor_split([int(0.8 * len(order)), int(0.9 * len(order))])
    leaving = torch.isin(person[train], forget_persons(person[train], labels[base], generator))
    parts = {"retain": train[~leaving], "forget": train[leaving], "validation": validation, "test": test}
    splits = {name: everything[index] for name, index in parts.items()}
    return Task("competition_like", make_net=partial(resnet18, num_classes=CLASSES), recipe=RECIPE, **splits)


def draw_persons(labels: Tensor, persons: int, generator: torch.Generator) -> Tensor:
    """int64 [persons]: which images become persons, class by class; what rounding leaves over goes to class 0."""
    shares = CLASS_RATIO ** torch.arange(CLASSES, dtype=torch.float64)
    wanted = (persons * shares / shares.sum()).long()
    wanted[0] += persons - wanted.sum()
    drawn = []
    for of_class, count in enumerate(wanted.tolist()):
        there = torch.nonzero(labels == of_class).flatten()
        if len(there) < count:
            raise TaskError(f"class {of_class} needs {count} images for {persons} persons, but there are {len(there)}")
        drawn.append(there[torch.randperm(len(there), generator=generator)[:count]])
    return torch.cat(drawn)


def jittered(base: Tensor, frames: int, generator: torch.Generator) -> Tensor:
    """uint8 [p * frames, 3, H, W]: of each base image itself and then frames - 1 shifted, brighter or darker copies."""
    count, (height, width) = len(base) * frames, base.shape[2:]
    shift = torch.randint(0, 2 * SHIFT + 1, (count,), generator=generator) * (2 * SHIFT + 1)
    shift += torch.randint(0, 2 * SHIFT + 1, (count,), generator=generator)
    factor = 1 + BRIGHTNESS * (2 * torch.rand(count, generator=generator) - 1)
    padded = np.pad(base.numpy(), ((0, 0), (0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT)), mode="reflect")
    padded, out = torch.from_numpy(padded), base.repeat_interleave(frames, dim=0)
    is_copy = torch.arange(count) % frames > 0
    for window in range((2 * SHIFT + 1) ** 2):  # images of one shift at a time: few steps, little memory
        here = torch.nonzero(is_copy & (shift == window)).flatten()
        down, right = divmod(window, 2 * SHIFT + 1)
        moved = padded[here // frames, :, down : down + height, right : right + width].float()
        out[here] = (moved * factor[here].view(-1, 1, 1, 1)).round_().clamp_(0, 255).to(torch.uint8)
    return out


def forget_persons(person: Tensor, class_of: Tensor, generator: torch.Generator) -> Tensor:
    """Whole persons of class 1 and then of class 0 whose images come close to FORGET_SHARE of the training part.

    `person` [n] says whose the training images are, `class_of` [persons] of which class everybody is. Persons are gone
    through in a seeded order, and everybody whose images still fit is taken: never more than the share.
    """
    counts = torch.bincount(person, minlength=len(class_of))
    wanted = int(FORGET_SHARE * len(person))
    order = torch.randperm(len(class_of), generator=generator)
    order = order[counts[order] > 0]
    few = _fitting(order[class_of[order] == 1], counts, int(FORGET_FROM_CLASS_1 * wanted))
    most = _fitting(order[class_of[order] == 0], counts, wanted - sum(int(counts[p]) for p in few))
    return torch.tensor(few + most, dtype=torch.int64)


def _fitting(candidates: Tensor, counts: Tensor, room: int) -> list[int]:
    """The persons, in their order, whose images still fit into what is left of `room`."""
    taken = []
    for person, images in zip(candidates.tolist(), counts[candidates].tolist()):
        if images <= room:
            taken.append(person)
            room -= images
    return taken
