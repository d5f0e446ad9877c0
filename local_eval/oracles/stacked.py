"""Several networks of one structure as one network: the same arithmetic, a fraction of the calls.

M networks that each see [B, C, H, W] become one that sees [B, M * C, H, W]. Convolutions turn into grouped ones,
batch norms into wider ones, linear layers into batched products; what works channel by channel stays as it is. Two
exact savings come with it, since only the function counts and not the weights:

* A 3x3 kernel on a 1x1 map touches one pixel; its other taps multiply padding, get no gradient and are left out. At
  32x32 pixels these are 62 % of resnet18's parameters.
* A convolution with one output position is a product of matrices, and is computed as one.

Learned from HFTA (Wang et al., MLSys 2021), which fuses models for training in the same way.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import ResNet

from local_eval.oracles.proof import CannotStack, blueprint, check_kind, kind_of, prove, prove_outputs

SHOWN = 4  # networks whose steps are compared, half a minute for resnet18; of a deeper stack the outputs are, too


def stack(nets: list[nn.Module], size: tuple[int, int], channels: int = 3) -> nn.Module:
    """One network that does what `nets`, of one kind, do beside each other: [B, M * C, H, W] -> [B, M * classes].

    That it does is shown once a kind and number, before the first such stack (`proof.py`).

    Args:
        size: height and width of the images; it decides which taps of a kernel are alive.
        channels: C of the images.
    Raises:
        CannotStack: a layer is unknown, the networks are not of one kind, or the stack would not do what they do.
    """
    try:
        kinds = [blueprint(net) for net in nets]
        if any(kind != kinds[0] for kind in kinds):
            check_kind(nets[0])  # a better reason, if there is one
            raise CannotStack("the networks differ in more than their numbers")
        if fault := _fault_of(_Kind(kinds[0], nets[0]), len(nets), (channels, *size)):
            raise CannotStack(fault)
        return assembled(nets, size, channels)
    except CannotStack:
        raise
    except Exception as error:  # a network may do anything with what it is not made for
        raise CannotStack(_reported(error)) from error


def stack_of_a_kind(nets: list[nn.Module], kind: object, size: tuple[int, int], channels: int) -> nn.Module:
    """As `stack`, for as many networks of a kind as were stacked before; nothing is shown anew.

    For a thread: to show something, torch.fx replaces what calls the layers of all networks for a moment.

    Args:
        kind: the blueprint of such a network.
    Raises:
        CannotStack: they are of another kind.
    """
    if any(blueprint(net) != kind for net in nets):
        raise CannotStack("the networks differ in more than their numbers from those before them")
    return assembled(nets, size, channels)


@dataclass(frozen=True)
class _Kind:
    """Networks that differ in their numbers alone are one kind; `net` is any of them."""

    blueprint: tuple[object, ...]
    net: nn.Module = field(compare=False)


@lru_cache(maxsize=32)  # what was shown once in a process need not be shown again
def _fault_of(kind: _Kind, count: int, shape: tuple[int, int, int]) -> str:
    """Why `count` networks of a kind cannot be stacked, or nothing."""
    channels, *size = shape

    def assemble(nets: list[nn.Module]) -> nn.Module:
        return assembled(nets, tuple(size), channels)

    try:
        if count > SHOWN:
            if fault := _fault_of(kind, SHOWN, shape):
                return fault
            prove_outputs(kind.net, count, shape, assemble)
        else:
            check_kind(kind.net)
            prove(kind.net, count, shape, assemble, unstack)
    except Exception as error:
        return _reported(error)
    return ""


def _reported(error: Exception) -> str:
    text = str(error) if isinstance(error, CannotStack) else f"{type(error).__name__}: {error}"
    return text.strip().partition("\n")[0]


def assembled(nets: list[nn.Module], size: tuple[int, int], channels: int) -> nn.Module:
    """The stack, not yet known to be right; raises CannotStack for layers without a wide form."""
    stacked, maps = copy.deepcopy(nets[0]), input_sizes(nets[0], size, channels)
    for name, layer in list(stacked.named_modules()):
        same = [net.get_submodule(name) for net in nets]
        if kind_of(layer) is nn.Conv2d:
            replace_module(stacked, name, stacked_convolution(same, maps[name]))
        elif kind_of(layer) is nn.BatchNorm2d:
            replace_module(stacked, name, StackedBatchNorm(same))
        elif kind_of(layer) is nn.Linear:
            replace_module(stacked, name, StackedLinear(same))
    if _has_a_plain_stem(stacked):
        relu_after_pooling(stacked)
    return stacked


def unstack(stacked: nn.Module, nets: list[nn.Module]) -> None:
    """Write the stacked networks' weights and statistics back into `nets`. Dead taps keep what they were."""
    for name, layer in stacked.named_modules():
        if hasattr(layer, "write_back"):
            layer.write_back([net.get_submodule(name) for net in nets])


