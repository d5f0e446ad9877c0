"""The official starter: fine-tune on the retain set for one epoch.

Team:     the organisers (starter notebook `run-unlearn-finetune`)
Rank:     the baseline; 40 % of all entries beat it
Scores:   public 0.0464 +- 0.0031 (mean of repeats by team Forget), private 0.0609 (mean of 3)
Source:   the competition's starting notebook
Idea:     Training on without the forget set lets the network drift away from what it memorised of it. The dose is
          small, so utility is kept. Every run sees another order of the data, which is all the spread there is.
Uncertain: nothing.
"""

import torch
from torch.optim.lr_scheduler import CosineAnnealingLR

from common.training import one_epoch

EPOCHS = 1
LR = 1e-3
MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4


def unlearning(net, retain_loader, forget_loader, val_loader):
    """Edit `net` in place; only the retain set is read."""
    optimizer = torch.optim.SGD(net.parameters(), lr=LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    schedule = CosineAnnealingLR(optimizer, T_max=EPOCHS)
    net.train()
    for _ in range(EPOCHS):
        one_epoch(net, retain_loader, optimizer)
        schedule.step()
    net.eval()
