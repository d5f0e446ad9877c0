"""Which layer of a network plays which part: the first layer, the last ones, projection shortcuts, norms, convolutions.

The methods were written for resnet18, whose layers they address by name. Here the same parts are found in any network.
Norms and convolutions are told by the type of a module. For the rest the module tree is not enough: attributes stand in
any order, an auxiliary head may be the last of them, and one network calls its head `fc`, others `classifier.6` or
`heads.head`. So two made-up images go through the network once, in eval mode, and autograd's record of what was made of
what is read. Nothing is trained; weights, statistics, modes and torch's random state are afterwards what they were.

What does not learn (`requires_grad` is False) is part of the network as the data is: methods leave it alone.

How it is used: `find_roles(net, retain_loader)` in submissions/amnesiacs.py, forget.py, jiaxi_sun.py, seif_achour.py.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.utils.data import DataLoader

from common.loaders import image_shape

NORMS = (
    nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, nn.InstanceNorm1d, nn.InstanceNorm2d,
    nn.InstanceNorm3d, nn.GroupNorm, nn.LayerNorm, getattr(nn, "RMSNorm", nn.LayerNorm),
)  # fmt: skip
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
# Steps of autograd that multiply by a matrix: after the last layer there must be none.
PRODUCTS = ("Addmm", "Mm", "Bmm", "Addbmm", "Baddbmm", "Mv", "Linear", "Convolution", "MkldnnConvolution")  # fmt: skip


class RoleError(ValueError):
    """A network lacks what a method is about, or it cannot be told; one sentence, shown without a traceback."""


@dataclass(frozen=True)
class Roles:
    """Names of layers, as `net.get_submodule` takes them, and the number of classes.

    In a torchvision resnet18: `conv1`, `fc`, every `downsample.0` and `downsample.1`, and as many as `fc` has outputs.
    """

    stem: str  # the first layer that sees the image
    last: tuple[str, ...]  # the last layer before the class outputs; several if their outputs meet; none if not told
    shortcuts: frozenset[str]  # single layers beside a longer path, to whose output theirs is added, and their norms
    classes: int

    @property
    def heads(self) -> tuple[str, ...]:
        """As `last`. Raises RoleError if it cannot be told."""
        if not self.last:
            raise RoleError(
                f"the network's last layer cannot be told: none of its convolutions and linear layers makes the "
                f"{self.classes} class outputs, or they are multiplied by a matrix that belongs to none"
            )
        return self.last

    def layers(self, words: Iterable[str]) -> list[str]:
        """The layers that are meant by "stem", "head" and "shortcuts", or by their own names. Raises RoleError."""
        found: list[str] = []
        for word in words:
            if word == "head":
                found += self.heads
            else:
                found += {"stem": [self.stem], "shortcuts": sorted(self.shortcuts)}.get(word, [word])
        return list(dict.fromkeys(found))


def find_roles(net: nn.Module, loader: DataLoader) -> Roles:
    """The roles in a network that sees images of the size that the loader's have.

    Raises:
        RoleError: the network holds no layers or does not answer with [images, classes].
    """
    seen = _passed(net, image_shape(loader))
    if not seen.calls:
        raise RoleError("the network calls no layer that holds weights, so it has no first and no last layer")
    stem = next((name for name, inputs in seen.calls if seen.images in _behind(inputs)), seen.calls[0][0])
    return Roles(stem, _last(seen), _shortcuts(seen), seen.answer.shape[1])


def learning(net: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that learn, by name, in the network's order; one that two layers share comes once."""
    return {name: parameter for name, parameter in net.named_parameters() if parameter.requires_grad}


def norms(net: nn.Module) -> set[str]:
    """Names of the normalisation layers: batch, layer, group and others."""
    return {name for name, module in net.named_modules() if is_norm(module)}


def is_norm(module: nn.Module) -> bool:
    """Is it a normalisation of torch's, or does it say so by its type's name and hold no matrix?"""
    if isinstance(module, NORMS):
        return True
    inside = list(module.parameters())
    return "norm" in type(module).__name__.lower() and bool(inside) and not any(map(is_matrix, inside))


