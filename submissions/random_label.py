"""Random labels: teach random answers on the forget set while fine-tuning on the retain set.

Team:     none; Amnesiac unlearning (Graves et al. 2021), RL in the literature
Rank:     none
Scores:   no competition score known
Source:   arXiv 2010.10981
Idea:     A wrong label, drawn anew each time a forget example is seen, destroys what was memorised of it. The retain
          set is trained along to keep the rest.
Uncertain: constants are ours: the starter's optimiser with three epochs. Labels are drawn among the other classes.
"""

import torch
from torch.optim.lr_scheduler import CosineAnnealingLR

from common.losses import wrong_label_cross_entropy
from common.training import one_epoch

EPOCHS = 3
LR = 1e-3
MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4


def unlearning(net, retain_loader, forget_loader, val_loader):
    """Edit `net` in place; each epoch is a pass over the forget set, then one over the retain set."""
    optimizer = torch.optim.SGD(net.parameters(), lr=LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    schedule = CosineAnnealingLR(optimizer, T_max=EPOCHS)
    net.train()
    for _ in range(EPOCHS):
        one_epoch(net, forget_loader, optimizer, wrong_label_cross_entropy)
        one_epoch(net, retain_loader, optimizer)
        schedule.step()
    net.eval()
