"""The embedded task: scikit-learn's handwritten digits in the competition's shape. Nothing is downloaded.

1,797 real 8x8 digits (UCI optical recognition, test part) are enlarged to 32x32, three channels, raw 0-255 pixels and
split 80/10/10. The forget set is 5 % of the training part, all of it labelled 0 or 1. A share of the training
labels is wrong: such labels can only be memorised, so a model that saw the forget set gives itself away and there is
something to forget. Writers are not recorded in this copy of the data, so every image is its own person.

The network has torchvision resnet18's modules under its names, at an eighth of its width. The original model comes with
the task, as it came with the competition, so that all machines unlearn the same weights: trained anew on another
processor they would differ. It was trained as `oracles.finish_original` does; without the file, a machine trains its
own.
"""

from __future__ import annotations

from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.resnet import BasicBlock, ResNet

from local_eval.engine.sealed import load_state
from local_eval.tasks.task import Recipe, Split, Task

WIDTH = 8  # channels of layer1; torchvision's resnet18 has 64
SPLIT_SEED = 43
NOISE = 0.10  # share of wrong labels in the training part
FORGET = 72  # images, from digits 0 and 1
RECIPE = Recipe(epochs=10, lr=1e-3, weight_decay=2e-2)
REMARK = "one training label in ten is wrong on purpose, so that a few images show another digit than their label"
ORIGINAL = Path(__file__).with_name("digits_original.npz")  # a copy of outputs/digits-<fingerprint>/original.npz
ORACLES = Path(__file__).with_name("digits_oracles.npz")  # 256, by `oracles --runs 256 --save-pool`


def task() -> Task:
    """Build the task; takes about 0.1 s."""
    images, labels = load()
    generator = torch.Generator().manual_seed(SPLIT_SEED)
    order = torch.randperm(len(labels), generator=generator)
    train, validation, test = order.tensor_split([int(0.8 * len(order)), int(0.9 * len(order))])
    labels = with_wrong_labels(labels, train, generator)
    from_two_classes = train[labels[train] <= 1]
    forget = from_two_classes[:FORGET]
    retain = train[~torch.isin(train, forget)]
    everything = Split(images, labels, image_id=(ids := torch.arange(len(labels))), person_id=ids, age=labels)
    parts = {"retain": retain, "forget": forget, "validation": validation, "test": test}
    splits = {name: everything[index] for name, index in parts.items()}
    return Task(
        name="digits", make_net=narrow_resnet18, recipe=RECIPE, original=original_model(), oracles=ORACLES,
        notes=(REMARK,), **splits,
    )  # fmt: skip


def original_model() -> dict[str, Tensor] | None:
    """State dict of the original model that comes with the task, if its file is there."""
    return load_state(ORIGINAL) if ORIGINAL.exists() else None


def load() -> tuple[Tensor, Tensor]:
    """Images uint8 [1797, 3, 32, 32] and labels int64 [1797]."""
    digits = load_digits()
    small = torch.from_numpy(digits.images).float()[:, None] * (255 / 16)
    large = F.interpolate(small, size=(32, 32), mode="bilinear", align_corners=False)
    return large.round().to(torch.uint8).expand(-1, 3, -1, -1).contiguous(), torch.from_numpy(digits.target).long()


def with_wrong_labels(labels: Tensor, train: Tensor, generator: torch.Generator) -> Tensor:
    """Labels with a share NOISE of those at `train` moved to another class; the rest are untouched."""
    wrong = train[torch.randperm(len(train), generator=generator)[: int(NOISE * len(train))]]
    shift = torch.randint(1, 10, (len(wrong),), generator=generator)
    labels = labels.clone()
    labels[wrong] = (labels[wrong] + shift) % 10
    return labels


class NarrowResNet(ResNet):
    """torchvision's ResNet with resnet18's blocks and a free width; state dict names are resnet18's."""

    def __init__(self, width: int, num_classes: int):
        super().__init__(BasicBlock, [2, 2, 2, 2], num_classes=num_classes)
        self.inplanes = width
        self.conv1 = nn.Conv2d(3, width, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = self._make_layer(BasicBlock, width, 2)
        self.layer2 = self._make_layer(BasicBlock, 2 * width, 2, stride=2)
        self.layer3 = self._make_layer(BasicBlock, 4 * width, 2, stride=2)
        self.layer4 = self._make_layer(BasicBlock, 8 * width, 2, stride=2)
        self.fc = nn.Linear(8 * width, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # as ResNet.__init__ does for the layers that these replace
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def narrow_resnet18() -> nn.Module:
    """resnet18 at an eighth of its width, untrained."""
    return NarrowResNet(WIDTH, num_classes=10)