def is_matrix(parameter: Tensor) -> bool:
    """Does it have more than one axis that is longer than 1?"""
    return sum(length > 1 for length in parameter.shape) > 1


def is_in(parameter_name: str, layers: Iterable[str]) -> bool:
    """Does the parameter of this name belong to one of these layers?"""
    return any(not layer or parameter_name.startswith(f"{layer}.") for layer in layers)


def own_weight(layer: nn.Module) -> nn.Parameter | None:
    """A layer's weight, if it is a parameter of its own and not computed from others, as weight norm does."""
    weight = dict(layer.named_parameters(recurse=False)).get("weight")
    return weight if weight is not None and weight is layer.weight else None


def weight_that_learns(net: nn.Module, layer: str) -> nn.Parameter:
    """The weight of a layer that a method is to change. Raises RoleError if it is computed or does not learn."""
    weight = own_weight(net.get_submodule(layer))
    if weight is None:
        raise RoleError(f"the weight of {layer}, which the method changes, is computed from other parameters")
    if not weight.requires_grad:
        raise RoleError(f"the weight of {layer}, which the method changes, does not learn (requires_grad is False)")
    return weight


@dataclass
class _Pass:
    """What one pass showed of the layers: the modules with parameters of their own, and none in modules inside."""

    images: Node
    answer: Tensor | None = None  # [images, classes]
    calls: list[tuple[str, list[Node]]] = field(default_factory=list)  # layers with a matrix, and what they were given
    makers: dict[Node, str] = field(default_factory=dict)  # what made an output of a layer -> the layer, of any kind
    widths: dict[str, set[int]] = field(default_factory=dict)  # layers with a matrix -> how many outputs they have

    def note(self, name: str, module: nn.Module, args: tuple, kwargs: dict, output: object) -> None:
        """A layer was called."""
        outputs = list(_tensors(output))
        self.makers.update({tensor.grad_fn: name for tensor in outputs if tensor.grad_fn is not None})
        if _has_matrix(module):
            self.calls.append((name, [tensor.grad_fn for tensor in _tensors((args, kwargs)) if tensor.grad_fn]))
            axes = (1,) if isinstance(module, CONVOLUTIONS) else (-1,) if isinstance(module, nn.Linear) else (1, -1)
            widths = {tensor.shape[axis] for tensor in outputs for axis in axes if tensor.ndim > 1}
            self.widths.setdefault(name, set()).update(widths)


def _passed(net: nn.Module, shape: tuple[int, ...]) -> _Pass:
    """Two images [C, H, W] through the net; raises RoleError unless [2, classes] comes out that can be traced back."""
    first = next((p for p in net.parameters() if p.is_floating_point()), None)
    if first is None:
        raise RoleError("the network has no parameters, so that nothing in it can forget")
    pixels = 255 * torch.rand(2, *shape, generator=torch.Generator().manual_seed(0))
    with _left_as_it_was(net) as hooks, torch.enable_grad():
        # A copy of a leaf: a network may normalise its images in place, and what made the copy is known.
        images = pixels.to(first.device, first.dtype).requires_grad_().clone()
        seen = _Pass(images.grad_fn)
        for name, module in net.named_modules():
            if _is_layer(module):
                hooks.append(module.register_forward_hook(partial(seen.note, name), with_kwargs=True))
        seen.answer = net(images)
    if not isinstance(seen.answer, Tensor) or seen.answer.ndim != 2 or len(seen.answer) != 2:
        found = tuple(seen.answer.shape) if isinstance(seen.answer, Tensor) else f"a {type(seen.answer).__name__}"
        raise RoleError(f"the network answers two images with {found}, not with a tensor of (2, classes)")
    if seen.answer.grad_fn is None:
        raise RoleError("the network computes without gradients, so that its last layer cannot be told")
    return seen


