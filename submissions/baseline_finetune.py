"""The official starter: fine-tune on the retain set for one epoch.

Team:     the organisers (starter notebook `run-unlearn-finetune`)
Rank:     the baseline; 40 % of all entries beat it
Scores:   public 0.0464 +- 0.0031 (mean of repeats by team Forget), private 0.0609 (mean of 3)
Source:   the competition's starting notebook
Idea:     Training on without the forget set lets the network drift away from what it memorised of it. The dose is
          small, so utility is kept. Every run sees another order of the data, which is all the spread there is.
Uncertain: nothing.
Variants: participants published scores for other learning rates, batches and epochs, and for Adam with the original
          recipe's class weights (studies/board.md); the last constants are for these.
"""

import torch
from torch.nn import functional as F
from torch.optim.lr_scheduler import CosineAnnealingLR

from common.loaders import all_labels, rebatch
from common.roles import find_roles
from common.training import one_epoch

EPOCHS = 1
LR = 1e-3
MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4
# The starter has these three as they are here.
BATCH = None  # None for that of the loader that is given, 64
ADAM = False  # in place of SGD; without MOMENTUM
CLASS_WEIGHTED = False  # cross-entropy with weight 1 / count of the class in the retain set


def unlearning(net, retain_loader, forget_loader, val_loader):
    """Edit `net` in place; only the retain set is read."""
    loader = rebatch(retain_loader, BATCH) if BATCH else retain_loader
    weights = class_weights(net, retain_loader) if CLASS_WEIGHTED else None
    if ADAM:
        optimizer = torch.optim.Adam(net.parameters(), lr=LR, weight_decay=WEIGHT_DECAY)
    else:
        optimizer = torch.optim.SGD(net.parameters(), lr=LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    schedule = CosineAnnealingLR(optimizer, T_max=EPOCHS)
    net.train()
    for _ in range(EPOCHS):
        one_epoch(net, loader, optimizer, lambda logits, y: F.cross_entropy(logits, y, weight=weights))
        schedule.step()
    net.eval()


def class_weights(net, loader):
    """1 / count of every class that the network knows, [C]; a class without examples counts as one example."""
    classes = find_roles(net, loader).classes
    counts = torch.bincount(all_labels(loader), minlength=classes).clamp(min=1)
    return 1 / counts.to(next(net.parameters()))
