"""Random mask: zero half of all weights, then fine-tune with Adam. Not a prize winner.

Team:     songxinkuan
Rank:     none; not among the eight winners
Scores:   the author's README claims 0.0795 public and 0.0937 private, which nobody confirmed
Source:   github.com/songxinkuan/Machine-unlearning-random-mask
Idea:     Zero every weight outside batch norm with probability one half. Five epochs of Adam on the retain set bring
          the network back.
Uncertain: "batch norm" is taken by layer type, so the shortcuts' norms are spared too. On other networks than resnet18
          norms of all kinds are spared, and nothing else.
"""

import torch
from torch.nn import functional as F
from torch.optim.lr_scheduler import CosineAnnealingLR

from common.roles import is_in, learning, norms
from common.training import inputs, step

ZEROED = 0.5
EPOCHS = 5
LR = 1e-4
LR_END = 1e-5
WEIGHT_DECAY = 1e-4


def unlearning(net, retain_loader, forget_loader, val_loader):
    """Edit `net` in place; only the retain set is read."""
    mask_weights(net, ZEROED)
    optimizer = torch.optim.Adam(net.parameters(), lr=LR, weight_decay=WEIGHT_DECAY)
    schedule = CosineAnnealingLR(optimizer, T_max=EPOCHS * len(retain_loader), eta_min=LR_END)
    net.train()
    for _ in range(EPOCHS):
        for batch in retain_loader:
            images, targets = inputs(batch, net)
            step(optimizer, F.cross_entropy(net(images), targets))
            schedule.step()
    net.eval()


@torch.no_grad()
def mask_weights(net, probability):
    """Zero every entry of every parameter outside norms with this probability; what does not learn stays."""
    spared = norms(net)
    for name, parameter in learning(net).items():
        if not is_in(name, spared):
            parameter.mul_(torch.rand_like(parameter) >= probability)
