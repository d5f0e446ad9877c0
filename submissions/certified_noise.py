"""Certified noise: shrink the network to a tiny ball, blur what is left of it with noise, and train it again.

Team:     none; Koloskova, Allouah, Jha, Guerraoui, Koyejo 2025
Rank:     none
Scores:   no competition score known
Source:   arXiv 2506.06985, the variant that clips gradients; its code by stair-lab
Idea:     All weights together are scaled to length C0. Steps on the retain set follow, each with a gradient no longer
          than C1, a pull of all weights to zero, and Gaussian noise on every one. Whatever was in the network is then
          provably hidden by the noise, for any loss. Last comes ordinary training on the retain set.
Uncertain: constants are those of one of the code's runs on CIFAR-10, on a network of a few thousand weights. Running
          statistics of batch norms, which know the forget set too, start anew; the code's networks have none. The code
          compares EPSILON with a bound of Renyi divergence; no certificate for a task is worked out here.
Budget:   6 epochs in place of 50, noisy steps included; the training's schedule is made for 6.
On large networks: noise of 0.09 a step makes up a length of 37 on digits' network and of 290 on a resnet18, where the
          original has C0 = 1 left. So this is training from a bad start in the time that is there, and is meant to be.
"""

import math

import numpy as np
import torch
from torch.nn import functional as F
from torch.optim.lr_scheduler import LambdaLR

from common.loaders import endless, rebatch
from common.reinit import add_noise
from common.roles import learning
from common.training import inputs, step

C0 = 1.0  # length of all weights together at the start
C1 = 100.0  # longest gradient of a noisy step
PULL = 500.0  # to zero, as weight decay
NOISY_LR = 1e-3
EPSILON = 10.0  # the smaller, the more noise
EPOCHS = 6
BATCH = 128
LR = 0.1  # highest of the training afterwards; from a 25th of it up, and down again, by straight lines
WEIGHT_DECAY = 5e-4


def unlearning(net, retain_loader, forget_loader, val_loader):
    """Edit `net` in place; only the retain set is read."""
    parameters = list(learning(net).values())
    shorten(parameters, C0)
    for module in net.modules():
        if hasattr(module, "reset_running_stats"):
            module.reset_running_stats()
    loader = rebatch(retain_loader, BATCH)
    batches, steps = endless(loader), EPOCHS * len(loader)
    net.train()
    noisy = min(noisy_steps(), steps)
    for _, batch in zip(range(noisy), batches):
        noisy_step(net, parameters, batch, sigma(noisy_steps()))
    optimizer = torch.optim.SGD(parameters, lr=LR, weight_decay=WEIGHT_DECAY)
    schedule = LambdaLR(optimizer, lambda k: np.interp(k / steps, (0, 0.3, 0.85, 1), (1 / 25, 1, 1 / 25, 4e-6)))
    for _, batch in zip(range(steps - noisy), batches):
        images, targets = inputs(batch, net)
        step(optimizer, F.cross_entropy(net(images), targets))
        schedule.step()
    net.eval()


@torch.no_grad()
def shorten(tensors, longest):
    """Scale tensors, in place, so that together they are no longer than this."""
    length = torch.stack([tensor.norm() for tensor in tensors]).norm()
    for tensor in tensors:
        tensor.mul_((longest / length.clamp(min=1e-10)).clamp(max=1))


def noisy_step(net, parameters, batch, sigma):
    """x - NOISY_LR (shortened gradient + PULL x) + noise."""
    images, targets = inputs(batch, net)
    net.zero_grad()
    F.cross_entropy(net(images), targets).backward()
    # What takes no part in the outputs, as an auxiliary head, has no gradient, and gets its noise all the same.
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    shorten(gradients, C1)
    with torch.no_grad():
        for parameter, gradient in zip(parameters, gradients):
            parameter.sub_(NOISY_LR * (gradient + PULL * parameter))
            add_noise(parameter, sigma)


def noisy_steps():
    """How many steps have noise: as long as the ball takes to cross, or to forget if the pull does that sooner."""
    crossing = math.ceil(C0 / (C1 * NOISY_LR))
    forgetting = math.ceil(math.log(2 * PULL * C0 / C1) / (NOISY_LR * PULL)) if PULL else 0
    return forgetting if 0 < forgetting < crossing else crossing


def sigma(steps):
    """Standard deviation of the noise in each of so many steps."""
    if not PULL:  # what comes out below as it goes to zero
        return (2 * C0 + 2 * C1 * NOISY_LR * steps) / math.sqrt(2 * EPSILON * steps)
    kept = 1 - NOISY_LR * PULL  # of the weights in a step
    apart = 2 * C0 * kept**steps + 2 * C1 / PULL * (1 - kept**steps)  # two networks at the end, at most
    return apart * math.sqrt((1 - kept**2) / (2 * EPSILON * (1 - kept ** (2 * steps))))
