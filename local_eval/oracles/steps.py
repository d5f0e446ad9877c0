"""What a step of the recipe is made of: optimiser, learning rates, views of images, short gradients.

The plain loop (train.py) and the bundle of stacked networks (bundle.py) share it, so that both follow one recipe.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from local_eval.tasks.recipe import Recipe

OPTIMIZERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}


def make_optimizer(parameters: Iterable[Tensor], recipe: Recipe, lr: float | Tensor, **how) -> torch.optim.Optimizer:
    """The recipe's. All of them work element by element, so one serves stacked networks.

    Args:
        lr: a number, or a tensor where steps are recorded as a graph.
        how: of torch's optimiser, such as fused=True; what only Adam knows is left out of SGD's.
    """
    if recipe.optimizer == "sgd":
        how = {name: value for name, value in how.items() if name != "capturable"} | {
            "momentum": recipe.momentum,
            "nesterov": recipe.nesterov,
        }
    return OPTIMIZERS[recipe.optimizer](parameters, lr, weight_decay=recipe.weight_decay, **how)


def make_scheduler(optimizer: torch.optim.Optimizer, recipe: Recipe) -> torch.optim.lr_scheduler.LRScheduler:
    """The recipe's learning rates, for a scheduler that takes a step after every epoch."""
    if recipe.schedule == "cosine" and not recipe.warmup:  # torch's own, whose last bits shipped oracles have
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=recipe.epochs)
    return torch.optim.lr_scheduler.LambdaLR(optimizer, recipe.rate)


def learning_rates(recipe: Recipe) -> list[float]:
    """The learning rate of every epoch, as torch's own scheduler gives it."""
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=recipe.lr)
    scheduler = make_scheduler(optimizer, recipe)
    rates = []
    for _ in range(recipe.epochs):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def epoch_orders(examples: int, epochs: int, seed: int) -> Tensor:
    """int64 [epochs, examples]: the order in which the network of this seed sees the examples, epoch by epoch."""
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randperm(examples, generator=generator) for _ in range(epochs)])


def shown_orders(recipe: Recipe, examples: int, seed: int) -> Tensor:
    """int64 [epochs, examples]: what the network of this seed sees, as example + examples * view.

    The view, one of `recipe.views`, says how an image is shifted and whether it is mirrored. It is drawn from the seed
    alone, by a generator of its own, so that orders are the same with and without it.
    """
    orders = epoch_orders(examples, recipe.epochs, seed)
    if recipe.views == 1:
        return orders
    generator = torch.Generator().manual_seed(int(np.random.SeedSequence([seed, 1]).generate_state(1)[0]))
    return orders + examples * torch.randint(recipe.views, orders.shape, generator=generator)


def viewed(raw: Tensor, view: Tensor, recipe: Recipe) -> Tensor:
    """The images [k, C, H, W], of any type, each as its view [k] shows it: shifted over black, then mirrored or not."""
    if recipe.views == 1:
        return raw
    side, (height, width) = 2 * recipe.crop + 1, raw.shape[2:]
    down, along = view % side, view // side % side
    rows = down[:, None] + torch.arange(height, device=raw.device)
    columns = along[:, None] + torch.arange(width, device=raw.device)
    columns = torch.where((view // side**2 == 1)[:, None], columns.flip(1), columns)
    around = F.pad(raw, [recipe.crop] * 4)
    image = torch.arange(len(raw), device=raw.device)[:, None, None]
    return around[image, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def shorten(gradients: list[Tensor], longest: float, networks: int = 1) -> None:
    """Scale each network's gradient, in place, to a norm of at most `longest`, as torch's clip_grad_norm_ does.

    Args:
        gradients: of the parameters; of stacked networks, these lie one after the other along the first axis.
    """
    of_each = [gradient.reshape(networks, -1) for gradient in gradients]
    norms = torch.stack([part.square().sum(dim=1) for part in of_each]).sum(dim=0).sqrt()
    factors = (longest / (norms + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(factors.repeat_interleave(len(gradient) // networks).view(-1, *[1] * (gradient.ndim - 1)))
