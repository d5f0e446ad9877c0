"""Rank 3: Seif Eddine Achour. Confuse the first convolution, fine-tune with a class-dependent step, confuse slightly.

Team:     Seif Eddine Achour (Deep Unlearn: CFW)
Rank:     3
Scores:   private 0.0884946037; public best 0.0968, mean of repeats 0.092
Source:   kaggle.com/code/seifachour12/unlearning-solution-4th-rank and the author's write-up
Idea:     Strong noise on the stem makes the network forget, four epochs on the retain set repair it. The loss is scaled
          by the batch's share of class 0, the forget set's class. Before the last epoch a little noise adds spread.
Uncertain: the write-up speaks of "the convolutional layers"; the code perturbs only top-level modules named conv, that
          is `conv1`, which we follow (noise 0.6 everywhere would erase the network). The weights of the loss apply to
          the batch mean, not to each example, in the code and by the organisers' description.
Elsewhere: on other networks than resnet18 the noise is on the weight of the first layer that sees the image.
"""

import torch
from torch.optim.lr_scheduler import CosineAnnealingLR

from common.losses import batch_weighted_cross_entropy
from common.reinit import add_noise
from common.roles import find_roles, weight_that_learns
from common.training import one_epoch

CONFUSION = 0.6  # standard deviation of the noise on the stem, `conv1`, at the start
LAST_CONFUSION = 0.005  # and before the last epoch
CLASS_0_WEIGHT = 1.0
OTHER_WEIGHT = 0.05
EPOCHS = 4
LR = 7e-4
MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4


def unlearning(net, retain_loader, forget_loader, val_loader):
    """Edit `net` in place; only the retain set is read."""
    roles = find_roles(net, retain_loader)
    stem = weight_that_learns(net, roles.stem)
    weights = stem.new_full((roles.classes,), OTHER_WEIGHT)
    weights[0] = CLASS_0_WEIGHT
    optimizer = torch.optim.SGD(net.parameters(), lr=LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    schedule = CosineAnnealingLR(optimizer, T_max=EPOCHS)
    net.train()
    add_noise(stem, CONFUSION)
    for epoch in range(EPOCHS):
        if epoch == EPOCHS - 1:
            add_noise(stem, LAST_CONFUSION)
        one_epoch(net, retain_loader, optimizer, lambda z, y: batch_weighted_cross_entropy(z, y, weights))
        schedule.step()
    net.eval()
