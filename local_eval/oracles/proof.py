"""Shown before any stack is used: it takes the steps that its networks take alone.

Two training steps on random images with random weights in all layers, and a look in eval mode, in float64. Weights are
drawn anew on copies, heads, scales of norms and running statistics included, so that a head of zeros cannot hide a
difference. Outputs, every gradient and every buffer are compared relative to their own size; gradients and weights by
way of what the stack writes back. A network that draws random numbers is refused: a stack would draw others.

How it is used: once a kind of network, by stacked.py.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from local_eval.engine.randomness import drawn_so_far
from local_eval.oracles.blueprint import CannotStack, blueprint, kind_of

BATCHES = (4, 3)  # of two sizes, as the last batch of an epoch has another; with two, batch norms leave only signs
CLOSE = 1e-7  # of a tensor's largest value; float64 keeps about 1e-13 through a deep network
NOISE = 1e-10  # of a layer's largest gradient: a bias before a batch norm has a gradient of zero, but for rounding
TRIES = 8  # draws of weights; narrow networks die of some, and then nothing would be compared

Assemble = Callable[[list[nn.Module]], nn.Module]
WriteBack = Callable[[nn.Module, list[nn.Module]], None]


class _Silent(CannotStack):
    """With these weights nothing reaches some layer, so nothing would be shown."""


def prove(net: nn.Module, count: int, shape: tuple[int, int, int], assemble: Assemble, unstack: WriteBack) -> None:
    """Raise CannotStack unless `count` such networks do the same in a stack; `shape` is an image's, [C, H, W]."""
    for seed in range(TRIES):
        generator = torch.Generator().manual_seed(seed)
        plain = [as_stated(redrawn(net, generator)) for _ in range(count)]
        try:
            _prove_statement(net, shape, generator)
            _Comparison(plain, assemble(plain), unstack, shape, generator).run()
            return
        except _Silent as silent:
            last = silent
    raise CannotStack(str(last))


def redrawn(net: nn.Module, generator: torch.Generator) -> nn.Module:
    """A copy in float64 with random numbers of ordinary size in every parameter and statistic."""
    net = copy.deepcopy(net).cpu().double()
    with torch.no_grad():
        for name, value in (*net.named_parameters(), *net.named_buffers()):
            own = name.rpartition(".")[2]
            noise = torch.randn(value.shape, generator=generator, dtype=torch.float64)
            if value.ndim > 1:
                value.copy_(noise * (2 / value[0].numel()) ** 0.5)
            elif own in ("weight", "running_var"):
                value.copy_(0.5 + torch.rand(value.shape, generator=generator, dtype=torch.float64))
            elif value.is_floating_point():
                value.copy_(0.5 * noise)
    return net


def as_stated(net: nn.Module) -> nn.Module:
    """The network with the layers as which its layers say they are stacked."""
    for layer in net.modules():
        layer.__class__ = kind_of(layer)
    return net


@torch.no_grad()
def _prove_statement(net: nn.Module, shape: tuple[int, int, int], generator: torch.Generator) -> None:
    """Layers that say they are stacked as others compute what those do; that gradients differ is their statement."""
    if all(kind_of(layer) is type(layer) for layer in net.modules()):
        return
    own = redrawn(net, generator)
    stated = as_stated(copy.deepcopy(own))
    images = _images(BATCHES[0], 1, shape, generator)[:, 0]
    for training in (True, False):
        found, expected = (each.train(training)(images) for each in (stated, own))
        _compare("outputs of layers as they are stacked", found, expected)
    for name, value in own.state_dict().items():
        _compare(name, stated.state_dict()[name], value)


def _images(batch: int, count: int, shape: tuple[int, int, int], generator: torch.Generator) -> Tensor:
    return torch.randn(batch, count, *shape, generator=generator, dtype=torch.float64)


