"""L1-sparse: fine-tune on the retain set with an L1 penalty that fades out.

Team:     none; Jia, Liu, Ram, Yao, Liu, Liu, Sharma, Liu 2023
Rank:     none
Scores:   no competition score known
Source:   arXiv 2304.04934
Idea:     A sparser model forgets more easily. Fine-tuning with an L1 penalty removes weights that only the forget set
          needed, and the penalty fades linearly so that accuracy comes back.
Uncertain: learning rate and epochs are ours (the starter's, three epochs); the penalty is the paper's 5e-4. It is
          applied to all parameters, batch norm too, as in the paper's code.
At 32x32: the taps of layer4 that see only padding (62 % of a torchvision resnet18) have no other gradient, so the
          penalty's first effect is to shrink weights that compute nothing (tests/oracles/test_dead_taps.py).
"""

import torch
from torch.nn import functional as F
from torch.optim.lr_scheduler import CosineAnnealingLR

from common.training import one_epoch

PENALTY = 5e-4  # in the first epoch; falls linearly, to PENALTY / EPOCHS in the last
EPOCHS = 3
LR = 1e-3
MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4


def unlearning(net, retain_loader, forget_loader, val_loader):
    """Edit `net` in place; only the retain set is read."""
    optimizer = torch.optim.SGD(net.parameters(), lr=LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    schedule = CosineAnnealingLR(optimizer, T_max=EPOCHS)
    net.train()
    for epoch in range(EPOCHS):
        penalty = PENALTY * (1 - epoch / EPOCHS)
        one_epoch(net, retain_loader, optimizer, lambda z, y: F.cross_entropy(z, y) + penalty * l1_norm(net))
        schedule.step()
    net.eval()


def l1_norm(net):
    """Sum of |w| over all parameters."""
    return sum(parameter.abs().sum() for parameter in net.parameters())