def replace_module(net: nn.Module, name: str, new: nn.Module) -> None:
    """Put another module in the place of `name`."""
    parent, _, last = name.rpartition(".")
    setattr(net.get_submodule(parent), last, new)


@torch.no_grad()
def input_sizes(net: nn.Module, size: tuple[int, int], channels: int) -> dict[str, tuple[int, int]]:
    """Height and width of what every convolution sees for images of `size`, by name."""
    convolutions = {name: layer for name, layer in net.named_modules() if kind_of(layer) is nn.Conv2d}
    found: dict[str, set[tuple[int, int]]] = {name: set() for name in convolutions}
    hooks = [
        layer.register_forward_pre_hook(lambda _, x, name=name: found[name].add(tuple(x[0].shape[2:])))
        for name, layer in convolutions.items()
    ]
    try:
        with in_eval_mode(net):
            net(next(net.parameters()).new_zeros(1, channels, *size))
    finally:
        for hook in hooks:
            hook.remove()
    if odd := sorted(name for name, sizes in found.items() if len(sizes) != 1):
        raise CannotStack(f"not every convolution is used, and with maps of one size: {', '.join(odd)}")
    return {name: sizes.pop() for name, sizes in found.items()}


@contextlib.contextmanager
def in_eval_mode(net: nn.Module) -> Iterator[None]:
    """The network in eval mode, and afterwards in the mode that it was in: looking at it must not train it."""
    training = net.training
    net.eval()
    try:
        yield
    finally:
        net.train(training)


def live_taps(kernel: int, stride: int, padding: int, length: int) -> slice:
    """The taps of a kernel, along one axis of `length` pixels, that ever touch a pixel."""
    outputs = (length + 2 * padding - kernel) // stride + 1
    live = [t for t in range(kernel) if any(0 <= o * stride + t - padding < length for o in range(outputs))]
    return slice(live[0], live[-1] + 1)


def stacked_convolution(same: list[nn.Conv2d], size: tuple[int, int]) -> nn.Module:
    """The stacked form of one convolution on maps of `size`; raises CannotStack for exotic ones."""
    layer = same[0]
    if layer.padding_mode != "zeros" or layer.dilation != (1, 1) or isinstance(layer.padding, str):
        raise CannotStack(f"{layer} cannot be stacked")
    taps = [live_taps(*about) for about in zip(layer.kernel_size, layer.stride, layer.padding, size)]
    padding = [p - t.start for p, t in zip(layer.padding, taps)]
    outputs = [(n + 2 * p - k) // s + 1 for n, p, k, s in zip(size, layer.padding, layer.kernel_size, layer.stride)]
    trimmed = [(n + 2 * p - (t.stop - t.start)) // s + 1 for n, p, t, s in zip(size, padding, taps, layer.stride)]
    if trimmed != outputs or min(padding) < 0:  # left and right padding differ: keep the whole kernel
        taps, padding, trimmed = [slice(0, k) for k in layer.kernel_size], list(layer.padding), outputs
    if trimmed == [1, 1] and padding == [0, 0] and layer.groups == 1 and layer.bias is None:
        return SinglePosition(same, taps)
    return StackedConvolution(same, taps, padding)


def parameter(values: Tensor, like: nn.Parameter) -> nn.Parameter:
    """A stack's parameter, frozen if the networks' own is."""
    return nn.Parameter(values.detach(), requires_grad=like.requires_grad)


class StackedConvolution(nn.Module):
    """M convolutions as one with M times the groups, with the live taps of their kernels."""

    def __init__(self, same: list[nn.Conv2d], taps: list[slice], padding: list[int]):
        super().__init__()
        self.taps, self.padding, self.stride = taps, padding, same[0].stride
        self.groups = len(same) * same[0].groups
        weights, biases = [c.weight[:, :, taps[0], taps[1]] for c in same], [c.bias for c in same]
        self.weight = parameter(torch.cat(weights), same[0].weight)
        self.bias = None if biases[0] is None else parameter(torch.cat(biases), biases[0])

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding, 1, self.groups)

    @torch.no_grad()
    def write_back(self, same: list[nn.Conv2d]) -> None:
        for layer, weight in zip(same, self.weight.chunk(len(same))):
            layer.weight[:, :, self.taps[0], self.taps[1]] = weight
        for layer, bias in zip(same, [] if self.bias is None else self.bias.chunk(len(same))):
            layer.bias.copy_(bias)


class SinglePosition(nn.Module):
    """M convolutions whose kernel fits on the map once: a batched product of matrices."""

    def __init__(self, same: list[nn.Conv2d], taps: list[slice]):
        super().__init__()
        self.taps = taps
        self.kernel = [t.stop - t.start for t in taps]
        weights = [c.weight[:, :, taps[0], taps[1]].flatten(1).T for c in same]
        self.weight = parameter(torch.stack(weights).contiguous(), same[0].weight)  # [M, C * k * k, outputs]

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, :, : self.kernel[0], : self.kernel[1]].reshape(len(x), len(self.weight), -1).transpose(0, 1)
        return torch.bmm(x, self.weight).transpose(0, 1).reshape(x.shape[1], -1, 1, 1)

    @torch.no_grad()
    def write_back(self, same: list[nn.Conv2d]) -> None:
        for layer, weight in zip(same, self.weight):
            window = layer.weight[:, :, self.taps[0], self.taps[1]]
            window.copy_(weight.T.reshape(window.shape))


