"""Rank 4: Sebastian Oleszko. Prune 99 %, redraw, and fine-tune until the outputs are as uncertain as before.

Team:     Sebastian Oleszko (Deep Unlearn: PRMQ)
Rank:     4
Scores:   private 0.0863052371; public 0.0932121752
Source:   kaggle.com/code/sebastianoleszko/prune-re-init-entropy-regularized-fine-tuning and the author's write-up
Idea:     Keep the largest 1 % of all weights and redraw the rest from PyTorch's default. Fine-tune 3.2 epochs on the
          retain set with mildly class-weighted cross-entropy. A second term makes each output's entropy match that of
          the original model, so that the repaired net is neither surer nor less sure than before.
Uncertain: the class counts come from the retain set here; the original probably read those of the whole training set,
          which differ negligibly. The last step, a round trip of all weights through half precision, is from the code
          only; its purpose is not documented.
At 32x32: weight decay leaves the dead taps of layer4 (62 % of a torchvision resnet18) as the smallest weights, so they
          make up 0.63 of what is pruned and redrawn (tests/oracles/test_dead_taps.py); the live weights kept are
          2.6 % of the live ones, not 1 %.
"""

import copy

import torch
from torch.nn import functional as F

from common.loaders import all_labels, endless
from common.losses import entropy_matching
from common.reinit import prune_and_redraw
from common.roles import find_roles
from common.training import inputs, step

PRUNED = 0.99
EPOCHS = 3.2
LR = 5e-4
MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4
COUNT_EXPONENT = -0.1  # class weight = count ** COUNT_EXPONENT


def unlearning(net, retain_loader, forget_loader, val_loader):
    """Edit `net` in place; only the retain set is read."""
    teacher = copy.deepcopy(net).eval()
    classes = find_roles(net, retain_loader).classes
    counts = torch.bincount(all_labels(retain_loader), minlength=classes).clamp(min=1)
    weights = counts.to(next(net.parameters()).device) ** COUNT_EXPONENT
    prune_and_redraw(net, PRUNED)
    optimizer = torch.optim.SGD(net.parameters(), lr=LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    steps = int(len(retain_loader) * EPOCHS) + 1  # the original stops once its counter exceeds the product
    net.train()
    for _, batch in zip(range(steps), endless(retain_loader)):
        images, targets = inputs(batch, net)
        logits = net(images)
        with torch.no_grad():
            target_logits = teacher(images)
        step(optimizer, F.cross_entropy(logits, targets, weight=weights) + entropy_matching(logits, target_logits))
    net.eval()
    net.half().float()
