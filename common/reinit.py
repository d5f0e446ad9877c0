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

from common.roles import CONVOLUTIONS, NORMS, RoleError, learning, norms, own_weight


def convolutions(net: nn.Module) -> dict[str, nn.Conv2d]:
    """The convolutions of a net by name (20 in resnet18), in the order of its modules."""
    return {name: module for name, module in net.named_modules() if isinstance(module, nn.Conv2d)}


def learning_convolutions(net: nn.Module) -> dict[str, nn.Conv2d]:
    """Those of the convolutions whose weight learns: all 20 in resnet18.

    Raises:
        RoleError: there is none.
    """
    weights = {name: own_weight(layer) for name, layer in convolutions(net).items()}
    found = {name: net.get_submodule(name) for name, w in weights.items() if w is not None and w.requires_grad}
    if not found:
        raise RoleError("the method changes convolutions, and this network has none that learns")
    return found


def transposable(net: nn.Module) -> list[nn.Conv2d]:
    """The convolutions that transposing changes: those that learn and have square kernels larger than 1x1.

    Raises:
        RoleError: there is none.
    """
    sizes = [(layer, layer.kernel_size) for layer in learning_convolutions(net).values()]
    if not (found := [layer for layer, (height, width) in sizes if height == width > 1]):
        raise RoleError("the method transposes square kernels larger than 1x1, and this network has none that learns")
    return found


def reset_layers(net: nn.Module, names: tuple[str, ...] | list[str]) -> None:
    """Draw named layers anew from PyTorch's default, U(-1/sqrt(fan_in), 1/sqrt(fan_in)). Source: rank 6 and 7.

    Parameters that do not learn stay. A layer without a default of its own (somebody's own class, a weight that is
    computed, as by weight norm) is drawn as `redraw_as_resnet` draws its parameters.
    Raises:
        RoleError: no parameter of these layers learns, or there is no layer of such a name.
    """
    modules = dict(net.named_modules())
    if missing := [name for name in names if name not in modules]:
        raise RoleError(f"the method resets {missing[0]}, and this network has no layer of that name")
    layers = {name: modules[name] for name in names}
    if not any(p.requires_grad for layer in layers.values() for p in layer.parameters()):
        raise RoleError(f"the method resets {' and '.join(names)}, where nothing learns (requires_grad is False)")
    for layer in layers.values():
        if not hasattr(layer, "reset_parameters") or own_weight(layer) is None:
            for parameter_name in learning(layer):
                redraw_as_resnet(layer, parameter_name)
            continue
        fixed = [(p, p.detach().clone()) for p in layer.parameters() if not p.requires_grad]
        layer.reset_parameters()
        for parameter, before in fixed:
            parameter.data.copy_(before)


@torch.no_grad()
def redraw_as_resnet(net: nn.Module, parameter_name: str) -> None:
    """Draw one parameter anew, of a resnet as torchvision does: He-normal convolutions, unit norms.

    Biases of convolutions become zero, as in torchvision's other networks, and a fused attention's matrices are drawn
    as torch draws them. Where this law is not known (a class token, position embeddings, a layer's scale) values are
    drawn from the normal law with the mean and the spread that they have now. So are all of a network without norms:
    nothing there sets right what a weight of another size than the trained one does to the layers behind it.
    """
    layer_name, _, kind = parameter_name.rpartition(".")
    layer, parameter = net.get_submodule(layer_name), net.get_parameter(parameter_name)
    if not norms(net):
        redraw_alike(parameter)
    elif isinstance(layer, CONVOLUTIONS) and kind == "weight":
        nn.init.kaiming_normal_(parameter, mode="fan_out", nonlinearity="relu")
    elif isinstance(layer, nn.Linear) and kind in ("weight", "bias"):
        bound = 1 / math.sqrt(layer.in_features)
        nn.init.uniform_(parameter, -bound, bound)
    elif isinstance(layer, NORMS) and kind in ("weight", "bias"):
        nn.init.constant_(parameter, 1.0 if kind == "weight" else 0.0)
    elif isinstance(layer, nn.MultiheadAttention) and kind.endswith("proj_weight"):
        nn.init.xavier_uniform_(parameter)
    elif isinstance(layer, (nn.MultiheadAttention, *CONVOLUTIONS)) and kind in ("bias", "in_proj_bias"):
        nn.init.zeros_(parameter)
    else:
        redraw_alike(parameter)