class StackedBatchNorm(nn.BatchNorm2d):
    """M batch norms as one over all their channels. It does not count batches, which nothing here uses."""

    def __init__(self, same: list[nn.BatchNorm2d]):
        first = same[0]
        if first.momentum is None or not first.affine or not first.track_running_stats:
            raise CannotStack(f"{first} cannot be stacked")
        super().__init__(len(same) * first.num_features, first.eps, first.momentum)
        for name in ("weight", "bias", "running_mean", "running_var"):
            getattr(self, name).data = torch.cat([getattr(b, name).detach() for b in same])
        for name in ("weight", "bias"):
            getattr(self, name).requires_grad = getattr(first, name).requires_grad
        self.num_batches_tracked = None

    @torch.no_grad()
    def write_back(self, same: list[nn.BatchNorm2d]) -> None:
        for name in ("weight", "bias", "running_mean", "running_var"):
            for layer, part in zip(same, getattr(self, name).chunk(len(same))):
                getattr(layer, name).copy_(part)


class StackedLinear(nn.Module):
    """M linear layers as a batched product: [B, M * inputs] -> [B, M * outputs]."""

    def __init__(self, same: list[nn.Linear]):
        super().__init__()
        self.weight = parameter(torch.stack([layer.weight.T for layer in same]).contiguous(), same[0].weight)
        biases = [layer.bias for layer in same]
        self.bias = None if biases[0] is None else parameter(torch.stack(biases)[:, None], biases[0])

    def forward(self, x: Tensor) -> Tensor:
        x = torch.bmm(x.view(len(x), len(self.weight), -1).transpose(0, 1), self.weight)
        return (x if self.bias is None else x + self.bias).transpose(0, 1).flatten(1)

    @torch.no_grad()
    def write_back(self, same: list[nn.Linear]) -> None:
        for number, layer in enumerate(same):
            layer.weight.copy_(self.weight[number].T)
            if self.bias is not None:
                layer.bias.copy_(self.bias[number, 0])


def _has_a_plain_stem(net: nn.Module) -> bool:
    """Is this torchvision's ResNet, up to the sizes of its layers?"""
    kind = type(net)
    if not isinstance(net, ResNet) or (kind.forward, kind._forward_impl) != (ResNet.forward, ResNet._forward_impl):
        return False
    return type(net.relu) is nn.ReLU and type(net.maxpool) is nn.MaxPool2d


def relu_after_pooling(net: ResNet) -> None:
    """Swap the stem's ReLU and max pooling: max(relu(x)) = relu(max(x)), gradients too, on a quarter of the pixels."""
    net.relu, net.maxpool = nn.Identity(), nn.Sequential(net.maxpool, net.relu)
