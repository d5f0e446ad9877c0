"""Rank 2: [kookmin Univ] LD&BGW&KJH. Redraw the convolution weights that matter least to the forget-retain difference.

Team:     [kookmin Univ] LD&BGW&KJH (Deep Unlearn calls the method MSG, Masked Small Gradients)
Rank:     2
Scores:   private 0.0902000292; public not known
Source:   kaggle.com/code/nuod8260/targeted-re-initialization-3rd-on-private-lb and the team's write-up
Idea:     Collect the gradient of (retain loss - forget loss) without stepping. In each convolution, redraw the 30 % of
          weights with the smallest gradient. Retrain on the retain set with the kept weights on a tenth of the step.
Uncertain: the write-up says the 30 % are chosen globally, the code chooses within each layer (as here). The code sets
          no mode while it collects gradients, which on Kaggle means eval mode for 511 of 512 runs: eval here.
At 32x32: in layer4 over half to eight ninths of each kernel's taps only see padding and have exactly zero gradient, so
          there the redrawn 30 % are dead taps and nothing the net computes changes. Over the whole of a torchvision
          resnet18, 0.74 of the redrawn weights are dead (tests/oracles/test_dead_taps.py measures it); layers 1 to 3
          and the stem forget, layer4 only retrains.
"""

import torch
from torch.nn import functional as F

from common.loaders import random_subset
from common.reinit import learning_convolutions, redraw_smallest_gradients
from common.schedules import triangle
from common.training import inputs, one_epoch

REDRAWN = 0.3  # of every convolution
KEPT_SCALE = 0.1  # of the gradient of weights that were kept
EPOCHS = 5
LR = 1e-3  # peak; 1/3, 2/3, 1, 2/3, 1/3 of it by epoch
MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4


def unlearning(net, retain_loader, forget_loader, val_loader):
    """Edit `net` in place."""
    convolutions, hooks = learning_convolutions(net), []
    collect_gradients(net, random_subset(retain_loader, len(forget_loader.dataset)), forget_loader)
    for weight in (convolution.weight for convolution in convolutions.values()):
        if weight.grad is None:  # of an auxiliary head: it takes no part in the outputs
            continue
        redrawn = redraw_smallest_gradients(weight, weight.grad, REDRAWN)
        scale = torch.where(redrawn, 1.0, KEPT_SCALE)
        # A hook scales the loss gradient before the optimiser adds weight decay, as the original's backward does.
        hooks.append(weight.register_hook(lambda gradient, scale=scale: gradient * scale))

    optimizer = torch.optim.SGD(net.parameters(), lr=LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    schedule = triangle(optimizer, EPOCHS)
    net.train()
    for _ in range(EPOCHS):
        one_epoch(net, retain_loader, optimizer)
        schedule.step()
    for hook in hooks:
        hook.remove()
    net.eval()


def collect_gradients(net, retain_subset, forget_loader):
    """Leave the sum over batches of grad(retain loss) - grad(forget loss) in every parameter's `.grad`."""
    net.eval()
    net.zero_grad()
    for loader, sign in ((retain_subset, 1), (forget_loader, -1)):
        for batch in loader:
            images, targets = inputs(batch, net)
            (sign * F.cross_entropy(net(images), targets)).backward()
