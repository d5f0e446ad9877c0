"""Rank 7: Jiaxi Sun. Noise on a few random tensors at a time, training only these; then everything.

Team:     Jiaxi Sun (Deep Unlearn: RNI)
Rank:     7
Scores:   private about 0.078, read from a chart of the winners' slides since no number was published; rank 6 has 0.0783
Source:   kaggle.com/code/sunkroos/noise-injection-unlearning-8th-place-solution and the author's write-up
Idea:     Reset the last layer. For five epochs train only nine randomly chosen tensors and the batch norms; in the
          last four of these, add noise to six of the nine first, each tensor at most once. Then train everything for
          four epochs.
Uncertain: all constants are from the code. The write-up says the first epoch trains the whole model; the code trains
          nine random tensors in it too (as here). Nine epochs at batch 64 do not fit Kaggle's time limit with the stock
          loader, and the list of fine learning rates has six entries for four epochs, so the ranked notebook may have
          been another version. The pool is every parameter without "bn" in its name, so the six affine tensors of
          the shortcuts' batch norms (`downsample.1`) are in it.
Elsewhere: on other networks than resnet18 the pool is what learns outside of norms, of whatever kind, and what is in
          projection shortcuts.
"""

import torch

from common.reinit import add_noise, reset_layers
from common.roles import find_roles, is_in, learning, norms
from common.training import one_epoch

EPOCHS = 9
FINE_EPOCHS = 4  # the last ones, on all parameters
SELECTED = 9  # tensors trained in an epoch before
NOISED = int(0.7 * SELECTED)
SIGMA = 0.04
LR = 2e-4
FINE_LR = (2e-4, 2e-4, 2e-4, 1e-3, 1e-3, 1e-4)
MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4


def unlearning(net, retain_loader, forget_loader, val_loader):
    """Edit `net` in place; only the retain set is read."""
    roles = find_roles(net, retain_loader)
    reset_layers(net, roles.heads)
    parameters = learning(net)
    always = norms(net) - roles.shortcuts  # in resnet18 the layers with "bn" in their names
    pool = [name for name in parameters if not is_in(name, always)]
    trained_before = set()
    net.train()
    for epoch in range(EPOCHS):
        fine = epoch - (EPOCHS - FINE_EPOCHS)
        if fine < 0:
            selected = [pool[k] for k in torch.randperm(len(pool))[:SELECTED].tolist()]
            if epoch > 0:  # the epoch after the reset goes without noise
                inject_noise(parameters, selected, trained_before)
            trained_before.update(selected)
        for name, parameter in parameters.items():
            parameter.requires_grad_(fine >= 0 or name in selected or is_in(name, always))
        trainable = [p for p in parameters.values() if p.requires_grad]
        lr = FINE_LR[fine] if fine >= 0 else LR
        net.zero_grad()
        one_epoch(
            net,
            retain_loader,
            torch.optim.SGD(trainable, lr=lr, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY),
        )
    net.eval()


def inject_noise(parameters, selected, trained_before):
    """Add noise to NOISED of the selected tensors, except those trained in an earlier epoch."""
    for k in torch.randperm(len(selected))[:NOISED].tolist():
        if selected[k] not in trained_before:
            add_noise(parameters[selected[k]], SIGMA)
