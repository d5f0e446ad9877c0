"""NegGrad+: descend on the retain set and climb on the forget set in one loss.

Team:     none; the baseline of that name in Kurmanji et al. 2023 (SCRUB), a strong one in Deep Unlearn
Rank:     none
Scores:   no competition score known
Source:   arXiv 2302.09880
Idea:     loss = ALPHA x retain loss - (1 - ALPHA) x forget loss. The retain term repairs what the ascent destroys. The
          weight of the ascent is all there is to tune.
Uncertain: constants are ours: the starter's optimiser with three epochs; the paper tunes ALPHA per data set, up to
          0.9999.
"""

import torch
from torch.nn import functional as F
from torch.optim.lr_scheduler import CosineAnnealingLR

from common.loaders import endless
from common.training import inputs, step

EPOCHS = 3
ALPHA = 0.95
LR = 1e-3
MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4


def unlearning(net, retain_loader, forget_loader, val_loader):
    """Edit `net` in place; every retain batch is paired with a forget batch."""
    optimizer = torch.optim.SGD(net.parameters(), lr=LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    schedule = CosineAnnealingLR(optimizer, T_max=EPOCHS)
    forget_batches = endless(forget_loader)
    net.train()
    for _ in range(EPOCHS):
        for retain_batch in retain_loader:
            keep, kept_targets = inputs(retain_batch, net)
            drop, dropped_targets = inputs(next(forget_batches), net)
            kept = F.cross_entropy(net(keep), kept_targets)
            dropped = F.cross_entropy(net(drop), dropped_targets)
            step(optimizer, ALPHA * kept - (1 - ALPHA) * dropped)
        schedule.step()
    net.eval()
