"""Gradient ascent on the forget set: what everybody tries first, and why it fails.

Team:     none; NegGrad in the literature
Rank:     would be last: team Forget measured 0.0001 +- 0.0001 on the public board
Scores:   see above
Source:   Golatkar et al. 2020 and many after; no public constants for the competition
Idea:     Climb the loss of the forget set. The network then gives worse answers on it than one that never saw it, which
          tells an attacker as much as better ones would, and takes the rest of its knowledge along.
Uncertain: all constants are ours: the starter's optimiser, five epochs.
"""

import torch
from torch.nn import functional as F

from common.training import one_epoch

EPOCHS = 5
LR = 1e-3
MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4


def unlearning(net, retain_loader, forget_loader, val_loader):
    """Edit `net` in place; only the forget set is read."""
    optimizer = torch.optim.SGD(net.parameters(), lr=LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    net.train()
    for _ in range(EPOCHS):
        one_epoch(net, forget_loader, optimizer, lambda logits, targets: -F.cross_entropy(logits, targets))
    net.eval()
