"""SCRUB: push the student away from the teacher on the forget set, pull it back on the retain set.

Team:     none; Kurmanji, Triantafillou, Hayes, Triantafillou 2023
Rank:     none; two teams of the competition say that it did not beat fine-tuning
Scores:   no competition score known
Source:   arXiv 2302.09880
Idea:     The original is a frozen teacher. Epochs of climbing the distance to it on the forget set alternate with
          epochs of descending it, plus cross-entropy, on the retain set. Last come epochs of repair only.
Uncertain: batch size and learning rate are ours (the starter's); the other constants are the paper's for its
          small-scale experiments. The paper's rewind step, which picks a checkpoint, is not part of it here.
"""

import copy

import torch
from torch.nn import functional as F

from common.losses import temperature_kl
from common.training import inputs, step

EPOCHS = 3
MAX_EPOCHS = 2  # the first epochs that also climb
ALPHA = 0.001  # weight of the distance to the teacher on the retain set
GAMMA = 0.99  # weight of the cross-entropy there
TEMPERATURE = 4.0
LR = 1e-3
MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4


def unlearning(net, retain_loader, forget_loader, val_loader):
    """Edit `net` in place."""
    teacher = copy.deepcopy(net).eval()
    optimizer = torch.optim.SGD(net.parameters(), lr=LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    net.train()
    for epoch in range(EPOCHS):
        if epoch < MAX_EPOCHS:
            for batch in forget_loader:
                distance, _, _ = compare(net, teacher, batch)
                step(optimizer, -distance)
        for batch in retain_loader:
            distance, logits, targets = compare(net, teacher, batch)
            step(optimizer, ALPHA * distance + GAMMA * F.cross_entropy(logits, targets))
    net.eval()


def compare(net, teacher, batch):
    """Distance of the student to the teacher on a batch, the student's logits and the classes."""
    images, targets = inputs(batch, net)
    with torch.no_grad():
        teacher_logits = teacher(images)
    logits = net(images)
    return TEMPERATURE**2 * temperature_kl(logits, teacher_logits, TEMPERATURE), logits, targets
