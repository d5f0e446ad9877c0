"""A task that trains in well under a second: tiny images of noise around a class pattern, a narrow resnet18."""

import torch
from torch import nn
from torchvision.models.resnet import BasicBlock

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


class TinyResNet(NarrowResNet):
    """A NarrowResNet that is made at once: NarrowResNet draws eleven million weights before it has its few."""

    def __init__(self, width: int, num_classes: int):
        nn.Module.__init__(self)
        self._norm_layer, self.inplanes, self.dilation, self.groups, self.base_width = nn.BatchNorm2d, width, 1, 1, 64
        self.conv1 = nn.Conv2d(3, width, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1, self.relu, self.maxpool = nn.BatchNorm2d(width), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)
        self.layer1 = self._make_layer(BasicBlock, width, 2)
        self.layer2 = self._make_layer(BasicBlock, 2 * width, 2, stride=2)
        self.layer3 = self._make_layer(BasicBlock, 4 * width, 2, stride=2)
        self.layer4 = self._make_layer(BasicBlock, 8 * width, 2, stride=2)
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d((1, 1)), nn.Linear(8 * width, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def tiny_net():
    """A resnet18 with two channels where torchvision has 64."""
    return TinyResNet(2, num_classes=3)
