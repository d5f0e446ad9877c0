"""SalUn: random labels, but only the weights that are salient for the forget set may move.

Team:     none; Fan, Liu, Zhang, Wong, Wei, Liu 2024
Rank:     none
Scores:   no competition score known
Source:   arXiv 2310.12508
Idea:     The gradient of the forget loss at the original ranks all weights; the larger half is salient. Random labels
          on the forget set and true ones on the retain set are then trained with all other weights frozen.
Uncertain: learning rate and epochs are ours (the starter's, three epochs); the paper uses ten epochs and tunes the
          rate.
At 32x32: 62 % of a torchvision resnet18's weights are taps on padding with exactly zero gradient, so the salient half
          holds nearly all live weights: over 95 % of what the mask freezes is dead (tests/oracles/test_dead_taps.py).
          There SalUn is random-label fine-tuning, except that weight decay spares the frozen taps.
"""

import torch
from torch.nn import functional as F
from torch.optim.lr_scheduler import CosineAnnealingLR

from common.losses import wrong_label_cross_entropy
from common.roles import learning
from common.training import inputs, one_epoch

SALIENT = 0.5  # share of all weights that may move
EPOCHS = 3
LR = 1e-3
MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4


def unlearning(net, retain_loader, forget_loader, val_loader):
    """Edit `net` in place."""
    masks = saliency_masks(net, forget_loader, SALIENT)
    frozen = [(p, p.detach().clone(), mask) for p, mask in zip(learning(net).values(), masks)]
    optimizer = torch.optim.SGD(net.parameters(), lr=LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    hook = optimizer.register_step_post_hook(lambda *_: put_back(frozen))
    schedule = CosineAnnealingLR(optimizer, T_max=EPOCHS)
    net.train()
    for _ in range(EPOCHS):
        one_epoch(net, forget_loader, optimizer, wrong_label_cross_entropy)
        one_epoch(net, retain_loader, optimizer)
        schedule.step()
    hook.remove()
    net.eval()


def saliency_masks(net, forget_loader, share):
    """Bool masks like the parameters that learn: True for the `share` of weights with the largest |forget gradient|."""
    net.eval()
    net.zero_grad()
    for batch in forget_loader:
        images, targets = inputs(batch, net)
        F.cross_entropy(net(images), targets).backward()
    parameters = list(learning(net).values())
    # What takes no part in the outputs, as an auxiliary head, has no gradient.
    size = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad.abs()).flatten() for p in parameters])
    salient = torch.zeros_like(size, dtype=torch.bool)
    salient[size.topk(round(share * size.numel())).indices] = True
    parts = salient.split([p.numel() for p in parameters])
    return [part.view_as(p) for part, p in zip(parts, parameters)]


@torch.no_grad()
def put_back(frozen):
    """Undo the step where the mask is False; weight decay and momentum would move those weights too."""
    for parameter, before, mask in frozen:
        parameter.copy_(torch.where(mask, parameter, before))
