"""CF-k: fine-tune the last k layers on the retain set and leave all others as they are.

Team:     none; Goel, Prabhu, Sanyal, Lim, Torr, Kumaraguru 2022, for "catastrophic forgetting"
Rank:     none
Scores:   no competition score known
Source:   arXiv 2201.06640; github.com/shash42/Evaluating-Inexact-Unlearning
Idea:     What a network has memorised of single examples sits in its last layers more than in its first. So these are
          trained on without the forget set, with the large learning rates of a training; what they do not see any more
          they forget.
Uncertain: k, which the paper varies: 1 to 7 of a resnet20's layers, 10 and 50 of a resnet110's. Six are `fc` and all of
          `layer4` in a resnet18, the part that later suites take. The other layers' norms keep their statistics here;
          in the code these move.
Budget:   5 epochs in place of 30, and one cosine, the code's other schedule, in place of warm restarts after 1, 3, 7
          and 15 epochs, which do not fit.
"""

import torch
from torch.optim.lr_scheduler import CosineAnnealingLR

from common.parts import clipped_epoch, last_layers, only_learning

LAYERS = 6
EPOCHS = 5
LR = 0.1
LR_END = 5e-3
MOMENTUM = 0.9
WEIGHT_DECAY = 5e-5
NORM = 10.0  # longest gradient of a step


def unlearning(net, retain_loader, forget_loader, val_loader):
    """Edit `net` in place; only the retain set is read."""
    with only_learning(net, last_layers(net, retain_loader, LAYERS)) as parameters:
        optimizer = torch.optim.SGD(parameters, lr=LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
        schedule = CosineAnnealingLR(optimizer, T_max=EPOCHS, eta_min=LR_END)
        for _ in range(EPOCHS):
            clipped_epoch(net, retain_loader, optimizer, parameters, NORM)
            schedule.step()
