"""CIFAR-10 as in the organisers' starting kit: forget a tenth of the training images, normalised pixels, resnet18.

    python -m local_eval grade fanchuan --task cifar10 --download               data in ./data
    python -m local_eval grade fanchuan --task cifar10 --data-dir DIR

DIR holds torchvision's cifar-10-batches-py, or image folders train/<class>/*.png and test/<class>/*.png, of CIFAR-10 or
of other images of one size.

The forget set is the kit's if its index file `forget_idx.npy` lies in DIR too (the kit fetches it from
https://storage.googleapis.com/unlearning-challenge/forget_idx.npy), else a fixed tenth of the training images drawn
here. Half of CIFAR's test images are the test set, half the validation set, split as in the kit where torchvision's
files are (folders have another order). How the kit's original
model was trained was not published; original and oracles are both trained by the grader's recipe here, unweighted since
the classes are of one size, so scores do not refer to the kit's weights. Every image is its own person, `age` repeats
the class.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import random_split
from torchvision.models import resnet18

from local_eval.tasks.data.cifar import fetch_cifar, has_python_files, read_cifar
from local_eval.tasks.names import TaskError
from local_eval.tasks.recipe import Recipe
from local_eval.tasks.task import Split, Task

DATA = Path("data")
INDEX_FILE = "forget_idx.npy"
SHARE, SHARE_SEED = 0.1, 0  # of the training images, where there is no index file
HELD_OUT_SEED = 42  # the kit's
MEAN = tuple(255 * v for v in (0.4914, 0.4822, 0.4465))  # the kit's, which sees pixels from 0 to 1
STD = tuple(255 * v for v in (0.2023, 0.1994, 0.2010))
RECIPE = Recipe(epochs=30, lr=1e-4, weight_decay=5e-3, batch_size=64, class_weighted=False)


def task(where: Path = DATA) -> Task:
    """Point it at the folder with torchvision's cifar-10-batches-py, or with image folders train/ and test/."""
    data = read_cifar(where)
    images = torch.cat([data.train_images, data.test_images])
    labels = torch.cat([data.train_labels, data.test_labels])
    ids, trained = torch.arange(len(labels)), len(data.train_labels)
    everything = Split(images, labels, image_id=ids, person_id=ids, age=labels, mean=MEAN, std=STD)
    forget = forget_index(where, trained)
    retain = ids[:trained][~torch.isin(ids[:trained], forget)]
    generator = torch.Generator().manual_seed(HELD_OUT_SEED)
    test, validation = random_split(ids[trained:], [0.5, 0.5], generator=generator)
    parts = {"retain": retain, "forget": forget}
    parts |= {"validation": trained + torch.tensor(validation.indices), "test": trained + torch.tensor(test.indices)}
    splits = {name: everything[index] for name, index in parts.items()}
    net = partial(resnet18, num_classes=data.classes)
    return Task("cifar10", make_net=net, recipe=RECIPE, num_classes=data.classes, **splits)


def download(where: Path = DATA) -> None:
    """Fetch CIFAR-10 by torchvision; raises TaskError if that fails."""
    fetch_cifar(where)


def forget_index(where: Path, trained: int) -> Tensor:
    """int64 [f]: which of the `trained` training images to forget.

    Raises:
        TaskError: there is an index file that cannot be used with these images.
    """
    file = where / INDEX_FILE
    if not file.exists():
        generator = torch.Generator().manual_seed(SHARE_SEED)
        return torch.randperm(trained, generator=generator)[: int(SHARE * trained)]
    if not has_python_files(where):
        raise TaskError(
            f"{file} counts images in the order of torchvision's files and would name others in image folders; remove "
            "it, or use cifar-10-batches-py (--download)"
        )
    try:
        index = np.load(file)
    except (OSError, ValueError, EOFError) as error:
        raise TaskError(f"{file} cannot be read ({error}); fetch it again or remove it") from error
    if index.ndim != 1 or index.dtype.kind not in "iu":
        raise TaskError(f"{file} must hold a list of integers, got {index.dtype} {index.shape}")
    if len(np.unique(index)) != len(index) or len(index) == 0 or index.min() < 0 or index.max() >= trained:
        raise TaskError(f"{file} must name training images from 0 to {trained - 1}, each once, and at least one")
    return torch.from_numpy(index.astype(np.int64))
