"""Weight distortion: Gaussian noise on all weights, then careful fine-tuning on the retain set.

Team:     none; Siddiqui and others 2025, who say "tamper-resistant unlearning"
Rank:     none
Scores:   no competition score known
Source:   arXiv 2505.22310; github.com/shoaibahmed/vision_relearning
Idea:     Methods that stay near the original learn the forget set again at once when they are trained on. Noise moves
          every weight away first; the fine-tuning is so gentle that it does not come back. The paper has it as one of
          the most robust against such relearning.
Uncertain: the optimiser is Adam with a constant rate, the code's default; the paper's script sets the rate to 1e-5.
Budget:   6 epochs in place of 100, which are 1,122 steps in place of 35,000. At a rate of 1e-5 a weight moves by about
          0.01 in these, half of what the noise has moved it, so less is repaired than in the paper. LR = 3e-4 repairs
          as much: on digits the retain accuracy is then 0.93, as the original's, and 0.82 as it stands.
Variants: DISTANCE_WEIGHT = 1.0 with SIGMA = 0.0 is the paper's other proposal: no noise, and a reward for the distance
          to the original.
"""

import torch
from torch.nn import functional as F

from common.loaders import rebatch
from common.reinit import add_noise
from common.roles import learning
from common.training import one_epoch

SIGMA = 0.02
EPOCHS = 6
BATCH = 128
LR = 1e-5
DISTANCE_WEIGHT = 0.0  # of the root mean square of (weight - its value at the start), which is then to grow


def unlearning(net, retain_loader, forget_loader, val_loader):
    """Edit `net` in place; only the retain set is read."""
    parameters = list(learning(net).values())
    start = [parameter.detach().clone() for parameter in parameters]
    for parameter in parameters if SIGMA else ():
        add_noise(parameter, SIGMA)
    loader = rebatch(retain_loader, BATCH)
    optimizer = torch.optim.Adam(net.parameters(), lr=LR)
    net.train()
    for _ in range(EPOCHS):
        one_epoch(net, loader, optimizer, lambda z, y: F.cross_entropy(z, y) - reward(parameters, start))
    net.eval()


def reward(parameters, start):
    """DISTANCE_WEIGHT x root mean square of all weights' way from the start."""
    if not DISTANCE_WEIGHT:
        return 0.0
    squares = sum(((now - then) ** 2).sum() for now, then in zip(parameters, start))
    return DISTANCE_WEIGHT * (squares / sum(parameter.numel() for parameter in parameters) + 1e-8).sqrt()
