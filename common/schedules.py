"""Learning-rate schedules beyond torch's own."""

from __future__ import annotations

import torch
from torch.optim.lr_scheduler import LambdaLR


def triangle(optimizer: torch.optim.Optimizer, epochs: int) -> LambdaLR:
    """Linear warm-up over the first half of the epochs, then linear decay; step once per epoch.

    With peak p = (epochs + 1) // 2, epoch e = 0, 1, ... has the factor (e + 1) / p up to the peak and
    (epochs - e) / (epochs + 1 - p) after it: 1/3, 2/3, 1, 2/3, 1/3 for 5 epochs. Source: Kookmin (rank 2).
    """
    peak = (epochs + 1) // 2
    return LambdaLR(optimizer, lambda e: (e + 1) / peak if e < peak else (epochs - e) / (epochs + 1 - peak))
