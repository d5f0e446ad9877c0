"""A small vision transformer that knows one half of the digits is fine-tuned on the other: no resnet, and no names.

scikit-learn's digits 5 to 9 taught the network that all models start from (`pretrained`, once; its weights come along).
Of the digits 0 to 4, which it has never seen, a training part with wrong labels is what original and oracles are
fine-tuned on, with a new last layer each. That takes a second, so no oracles come along: each machine makes its own.

Whoever brings a transformer will meet the same three points. It needs normalised pixels, where a resnet's batch norms
take raw ones. It is trained one by one, not stacked, so short training is what makes a task quick. And weights that all
models start from are no part of the task's fingerprint here: who changes them renames the task.

How to use it: python -m local_eval grade fanchuan --task digits_vit
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import VisionTransformer

from local_eval.store.sealed import load_state
from local_eval.tasks.digits import load
from local_eval.tasks.recipe import Recipe
from local_eval.tasks.task import Split, Task

CLASSES = 5  # digits 0 to 4 here, 5 to 9 before
SPLIT_SEED = 43
NOISE = 0.15  # share of wrong labels in the training part
FORGET = 48  # images, from digits 0 and 1
MEAN, STD = (78.0,) * 3, (82.0,) * 3  # about those of the images, which are grey
RECIPE = Recipe(epochs=20, lr=3e-3, weight_decay=0.0)
START = Path(__file__).with_name("digits_vit_start.npz")  # seal_state(pretrained(), {})
REMARK = "some training labels are wrong on purpose, so that a few images show another digit than their label"


def task() -> Task:
    """Build the task; takes about 0.1 s."""
    images, labels = half(low=True)
    generator = torch.Generator().manual_seed(SPLIT_SEED)
    order = torch.randperm(len(labels), generator=generator)
    train, validation, test = order.tensor_split([int(0.8 * len(order)), int(0.9 * len(order))])
    wrong = train[torch.randperm(len(train), generator=generator)[: int(NOISE * len(train))]]
    labels[wrong] = (labels[wrong] + torch.randint(1, CLASSES, (len(wrong),), generator=generator)) % CLASSES
    forget = train[labels[train] <= 1][:FORGET]
    retain = train[~torch.isin(train, forget)]
    ids = torch.arange(len(labels))
    everything = Split(images, labels, image_id=ids, person_id=ids, age=labels, mean=MEAN, std=STD)
    parts = {"retain": retain, "forget": forget, "validation": validation, "test": test}
    splits = {name: everything[index] for name, index in parts.items()}
    make_net = partial(started, load_state(START))
    return Task("digits_vit", make_net, recipe=RECIPE, num_classes=CLASSES, notes=(REMARK,), **splits)


def half(low: bool) -> tuple[Tensor, Tensor]:
    """Images uint8 [n, 3, 32, 32] and labels int64 [n], 0 to 4, of the digits below 5 or of the others."""
    images, labels = load()
    chosen = (labels < CLASSES) == low
    return images[chosen], labels[chosen] % CLASSES


def small_vit() -> nn.Module:
    """16 patches of 8 x 8 pixels, two layers of width 48, untrained: 50,000 parameters. Without dropout."""
    return VisionTransformer(
        image_size=32, patch_size=8, num_layers=2, num_heads=4, hidden_dim=48, mlp_dim=96, num_classes=CLASSES
    )


def started(start: dict[str, Tensor]) -> nn.Module:
    """The network with its first weights: those given, and a last layer that is drawn, since torchvision's is zero."""
    net = small_vit()
    net.load_state_dict(start)
    net.heads.head.reset_parameters()
    return net


def pretrained(epochs: int = 60, lr: float = 2e-3) -> dict[str, Tensor]:
    """The state dict that START holds: Adam with a cosine on all images of the digits 5 to 9; half a minute."""
    torch.manual_seed(0)
    images, labels = half(low=False)
    pixels = (images.float() - MEAN[0]) / STD[0]
    net = small_vit()
    optimizer = torch.optim.Adam(net.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs)
    for _ in range(epochs):
        for batch in torch.randperm(len(labels)).split(64):
            optimizer.zero_grad()
            F.cross_entropy(net(pixels[batch]), labels[batch]).backward()
            optimizer.step()
        schedule.step()
    return net.state_dict()
