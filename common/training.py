"""The steps that every method takes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader


def inputs(batch: dict, net: nn.Module) -> tuple[Tensor, Tensor]:
    """Images float32 [B, 3, H, W] and classes int64 [B] of a batch, on the net's device."""
    device = next(net.parameters()).device
    return batch["image"].to(device), batch["age_group"].to(device)


def step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """One optimisation step."""
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def one_epoch(
    net: nn.Module,
    loader: DataLoader,
    optimizer: torch.optim.Optimizer,
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
) -> None:
    """One pass over a loader with loss(logits [B, C], classes [B]); the net's mode is left as it is."""
    for batch in loader:
        images, targets = inputs(batch, net)
        step(optimizer, loss(net(images), targets))
