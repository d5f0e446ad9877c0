"""Rank 6: Algorithmic Amnesiacs. Reset the first and the last layer, then distil the original back in.

Team:     Algorithmic Amnesiacs (Karypidis, Perifanis and others; Deep Unlearn: KDE)
Rank:     6
Scores:   private 0.07831 (this version), 0.07219 (warm-up on all classes); public 0.08324 and 0.08383
Source:   kaggle.com/code/stathiskaripidis/unlearning-by-resetting-layers-7th-on-private-lb and the team's write-up
Idea:     conv1 and fc differ most between a full and a retrained model, so both are reset. A warm-up distils the
          original's outputs on validation examples, which were never trained on. Then three epochs on the retain set
          with cross-entropy and two distillation terms.
Uncertain: the ranked version warms up on validation examples of classes 0 and 1 only, where the forget set lies; public
          copies of the code use all classes. The code's softmax cross-entropy applies log_softmax twice, which changes
          nothing. The forget set is not read.
"""

import copy

import torch
from torch.nn import functional as F
from torch.optim.lr_scheduler import CosineAnnealingLR

from common.loaders import only_classes
from common.losses import soft_cross_entropy, temperature_kl
from common.reinit import reset_layers
from common.roles import find_roles
from common.training import inputs, step

RESET = ("stem", "head")  # in resnet18 `conv1` and `fc`; names of layers are understood too
WARM_UP_CLASSES = (0, 1)  # () for all
WARM_UP_EPOCHS = 3
WARM_UP_LR = 9e-4
EPOCHS = 3
LR = 1e-3
MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4
TEMPERATURE = 5.0


def unlearning(net, retain_loader, forget_loader, val_loader):
    """Edit `net` in place; reads the retain and the validation set."""
    teacher = copy.deepcopy(net).eval()
    reset_layers(net, find_roles(net, retain_loader).layers(RESET))
    net.train()

    optimizer = torch.optim.SGD(net.parameters(), lr=WARM_UP_LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    warm_up = only_classes(val_loader, WARM_UP_CLASSES) if WARM_UP_CLASSES else val_loader
    for _ in range(WARM_UP_EPOCHS):
        distil(net, teacher, warm_up, optimizer, lambda z, t, y: temperature_kl(z, t, TEMPERATURE))

    optimizer = torch.optim.SGD(net.parameters(), lr=LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    schedule = CosineAnnealingLR(optimizer, T_max=EPOCHS)
    for _ in range(EPOCHS):
        distil(net, teacher, retain_loader, optimizer, all_three)
        schedule.step()
    net.eval()


def all_three(logits, teacher_logits, targets):
    """The fine-tuning loss; its three terms have coefficient 1."""
    soft = soft_cross_entropy(logits, teacher_logits, TEMPERATURE)
    return soft + F.cross_entropy(logits, targets) + temperature_kl(logits, teacher_logits, TEMPERATURE)


def distil(net, teacher, loader, optimizer, loss):
    """One epoch with loss(student logits, teacher logits, classes)."""
    for batch in loader:
        images, targets = inputs(batch, net)
        with torch.no_grad():
            teacher_logits = teacher(images)
        step(optimizer, loss(net(images), teacher_logits, targets))