@torch.no_grad()
def redraw_alike(parameter: Tensor) -> None:
    """Draw all values from the normal law with their present mean and spread; one alone stays as it is."""
    parameter.normal_(float(parameter.mean()), float(parameter.std(correction=0)))


def redraw_random_layers(net: nn.Module, pool: list[str], count: int) -> list[str]:
    """Redraw `count` whole parameters, drawn from `pool` with replacement; returns their names. Source: rank 8.

    Raises:
        RoleError: the pool is empty.
    """
    if not pool:
        raise RoleError("the method redraws layers at random, and this network has none beside the ones it spares")
    chosen = [pool[int(k)] for k in torch.randint(len(pool), (count,))]
    for name in chosen:
        redraw_as_resnet(net, name)
    return chosen


def untrained_copy(net: nn.Module) -> nn.Module:
    """A copy of the net with every parameter that learns drawn anew, and fresh statistics in their batch norms."""
    fresh = copy.deepcopy(net)
    for module in fresh.modules():
        fixed = [not p.requires_grad for p in module.parameters(recurse=False)]
        if hasattr(module, "reset_running_stats") and not (fixed and all(fixed)):
            module.reset_running_stats()
    for name in learning(fresh):
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

    Weights that are zero get U(-1/sqrt(fan_in), 1/sqrt(fan_in)); pruned biases stay zero; norms are untouched.
    Returns the pruned share of the pool. Source: Sebastian Oleszko (rank 4), amount 0.99.
    Raises:
        RoleError: the pool is empty.
    """
    pool = weights_and_biases(net)
    weights = [p for p, is_weight in pool if is_weight]
    if not weights:
        raise RoleError("the method prunes convolutions and linear layers, and this network has none that learns")
    flat = torch.cat([p.abs().flatten() for p, _ in pool])
    pruned = torch.zeros_like(flat, dtype=torch.bool)
    pruned[flat.topk(round(amount * flat.numel()), largest=False).indices] = True
    for (parameter, _), mask in zip(pool, pruned.split([p.numel() for p, _ in pool])):
        parameter.masked_fill_(mask.view_as(parameter), 0.0)
    for weight in weights:
        bound = 1 / math.sqrt(weight[0].numel())
        fresh = torch.empty_like(weight).uniform_(-bound, bound)
        weight.copy_(torch.where(weight == 0, fresh, weight))
    return float(pruned.float().mean())


def weights_and_biases(net: nn.Module) -> list[tuple[nn.Parameter, bool]]:
    """Parameters of the convolutions, linear layers and fused attentions that learn, and whether each is a weight."""
    found: dict[int, tuple[nn.Parameter, bool]] = {}  # by identity: two layers may share one
    for layer in net.modules():
        if isinstance(layer, (nn.Linear, nn.MultiheadAttention, *CONVOLUTIONS)):
            for kind, parameter in layer.named_parameters(recurse=False):
                if parameter.requires_grad and kind.endswith(("weight", "bias")):
                    found[id(parameter)] = (parameter, kind.endswith("weight"))
    return list(found.values())


@torch.no_grad()
def transpose_kernels(net: nn.Module) -> None:
    """Swap the two spatial axes of every convolution's weight where they are equally long. Source: rank 5.

    Raises:
        RoleError: no kernel would change.
    """
    for convolution in transposable(net):
        convolution.weight.copy_(convolution.weight.transpose(2, 3).clone())


@torch.no_grad()
def add_noise(parameter: Tensor, sigma: float) -> None:
    """Add independent N(0, sigma^2) to every entry. Source: ranks 3 and 7."""
    parameter.add_(sigma * torch.randn_like(parameter))
