"""Rank 8: Forget. Cycles of re-initialising a few layers and distilling the original's logits back in.

Team:     Forget (Ahn, Lee, Bae, Yim, Jung)
Rank:     8
Scores:   private about 0.0775, read from a chart of the winners' slides since no number was published; public 0.0939
          +- 0.0065, best 0.1020 (this algorithm), 0.0929 +- 0.0051, best 0.1024 (the other)
Source:   kaggle.com/code/jaesinahn/forget-set-free-approach-9th-on-private-lb, the write-up, a member's page; no code
Idea:     Forgetting: six layers drawn at random are re-initialised. Remembering: the network learns the original's
          logits on slightly noisy retain images. Three cycles; the forget set is never read.
Uncertain: much, since no code is public. The team submitted two algorithms and does not say which was ranked; this is
          the first, three cycles of 1, 2 and 2 epochs. A "layer" is read as one named parameter: six of 62 are the
          10 % a cycle of their table, six of 20 convolutions would not be. CHOICES holds what we filled in. Image noise
          of 0.01 on raw 0-255 pixels is practically none; perhaps they scaled images to 0-1.
Variants: the second algorithm is CYCLES = (2, 1, 1, 1) with LRS = (5e-4, 1e-3, 1e-3, 1e-3, 1e-3). Their ablations vary
          the loss and the images too (studies/board.md); the last constants are for these.
"""

import copy

import torch
from torch.nn import functional as F
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR
from torchvision.transforms import RandomCrop, RandomErasing, RandomVerticalFlip

from common.losses import logit_mse
from common.reinit import redraw_random_layers
from common.roles import find_roles, is_in, learning
from common.training import inputs, step

CYCLES = (1, 2, 2)  # epochs of each
REDRAWN = 6  # layers a cycle, drawn with replacement
EXCLUDED = ("head", "shortcuts")  # in resnet18 `fc` and `downsample`; parts of names are understood too
IMAGE_NOISE = 0.01
LR = 1e-3
T_MAX = 2
# The first algorithm has these three as they are here.
LRS = ()  # learning rates by epoch over all cycles, in place of LR and the cosine
LOSS = "mse"  # between logits; or "l1" between them, or "ce", cross-entropy without the teacher
AUGMENTATION = ""  # or "vflip", "crop", "cutout" of every image; what the team's were exactly is not public
# Ours: the optimiser is the starter's, batch 64 too; optimiser and cosine start anew in each cycle, since one cosine
# over five epochs would have a learning rate of zero in the third; layers are redrawn as torchvision initialises them.
CHOICES = {"momentum": 0.9, "weight_decay": 5e-4}


def unlearning(net, retain_loader, forget_loader, val_loader):
    """Edit `net` in place; only the retain set is read."""
    teacher = copy.deepcopy(net).eval()
    pool = names_to_redraw(net, find_roles(net, retain_loader))
    net.train()
    for cycle, epochs in enumerate(CYCLES):
        redraw_random_layers(net, pool, REDRAWN)
        optimizer = torch.optim.SGD(net.parameters(), lr=LR, **CHOICES)
        schedule = schedule_from(optimizer, sum(CYCLES[:cycle]))
        for _ in range(epochs):
            remember(net, teacher, retain_loader, optimizer)
            schedule.step()
    net.eval()


def names_to_redraw(net, roles):
    """The parameters that learn, by name, without what EXCLUDED says."""
    spared = roles.layers(word for word in EXCLUDED if word in ("head", "shortcuts"))
    parts = [word for word in EXCLUDED if word not in ("head", "shortcuts")]
    return [name for name in learning(net) if not is_in(name, spared) and not any(part in name for part in parts)]


def schedule_from(optimizer, epoch):
    """A cosine for one cycle; or what LRS says from this epoch on, counted over all cycles."""
    if LRS:
        return LambdaLR(optimizer, lambda e: LRS[min(epoch + e, len(LRS) - 1)] / LR)
    return CosineAnnealingLR(optimizer, T_max=T_MAX)


def remember(net, teacher, loader, optimizer):
    """One epoch of matching the teacher's logits; both see the same noisy images."""
    for batch in loader:
        images, targets = inputs(batch, net)
        images = augmented(images) + IMAGE_NOISE * torch.randn_like(images)
        with torch.no_grad():
            teacher_logits = teacher(images)
        step(optimizer, distance(net(images), teacher_logits, targets))


def augmented(images):
    """The images [B, 3, H, W], each changed on its own by what AUGMENTATION names."""
    if not AUGMENTATION:
        return images
    size = images.shape[-1]
    kinds = {"vflip": RandomVerticalFlip(), "crop": RandomCrop(size, padding=size // 8), "cutout": RandomErasing(p=1)}
    return torch.stack([kinds[AUGMENTATION](image) for image in images])


def distance(logits, teacher_logits, targets):
    """The loss that LOSS names."""
    if LOSS == "ce":
        return F.cross_entropy(logits, targets)
    return {"mse": logit_mse, "l1": F.l1_loss}[LOSS](logits, teacher_logits)
