"""A task of the competition's size whose images are noise: for speed, which does not follow what images show."""

from __future__ import annotations

from functools import partial

import torch
from torchvision.models import resnet18

from local_eval.tasks.competition_like import CLASSES, RECIPE
from local_eval.tasks.task import Split, Task

SIZES = {"retain": 23_521, "forget": 479, "validation": 3_000, "test": 3_000}  # competition_like's


def task() -> Task:
    """resnet18 and the official recipe on random pixels and classes; the same every time."""
    generator, splits, first = torch.Generator().manual_seed(0), {}, 0
    for name, size in SIZES.items():
        images = torch.randint(0, 256, (size, 3, 32, 32), dtype=torch.uint8, generator=generator)
        labels = torch.randint(0, CLASSES, (size,), generator=generator)
        ids = torch.arange(first, first + size)
        splits[name] = Split(images, labels, image_id=ids, person_id=ids // 8, age=10 * labels)
        first += size
    return Task("noise", make_net=partial(resnet18, num_classes=CLASSES), recipe=RECIPE, **splits)
