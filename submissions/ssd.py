"""SSD, selective synaptic dampening: shrink the weights that matter much more for the forget set than for all data.

Team:     none; Foster, Schoepf, Brintrup 2024
Rank:     none
Scores:   no competition score known
Source:   arXiv 2308.07707; github.com/if-loops/selective-synaptic-dampening
Idea:     A weight matters for a set as much as the squared gradient of its loss is large. Where a weight's importance
          for the forget set is more than ALPHA times that for all training data, it is multiplied by the ratio of the
          two. Nothing is trained, which makes it the cheapest method of all.
Uncertain: the constants are the code's for forgetting at random. As in the code, importance is the mean over batches of
          a squared mean gradient; the paper's formula has single examples. Batches are drawn at random here; the
          code takes them in order, so that there all runs would be equal to the bit.
Budget:   two passes over the data forwards and backwards without a step; nothing was cut.
Runs:     from one original differ only by which examples share a batch, so a forget example's confidences spread a
          quarter as much as those of retrained models on competition_small and a third on digits. There an interval
          around them separates best, and 86 % of the examples are told apart without error at N = 16: the 7 % of all
          weights that are selected destroy the network. On competition_small these are 0.6 % and it hardly changes; a
          threshold is the best attack on 45 % of the examples, an interval on 37 %, the median epsilon 2.6 (N = 16).
          Grade it with --originals, too.
Variants: BATCH = 1 is the paper's importance of single examples; it takes 24,000 passes at the competition's size.
"""

import torch
from torch.utils.data import ConcatDataset, DataLoader

from common.parts import squared_gradients
from common.roles import learning

ALPHA = 10.0  # importance for the forget set over that for all data, from which a weight is dampened
LAMBDA = 1.0  # of the factor LAMBDA x importance for all data / importance for the forget set, at most 1
BATCH = 128


def unlearning(net, retain_loader, forget_loader, val_loader):
    """Edit `net` in place; retain and forget set are read once together, the forget set once more alone."""
    everything = ConcatDataset([retain_loader.dataset, forget_loader.dataset])
    for_forget = squared_gradients(net, DataLoader(forget_loader.dataset, batch_size=BATCH, shuffle=True))
    for_all = squared_gradients(net, DataLoader(everything, batch_size=BATCH, shuffle=True))
    dampen(net, for_forget, for_all)


@torch.no_grad()
def dampen(net, for_forget, for_all):
    """Multiply the selected weights; both importances are tensors like the parameters, by name."""
    for name, parameter in learning(net).items():
        selected = for_forget[name] > ALPHA * for_all[name]
        factor = (LAMBDA * for_all[name] / for_forget[name]).clamp(max=1)
        parameter.copy_(torch.where(selected, factor * parameter, parameter))
