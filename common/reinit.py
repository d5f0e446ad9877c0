"""Ways to make a network forget by drawing some of its weights anew. All edit the net in place.

At 32x32 a torchvision resnet18 reaches 1x1 images in layer4, where the outer taps of its kernels only ever meet
padding: 62 % of all its weights get no gradient from the data. Selections by magnitude or gradient among all weights
are dominated by these dead taps; the published behaviour is kept here, see the methods' docstrings.
"""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn


def convolutions(net: nn.Module) -> dict[str, nn.Conv2d]:
    """The convolutions of a net by name (20 in resnet18), in the order of its modules."""
    return {name: module for name, module in net.named_modules() if isinstance(module, nn.Conv2d)}


def reset_layers(net: nn.Module, names: tuple[str, ...]) -> None:
    """Draw named layers anew from PyTorch's default, U(-1/sqrt(fan_in), 1/sqrt(fan_in)). Source: rank 6 and 7."""
    for name in names:
        net.get_submodule(name).reset_parameters()


@torch.no_grad()
def redraw_as_resnet(net: nn.Module, parameter_name: str) -> None:
    """Draw one parameter anew as torchvision initialises a resnet: He-normal convolutions, unit batch norm."""
    layer_name, kind = parameter_name.rsplit(".", 1)
    layer, parameter = net.get_submodule(layer_name), net.get_parameter(parameter_name)
    if isinstance(layer, nn.Conv2d):
        nn.init.kaiming_normal_(parameter, mode="fan_out", nonlinearity="relu")
    elif isinstance(layer, nn.Linear):
        bound = 1 / math.sqrt(layer.in_features)
        nn.init.uniform_(parameter, -bound, bound)
    else:  # a batch norm's scale or shift
        nn.init.constant_(parameter, 1.0 if kind == "weight" else 0.0)


def redraw_random_layers(net: nn.Module, pool: list[str], count: int) -> list[str]:
    """Redraw `count` whole parameters, drawn from `pool` with replacement; returns their names. Source: rank 8."""
    chosen = [pool[int(k)] for k in torch.randint(len(pool), (count,))]
    for name in chosen:
        redraw_as_resnet(net, name)
    return chosen


def untrained_copy(net: nn.Module) -> nn.Module:
    """A copy of the net with every parameter drawn anew and fresh batch-norm statistics."""
    fresh = copy.deepcopy(net)
    for module in fresh.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
    for name, _ in fresh.named_parameters():
        redraw_as_resnet(fresh, name)
    return fresh


@torch.no_grad()
def redraw_smallest_gradients(weight: Tensor, gradient: Tensor, fraction: float) -> Tensor:
    """Redraw the round(fraction x n) entries of a convolution's weight with the smallest |gradient|, He-normal.

    Returns a bool mask of the weight's shape, True where redrawn. Source: Kookmin (rank 2), per layer.
    """
    count = round(fraction * weight.numel())
    smallest = gradient.abs().flatten().topk(count, largest=False).indices
    mask = torch.zeros(weight.numel(), dtype=torch.bool, device=weight.device)
    mask[smallest] = True
    mask = mask.view_as(weight)
    fresh = nn.init.kaiming_normal_(torch.empty_like(weight), mode="fan_out", nonlinearity="relu")
    weight.copy_(torch.where(mask, fresh, weight))
    return mask


@torch.no_grad()
def prune_and_redraw(net: nn.Module, amount: float) -> float:
    """Zero the `amount` smallest |w| over all convolution and linear weights and biases together, then redraw.

    Weights that are zero get U(-1/sqrt(fan_in), 1/sqrt(fan_in)); pruned biases stay zero; batch norm is untouched.
    Returns the pruned share of the pool. Source: Sebastian Oleszko (rank 4), amount 0.99.
    """
    layers = [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    pool = [p for layer in layers for p in (layer.weight, layer.bias) if p is not None]
    flat = torch.cat([p.abs().flatten() for p in pool])
    pruned = torch.zeros_like(flat, dtype=torch.bool)
    pruned[flat.topk(round(amount * flat.numel()), largest=False).indices] = True
    for parameter, mask in zip(pool, pruned.split([p.numel() for p in pool])):
        parameter.masked_fill_(mask.view_as(parameter), 0.0)
    for layer in layers:
        bound = 1 / math.sqrt(layer.weight[0].numel())
        fresh = torch.empty_like(layer.weight).uniform_(-bound, bound)
        layer.weight.copy_(torch.where(layer.weight == 0, fresh, layer.weight))
    return float(pruned.float().mean())


@torch.no_grad()
def transpose_kernels(net: nn.Module) -> None:
    """Swap the two spatial axes of every convolution's weight; 1x1 kernels do not change. Source: rank 5."""
    for convolution in convolutions(net).values():
        convolution.weight.copy_(convolution.weight.transpose(2, 3).clone())


@torch.no_grad()
def add_noise(parameter: Tensor, sigma: float) -> None:
    """Add independent N(0, sigma^2) to every entry. Source: ranks 3 and 7."""
    parameter.add_(sigma * torch.randn_like(parameter))
