"""SFR-on: climb the forget loss in few, strong, masked steps, and descend the retain loss in all others.

Team:     none; Huang, Cheng, Zheng, Wang, He, Li, Huang 2024
Rank:     none
Scores:   no competition score known
Source:   arXiv 2409.19732; github.com/K1nght/Unified-Unlearning-w-Remain-Geometry
Idea:     Every fifth step begins with an ascent on a forget batch, in which examples count the more the smaller their
          loss still is. Only weights whose squared gradients are at least as large on the forget set as on the retain
          set take part. Then, and in all other steps, a retain batch is descended.
Uncertain: little; constants and order are those of the code for CIFAR-10, a tenth of it forgotten. Its moving average
          of the weights has factor 1, which changes nothing, so it is left out. A weight without any gradient counts
          as one that takes part, as in the code.
Budget:   the code's 1,500 steps of 128 are 4.27 epochs of its 45,000 retain images, and so many epochs are made here:
          798 steps at the competition's size. All 1,500 would be 8 epochs and 300 forget batches, which do not fit.
"""

import math

import torch
from torch.nn import functional as F
from torch.optim.lr_scheduler import CosineAnnealingLR

from common.loaders import endless, rebatch
from common.parts import squared_gradients
from common.roles import learning
from common.training import inputs, step

EPOCHS = 4.27
BATCH = 128
FORGET_EVERY = 5  # steps
ASCENT = 25.0  # weight of the forget loss at the start; falls with the cosine of the learning rate
LAMBDA = 0.5  # an example's weight is 1 / loss^LAMBDA
SALIENT = 1.0  # least ratio of squared gradients, forget set to retain set
NORM = 7.0  # longest gradient of an ascent
LR = 1e-2
MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4


def unlearning(net, retain_loader, forget_loader, val_loader):
    """Edit `net` in place; forget and retain steps share one optimiser and its momentum."""
    retain = rebatch(retain_loader, BATCH)
    forget = rebatch(forget_loader, min(BATCH, len(forget_loader.dataset)))  # of one example too there is a batch
    masks = salient_weights(squared_gradients(net, forget), squared_gradients(net, retain))
    steps = max(1, round(EPOCHS * len(retain)))
    optimizer = torch.optim.SGD(net.parameters(), lr=LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    schedule = CosineAnnealingLR(optimizer, T_max=steps)
    forget_batches = endless(forget)
    net.train()
    for number, retain_batch in zip(range(steps), endless(retain)):
        if number % FORGET_EVERY == 0:
            weight = ASCENT * (1 + math.cos(math.pi * number / steps)) / 2
            climb(net, next(forget_batches), optimizer, masks, weight)
        images, targets = inputs(retain_batch, net)
        step(optimizer, F.cross_entropy(net(images), targets))
        schedule.step()
    net.eval()


def salient_weights(for_forget, for_retain):
    """Bool masks by name: where the forget set's squared gradient is at least SALIENT times the retain set's."""
    return {name: (for_forget[name] + 1e-15) / (for_retain[name] + 1e-15) >= SALIENT for name in for_forget}


def climb(net, batch, optimizer, masks, weight):
    """One step up the forget loss, on the masked weights' gradients alone, which are together no longer than NORM."""
    images, targets = inputs(batch, net)
    losses = F.cross_entropy(net(images), targets, reduction="none")
    optimizer.zero_grad()
    (-weight * weighted_mean(losses)).backward()
    for name, parameter in learning(net).items():
        if parameter.grad is not None:
            parameter.grad *= masks[name]
    torch.nn.utils.clip_grad_norm_(net.parameters(), NORM)
    optimizer.step()


def weighted_mean(losses):
    """Mean of losses [B] with weights 1 / loss^LAMBDA, which count as constants."""
    weights = 1 / (losses.detach() ** LAMBDA + 1e-15)
    return (weights * losses).sum() / weights.sum()