class _Comparison:
    """Networks alone and stacked, step by step."""

    def __init__(
        self,
        plain: list[nn.Module],
        stacked: nn.Module,
        unstack: WriteBack,
        shape: tuple[int, int, int],
        generator: torch.Generator,
    ):
        self.plain, self.stacked, self.unstack = plain, stacked, unstack
        self.shape, self.generator = shape, generator
        self.written = copy.deepcopy(plain)  # what the stack gives back
        self.first = [{name: value.clone() for name, value in net.state_dict().items()} for net in plain]

    def run(self) -> None:
        for net in (*self.plain, self.stacked):
            net.train()
        for batch in BATCHES:
            self._compare_passes(batch, "in train mode", NOISE)
            self._take_steps()
            self._compare_states()
        for net in (*self.plain, self.stacked):
            net.eval()
        self._compare_passes(BATCHES[-1], "in eval mode", 0.0)
        self._compare_states()

    def _compare_passes(self, batch: int, mode: str, noise: float) -> None:
        """Outputs and gradients for one batch of random images and random weights of the outputs."""
        images = _images(batch, len(self.plain), self.shape, self.generator)
        before, look = drawn_so_far(), blueprint(self.plain[0])
        expected = torch.stack([net(images[:, number]) for number, net in enumerate(self.plain)], dim=1)
        if drawn_so_far() != before:
            raise CannotStack(f"the network draws random numbers {mode}, and a stack would draw others")
        if blueprint(self.plain[0]) != look:
            raise CannotStack("forward() changes an attribute of the network")
        if expected.ndim != 3 or len(expected) != batch:
            raise CannotStack(f"the network answers {batch} images with {tuple(expected[:, 0].shape)}")
        found = self.stacked(images.flatten(1, 2)).view(expected.shape)
        for number in range(len(self.plain)):
            _compare(f"outputs {mode}", found[:, number], expected[:, number])
        toward = torch.randn(expected.shape, generator=self.generator, dtype=torch.float64)
        for outputs, nets in ((expected, self.plain), (found, [self.stacked])):
            for net in nets:
                net.zero_grad()
            (outputs * toward).sum().backward()
        self._compare_gradients(mode, noise)

    def _compare_gradients(self, mode: str, noise: float) -> None:
        """By way of writing back: a stack whose weights are its gradients gives each network its own."""
        with torch.no_grad():
            for value in (value for net in self.written for value in net.parameters()):
                value.zero_()  # what is not written back, such as dead taps, never has a gradient
        with _gradients_for_weights(self.stacked):
            self.unstack(self.stacked, self.written)
        for net, mine in zip(self.plain, self.written):
            sizes = _layer_sizes(net)
            for (name, value), found in zip(net.named_parameters(), mine.parameters()):
                missing = value.grad is None
                if missing != bool(found.detach().isnan().any()):
                    raise CannotStack(f"{name} has a gradient only alone or only in a stack")
                if not missing:
                    allowed = noise * sizes[name.rpartition(".")[0]]
                    _compare(f"gradients of {name} {mode}", found.detach(), value.grad, allowed)

    @torch.no_grad()
    def _take_steps(self) -> None:
        """A step of gradient descent, which treats every number alike."""
        gradients = [value.grad for net in self.plain for value in net.parameters() if value.grad is not None]
        rate = 0.05 / max(float(gradient.abs().max()) for gradient in gradients)
        for net in (*self.plain, self.stacked):
            for value in net.parameters():
                if value.grad is not None:
                    value -= rate * value.grad

    def _compare_states(self) -> None:
        for mine, first in zip(self.written, self.first):
            mine.load_state_dict(first)
        self.unstack(self.stacked, self.written)
        for net, mine in zip(self.plain, self.written):
            for (name, value), found in zip(_numbers(net), _numbers(mine)):
                _compare(name, found[1], value)


@contextlib.contextmanager
def _gradients_for_weights(stacked: nn.Module) -> Iterator[None]:
    """While it lasts, the stack's weights are its gradients, or NaN where there are none."""
    weights = [value.data for value in stacked.parameters()]
    for value in stacked.parameters():
        value.data = torch.full_like(value, torch.nan) if value.grad is None else value.grad
    try:
        yield
    finally:
        for value, own in zip(stacked.parameters(), weights):
            value.data = own


def _layer_sizes(net: nn.Module) -> dict[str, float]:
    """The largest gradient of every layer, by name."""
    sizes: dict[str, float] = {}
    for name, value in net.named_parameters():
        if value.grad is not None:
            layer = name.rpartition(".")[0]
            sizes[layer] = max(sizes.get(layer, 0.0), float(value.grad.abs().max()))
    return sizes


def _numbers(net: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers. How many batches a norm has seen is not counted in a stack, and nothing asks for it."""
    yield from net.named_parameters()
    yield from ((name, value) for name, value in net.named_buffers() if not name.endswith("num_batches_tracked"))


@torch.no_grad()
def _compare(what: str, found: Tensor, expected: Tensor, noise: float = 0.0) -> None:
    """Raise CannotStack unless they agree, relative to the largest value; _Silent if there is nothing to see."""
    size = float(expected.abs().max())
    if size <= noise:
        if noise and float(found.abs().max()) <= noise:
            return
        raise _Silent(f"no images or gradients reach {what} with random weights")
    far = float((found - expected).abs().max())
    if not far <= max(CLOSE * size, noise):
        raise CannotStack(f"{what} differ by {far / size:.1g} of their size")