@contextlib.contextmanager
def _left_as_it_was(net: nn.Module) -> Iterator[list]:
    """The net in eval mode and with gradients everywhere; hooks in the list that is given are removed in the end."""
    modes = [(module, module.training) for module in net.modules()]
    fixed = [p for p in net.parameters() if not p.requires_grad and p.is_floating_point()]
    buffers = [(buffer, buffer.clone()) for buffer in net.buffers()]
    device, hooks = next(net.parameters()).device, []
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        try:
            net.eval()
            for parameter in fixed:
                parameter.requires_grad_(True)
            yield hooks
        finally:
            for hook in hooks:
                hook.remove()
            for parameter in fixed:
                parameter.requires_grad_(False)
            for module, mode in modes:
                module.training = mode
            with torch.no_grad():
                for buffer, before in buffers:
                    buffer.copy_(before)


def _is_layer(module: nn.Module) -> bool:
    inside = [p for child in module.children() for p in child.parameters()]
    return _is_weighted(module) or (not inside and any(True for _ in module.parameters(recurse=False)))


def _is_weighted(module: nn.Module) -> bool:
    return isinstance(module, (nn.Linear, *CONVOLUTIONS))


def _has_matrix(module: nn.Module) -> bool:
    return _is_weighted(module) or any(map(is_matrix, module.parameters()))


def _tensors(value: object) -> Iterator[Tensor]:
    """The tensors in a layer's arguments or answer."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict | list | tuple):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _tensors(part)


def _behind(nodes: Iterable[Node]) -> Iterator[Node]:
    """These steps and all before them, back to images and parameters."""
    waiting, met = list(nodes), set()
    while waiting:
        if (node := waiting.pop()) is not None and node not in met:
            met.add(node)
            yield node
            waiting += [before for before, _ in node.next_functions]


def _last(seen: _Pass) -> tuple[str, ...]:
    """Back from the answer to the first layers with a matrix: those of them with as many outputs as classes."""
    waiting, met, found = [seen.answer.grad_fn], {seen.images}, set()
    while waiting:
        if (node := waiting.pop()) is None or node in met:
            continue
        met.add(node)
        if (name := seen.makers.get(node)) in seen.widths:
            found.add(name)
            continue
        bare = getattr(node, "variable", None)  # a parameter that is used by no layer
        if (bare is not None and is_matrix(bare)) or node.name().startswith(PRODUCTS):
            return ()
        waiting += [before for before, _ in node.next_functions]
    return tuple(name for name, widths in seen.widths.items() if name in found and seen.answer.shape[1] in widths)


def _shortcuts(seen: _Pass) -> frozenset[str]:
    """Where two paths from the image meet in a sum: what lies on one alone, if that is a single layer beside more."""
    bits = {node: 1 << number for number, node in enumerate([*seen.makers, seen.images])}
    weighted = sum(bits[node] for node, name in seen.makers.items() if name in seen.widths)
    made_of: dict[Node, int] = {}  # the layers' outputs behind a step, and the image, as bits
    found = 0
    for node in _oldest_first(seen.answer.grad_fn):
        sides = [made_of[before] for before, _ in node.next_functions if before is not None]
        made_of[node] = bits.get(node, 0)
        for side in sides:
            made_of[node] |= side
        if node.name().startswith("AddBackward") and len(sides) == 2 and sides[0] & sides[1] & bits[seen.images]:
            one, other = sides[0] & ~sides[1], sides[1] & ~sides[0]
            short, long = sorted((one, other), key=lambda path: (path & weighted).bit_count())
            if (short & weighted).bit_count() == 1 < (long & weighted).bit_count():
                found |= short
    return frozenset(name for node, name in seen.makers.items() if bits[node] & found)


def _oldest_first(last: Node) -> Iterator[Node]:
    """A step and all before it, each after everything that it is made of."""
    waiting, done = [(last, False)], set()
    while waiting:
        node, ready = waiting.pop()
        if node in done:
            continue
        if ready:
            done.add(node)
            yield node
        else:
            waiting.append((node, True))
            waiting += [(before, False) for before, _ in node.next_functions if before is not None]
