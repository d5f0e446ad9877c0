"""EU-k: draw the last k layers anew and train them from scratch on the retain set.

Team:     none; Goel, Prabhu, Sanyal, Lim, Torr, Kumaraguru 2022, for "exact unlearning"
Rank:     none
Scores:   no competition score known
Source:   arXiv 2201.06640; github.com/shash42/Evaluating-Inexact-Unlearning
Idea:     Layers that are drawn anew and have never seen the forget set know nothing of it. What the layers before them
          know of it stays.
Uncertain: k, as for CF-k: six are `fc` and all of `layer4` in a resnet18. Norms among the k layers are drawn anew too;
          the code redraws convolutions and linear layers alone. The other layers' norms keep their statistics here.
Budget:   5 epochs in place of 62, and one cosine, the code's other schedule, in place of warm restarts after 1, 3, 7,
          15 and 31 epochs, which do not fit.
"""

import torch
from torch.optim.lr_scheduler import CosineAnnealingLR

from common.parts import clipped_epoch, last_layers, only_learning
from common.reinit import reset_layers

LAYERS = 6
EPOCHS = 5
LR = 0.1
LR_END = 5e-3
MOMENTUM = 0.9
WEIGHT_DECAY = 5e-5
NORM = 10.0  # longest gradient of a step


def unlearning(net, retain_loader, forget_loader, val_loader):
    """Edit `net` in place; only the retain set is read."""
    layers = last_layers(net, retain_loader, LAYERS)
    reset_layers(net, layers)
    with only_learning(net, layers) as parameters:
        optimizer = torch.optim.SGD(parameters, lr=LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
        schedule = CosineAnnealingLR(optimizer, T_max=EPOCHS, eta_min=LR_END)
        for _ in range(EPOCHS):
            clipped_epoch(net, retain_loader, optimizer, parameters, NORM)
            schedule.step()
