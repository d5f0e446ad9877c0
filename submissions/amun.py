"""AMUN: fine-tune on the nearest adversarial image of every forget image, with the wrong class that it is taken for.

Team:     none; Ebrahimpour-Boroojeny, Sundaram, Chandrasekaran 2025
Rank:     none
Scores:   no competition score known
Source:   arXiv 2503.00917; github.com/Ali-E/AMUN
Idea:     An attack looks for the nearest image that the original takes for another class, in spheres whose radius is
          doubled until one is found. Trained beside the forget images and the retain set, these images make the network
          less sure of the forget images just where it stands, as little changed elsewhere.
Uncertain: whether forget images stay in. They do in the paper and here; AMUN's "adv-only" leaves them out, which is
          KEEP_FORGET = False. The code's learning rate is 0.01 for tuned runs (as here) or 0.05. Radii are shares of
          the range of pixels, since the code's images lie between 0 and 1.
Budget:   4 epochs in place of 10. The learning rate falls to a tenth each epoch, as in the code, so the six that are
          cut have rates of 1e-6 and less. The attack's steps see forget images only, 512 at once.
"""

import math

import torch
from torch.nn import functional as F
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import ConcatDataset, DataLoader

from common.loaders import shuffled
from common.training import inputs, one_epoch

RADIUS = 0.01  # of the first sphere
ATTACK_STEPS = 50  # in each sphere, each a tenth of its radius long
ATTACK_BATCH = 512
KEEP_FORGET = True  # train on the forget images too, with their own classes
EPOCHS = 4
BATCH = 128
LR = 1e-2
LR_DECAY = 0.1  # after every epoch
MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4


def unlearning(net, retain_loader, forget_loader, val_loader):
    """Edit `net` in place."""
    sets = [retain_loader.dataset, mistaken(net, forget_loader)]
    if KEEP_FORGET:
        sets.append(forget_loader.dataset)
    loader = shuffled(ConcatDataset(sets), BATCH)
    optimizer = torch.optim.SGD(net.parameters(), lr=LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    schedule = StepLR(optimizer, step_size=1, gamma=LR_DECAY)
    net.train()
    for _ in range(EPOCHS):
        one_epoch(net, loader, optimizer)
        schedule.step()
    net.eval()


def mistaken(net, forget_loader):
    """Adversarial images of the forget set and the classes that they are taken for, as a list of example dicts."""
    net.eval()
    found = []
    for batch in DataLoader(forget_loader.dataset, batch_size=ATTACK_BATCH):
        images, targets = inputs(batch, net)
        attacked = nearest_mistakes(net, images, targets)
        with torch.no_grad():
            classes = net(attacked.clone()).argmax(dim=1)
        for i in (classes != targets).nonzero().flatten().tolist():
            example = {key: values[i] for key, values in batch.items()}
            # Collation mixes these with the other sets' examples, whose numbers are plain ints.
            found.append({k: v.item() if k != "image" and torch.is_tensor(v) else v for k, v in example.items()})
            found[-1] |= {"image": attacked[i].to(batch["image"].device), "age_group": classes[i].item()}
    return found


def nearest_mistakes(net, images, targets):
    """Images like these [B, C, H, W] that the net takes for another class; of some there may be none to be found.

    One that is mistaken already stays. The others climb the loss along its normalised gradient until they are, inside
    of a sphere and of the range of pixels. If ATTACK_STEPS do not do it, they go on from there in one twice as large.
    """
    low, high = images.min(), images.max()
    radius, widest = RADIUS * (high - low), (high - low) * math.sqrt(images[0].numel())
    found, rest = images.clone(), torch.arange(len(images), device=images.device)
    while len(rest) and radius < widest:
        for _ in range(ATTACK_STEPS):
            right, gradient = still_right(net, found[rest], targets[rest])
            rest, gradient = rest[right], gradient[right]
            if not len(rest):
                break
            moved = found[rest] - images[rest] + radius / 10 * gradient
            moved *= (radius / length(moved).clamp(min=1e-10)).clamp(max=1)
            found[rest] = (images[rest] + moved).clamp(low, high)
        radius = 2 * radius
    return found


def still_right(net, images, targets):
    """Whether each image is taken for its class, and its loss's gradient, scaled to length 1 (or 0)."""
    images = images.requires_grad_()
    logits = net(images.clone())  # of a copy: a network may normalise its images in place
    (gradient,) = torch.autograd.grad(F.cross_entropy(logits, targets, reduction="sum"), images)
    return logits.argmax(dim=1) == targets, gradient / length(gradient).clamp(min=1e-10)


def length(vectors):
    """Euclidean length of every image [B, C, H, W], as [B, 1, 1, 1]."""
    return vectors.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
