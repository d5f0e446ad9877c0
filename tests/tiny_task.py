"""A task that trains in well under a second: tiny images of noise around a class pattern, a narrow resnet18."""

import torch

from local_eval.tasks.digits import NarrowResNet
from local_eval.tasks.recipe import Recipe
from local_eval.tasks.task import Split, Task

RECIPE = Recipe(epochs=1, lr=1e-2, weight_decay=0.0)
SIZES = {"retain": 96, "forget": 16, "validation": 24, "test": 24}


def task() -> Task:
    """Three classes; forget examples belong to four persons."""
    generator = torch.Generator().manual_seed(0)
    patterns = torch.randint(0, 256, (3, 3, 16, 16), generator=generator)
    splits, first = {}, 0
    for name, size in SIZES.items():
        labels = torch.randint(0, 3, (size,), generator=generator)
        noise = torch.randint(-80, 80, (size, 3, 16, 16), generator=generator)
        images = (patterns[labels] + noise).clamp(0, 255).to(torch.uint8)
        ids = torch.arange(first, first + size)
        splits[name] = Split(images, labels, image_id=ids, person_id=ids // 4, age=labels * 10)
        first += size
    return Task(name="tiny", make_net=tiny_net, recipe=RECIPE, num_classes=3, **splits)


def tiny_net():
    """A resnet18 with two channels where torchvision has 64."""
    return NarrowResNet(2, num_classes=3)
