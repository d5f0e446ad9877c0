"""Rank 5: toshi_k & marvelworld. Two methods, each on about half of the 512 models.

Team:     toshi_k & marvelworld (Deep Unlearn has the first half: CT, Convolution Transpose)
Rank:     5
Scores:   private 0.0785184178 (246 models by the first method, 266 by the second), 0.0756313425 the other way round;
          public 0.0720386947 (all by the first), 0.0707241647 (all by the second)
Source:   kaggle.com/code/marvelworld/toshi-k-rotate-and-marvel-pseudo-blend48-52 and the team's write-up
Idea:     (1) Transpose all convolution kernels and retrain three epochs. (2) Find forget examples on which a fine-tuned
          or an untrained-then-trained network goes wrong, and fine-tune on the retain set plus these wrong answers.
          Mixing the two widens the distribution of models, which the attacks find harder to tell apart.
Uncertain: which run gets which method. The function has no run number, so each run draws with probability 246/512:
          independent of scheduling, and 246 in expectation. Of (2) the algorithm is public but no constant is; PSEUDO
          holds what we propose, including that retain batches are mixed in.
"""

import copy

import torch
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.utils.data import ConcatDataset

from common.loaders import shuffled
from common.losses import entropy
from common.reinit import transposable, transpose_kernels, untrained_copy
from common.training import inputs, one_epoch

TRANSPOSED_SHARE = 246 / 512
EPOCHS = 3
LR = 1e-3
MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4
# Ours: nothing of this is public. Epochs of the lightly unlearned, the scratch and the final model, all with the SGD
# above; T is the entropy in nats below which the scratch model counts as confident.
PSEUDO = {"light_epochs": 1, "scratch_epochs": 2, "final_epochs": 1, "T": 0.5}


def unlearning(net, retain_loader, forget_loader, val_loader):
    """Edit `net` in place, by one of the two methods."""
    transposable(net)  # raises for a network on which the first method means nothing, whichever this run draws
    if torch.rand(()).item() < TRANSPOSED_SHARE:
        transpose_kernels(net)
        fit(net, retain_loader, EPOCHS)
    else:
        light, scratch = copy.deepcopy(net), untrained_copy(net)
        fit(light, retain_loader, PSEUDO["light_epochs"])
        fit(scratch, retain_loader, PSEUDO["scratch_epochs"])
        wrong = pseudo_labelled(net.eval(), light, scratch, forget_loader)
        mixed = ConcatDataset([retain_loader.dataset, wrong])
        fit(net, shuffled(mixed, retain_loader.batch_size), PSEUDO["final_epochs"])


def fit(net, loader, epochs):
    """Fine-tune with cosine per epoch; leaves the net in eval mode."""
    optimizer = torch.optim.SGD(net.parameters(), lr=LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    schedule = CosineAnnealingLR(optimizer, T_max=epochs)
    net.train()
    for _ in range(epochs):
        one_epoch(net, loader, optimizer)
        schedule.step()
    net.eval()


@torch.no_grad()
def pseudo_labelled(original, light, scratch, forget_loader):
    """Forget examples with the wrong answers that two other models give on them, as a list of example dicts."""
    found = []
    for batch in forget_loader:
        images, targets = inputs(batch, original)
        was_right = original(images).argmax(dim=1) == targets
        now, confident = light(images).argmax(dim=1), entropy(scratch(images)) < PSEUDO["T"]
        guess = scratch(images).argmax(dim=1)
        for labels, chosen in ((now, was_right & (now != targets)), (guess, confident & (guess != targets))):
            for i in chosen.nonzero().flatten().tolist():
                example = {key: values[i] for key, values in batch.items()}
                # Collation mixes these with the retain set's examples, whose numbers are plain ints.
                found.append({k: v.item() if k != "image" and torch.is_tensor(v) else v for k, v in example.items()})
                found[-1]["age_group"] = labels[i].item()
    return found
