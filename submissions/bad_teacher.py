"""Bad Teacher: learn an untrained network's answers on the forget set and the original's on a part of the retain set.

Team:     none; Chundawat, Tarun, Mandal, Kankanhalli 2023; also Blindspot unlearning
Rank:     none
Scores:   no competition score known
Source:   arXiv 2205.08096; github.com/vikram2000b/bad-teaching-unlearning
Idea:     Two frozen teachers: the original knows everything, an untrained network of the same kind nothing. The student
          gets the second's answers as its targets on forget examples and the first's on 30 % of the retain set, mixed
          in every batch. The bad teacher is drawn anew in each run.
Uncertain: the mode of the student, which the code leaves as it comes; train mode here, as in LoTUS's comparison. The
          bad teacher's batch norms take each batch's statistics. The code has fresh running statistics, which do
          nothing: on raw 0-255 pixels its logits then spread by 40 to 100, and it is sure of one class for nearly
          every image, which is not to know nothing. The code's divergence is divided by the number of classes too,
          which Adam does not see.
Budget:   one epoch over a third of the data, and two teachers' answers; nothing was cut. On digits these are two
          steps, which hardly change anything.
"""

import copy

import torch
from torch.nn import functional as F

from common.parts import mixed
from common.reinit import untrained_copy
from common.training import inputs, step

RETAIN_SHARE = 0.3
EPOCHS = 1
BATCH = 256
LR = 1e-4
TEMPERATURE = 1.0


def unlearning(net, retain_loader, forget_loader, val_loader):
    """Edit `net` in place."""
    good, bad = copy.deepcopy(net).eval(), untrained_copy(net).train()
    loader = mixed(forget_loader, retain_loader, RETAIN_SHARE, BATCH)
    optimizer = torch.optim.Adam(net.parameters(), lr=LR)
    net.train()
    for _ in range(EPOCHS):
        for batch in loader:
            images, _ = inputs(batch, net)
            with torch.no_grad():
                good_logits, bad_logits = good(images), bad(images)
            forget = batch["forget"].to(images.device)
            step(optimizer, distance(net(images), good_logits, bad_logits, forget))
    net.eval()


def distance(logits, good_logits, bad_logits, forget):
    """Mean over the batch of KL(teacher || student), the teacher being the bad one where `forget` [B] is 1."""
    teacher = torch.where(forget[:, None] == 1, bad_logits, good_logits)
    log_probs = [F.log_softmax(z / TEMPERATURE, dim=1) for z in (logits, teacher)]
    return F.kl_div(*log_probs, reduction="batchmean", log_target=True)
