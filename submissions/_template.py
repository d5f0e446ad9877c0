"""Copy this file, rename it, and change the method. One line on what it does goes here.

Team:     you
Rank:     none yet
Scores:   what `python -m local_eval grade my_method.py` printed, with N, task and hardware
Source:   a paper, a notebook, your own idea
Idea:     Three sentences at most.
Uncertain: what you chose where your source is silent.

The contract is in local_eval/methods/contract.py. In short: edit `net` in place, be random, leave finite weights.
    python -m local_eval check my_method.py
    python -m local_eval grade my_method.py --task digits --runs 64
"""

import torch
from torch import nn

STEPS = 20
LR = 1e-3


def unlearning(net, retain_loader, forget_loader, val_loader):
    """Edit `net` in place: a few steps that keep the retain set right and push the forget set's loss up a little."""
    device = next(net.parameters()).device
    optimizer = torch.optim.SGD(net.parameters(), lr=LR, momentum=0.9)
    cross_entropy = nn.CrossEntropyLoss()
    net.train()
    for _, keep, drop in zip(range(STEPS), endless(retain_loader), endless(forget_loader)):
        kept = cross_entropy(net(keep["image"].to(device)), keep["age_group"].to(device))
        dropped = cross_entropy(net(drop["image"].to(device)), drop["age_group"].to(device))
        loss = kept - 0.1 * dropped
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    net.eval()


def endless(loader):
    """The loader's batches, again and again; each pass is shuffled anew."""
    while True:
        yield from loader
