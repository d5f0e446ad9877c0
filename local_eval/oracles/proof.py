"""Show, before any stack is used, that stacked networks do what they do one by one: by structure and by steps.

Two training steps on random images with random weights in all layers, and a look in eval mode, in float64. Weights are
drawn anew on copies, heads, scales of norms and running statistics included, so that a head of zeros cannot hide a
difference. Outputs, every gradient and every buffer are compared relative to their own size; gradients and weights by
way of what the stack writes back. A network that draws random numbers is refused: a stack would draw others.

How it is used: once a kind of network, by stacked.py.
"""

from __future__ import annotations

import contextlib
import copy
import enum
import functools
import operator
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from types import BuiltinFunctionType, FunctionType, MethodType

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from local_eval.isolation.device import drawn_so_far
from local_eval.store.errors import first_line

# What can be seen of a network without running it: may it be stacked with others of its kind?
#
# A stack keeps the network's own `forward` and puts wide layers in the place of its layers. That is right only if
# every number of the network lies in a layer that has a wide form, and if `forward` does nothing between its layers
# but what works on each channel alone, whatever the images hold. A numerical check (proof.py) cannot see a branch
# that is taken once in a thousand batches, so `forward` is followed symbolically and all that it calls must be known.


OWNED = {  # layers with a wide form, and the tensors that it takes over
    nn.Conv2d: {"weight", "bias"},
    nn.Linear: {"weight", "bias"},
    nn.BatchNorm2d: {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"},
}
CHANNELWISE = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.Hardswish, nn.Hardsigmoid,
    nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Identity, nn.Flatten,
)  # fmt: skip
FUNCTIONS = {
    operator.add, operator.iadd, operator.sub, operator.isub, operator.mul, operator.imul, operator.truediv,
    operator.neg, operator.getitem, getattr, torch.add, torch.sub, torch.mul, torch.div, torch.relu, torch.tanh,
    torch.sigmoid, torch.flatten, torch.reshape, torch.mean, F.relu, F.relu6, F.leaky_relu, F.elu, F.gelu, F.silu,
    F.hardswish, F.hardsigmoid, F.tanh, F.sigmoid, F.max_pool2d, F.avg_pool2d, F.adaptive_avg_pool2d, F.pad,
}  # fmt: skip
METHODS = {
    "add", "add_", "sub", "sub_", "mul", "mul_", "div", "div_", "relu", "relu_", "tanh", "sigmoid", "flatten", "view",
    "reshape", "mean", "size", "contiguous", "clone", "squeeze",
}  # fmt: skip
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
OF_TORCH = vars(nn.Module()).keys()  # attributes of every module


class CannotStack(ValueError):
    """The network cannot be shown to do in a stack what it does alone; such networks are trained one by one."""


def kind_of(layer: nn.Module) -> type:
    """The layer's own class, or the one that it says it is stacked as; a subclass that does not say so is another."""
    return vars(type(layer)).get("stacked_as", type(layer))


def check_kind(net: nn.Module) -> None:
    """Raise CannotStack unless all tensors are owned by known layers and `forward` does nothing unknown."""
    _check_layers(net)
    _check_owned(net)
    for training in (True, False):
        _check_forward(net, training)


def blueprint(net: nn.Module) -> tuple[object, ...]:
    """All that makes the network's function but its numbers, hashable: networks of one stack must agree in it.

    Raises:
        CannotStack: it holds what cannot be compared or what a stack would lose, such as a hook.
    """
    found, names = [], {}
    for name, module in net.named_modules(remove_duplicate=False):
        if id(module) in names:
            raise CannotStack(f"{names[id(module)]} and {name} are one layer under two names")
        names[id(module)] = name
        _check_hooks(name, module)
        settings = {key: value for key, value in vars(module).items() if key not in OF_TORCH}
        found.append((name, type(module), _frozen(settings, name or "the network"), tuple(_shapes(module))))
    return tuple(found)


def _shapes(module: nn.Module) -> Iterator[tuple[object, ...]]:
    for name, value in (*module._parameters.items(), *module._buffers.items()):
        yield (name, *(() if value is None else (value.shape, value.dtype, value.requires_grad)))


def _check_hooks(name: str, module: nn.Module) -> None:
    if any(getattr(module, kind, None) for kind in HOOKS):
        raise CannotStack(f"{name or 'the network'} has a hook")
    for own, value in module._parameters.items():
        if value is not None and (value._backward_hooks or getattr(value, "_post_accumulate_grad_hooks", None)):
            raise CannotStack(f"{name}.{own} has a hook")
    for attribute in vars(module).keys() - OF_TORCH:
        if callable(getattr(type(module), attribute, None)):
            raise CannotStack(f"{name or 'the network'} has a {attribute}() of its own")


def _frozen(value: object, where: str) -> object:
    """A hashable form of a setting; raises CannotStack for what has none, such as a tensor or a generator."""
    if isinstance(value, dict):
        return tuple((key, _frozen(one, f"{where}.{key}")) for key, one in value.items())
    if isinstance(value, list | tuple):
        return type(value), tuple(_frozen(one, where) for one in value)
    if isinstance(value, set | frozenset):
        return frozenset(_frozen(one, where) for one in value)
    if isinstance(value, functools.partial):
        return value.func, _frozen(value.args, where), _frozen(value.keywords, where)
    if is_dataclass(value) and not isinstance(value, type):
        return type(value), _frozen({f.name: getattr(value, f.name) for f in fields(value)}, where)
    plain = (bool, int, float, complex, str, bytes, type, enum.Enum, FunctionType, BuiltinFunctionType, type(None))
    if isinstance(value, (*plain, torch.dtype, torch.device, torch.memory_format)):
        return type(value), value
    if isinstance(value, MethodType):
        raise CannotStack(f"{where} is a method that is bound to one network")
    raise CannotStack(f"{where} is a {type(value).__name__} that a stack would share")


def _check_layers(net: nn.Module) -> None:
    for name, layer in net.named_modules():
        if kind_of(layer) not in OWNED and kind_of(layer) not in CHANNELWISE and _is_leaf(layer):
            raise CannotStack(f"{name or 'the network'}: {type(layer).__name__} cannot be stacked")


def _is_leaf(layer: nn.Module) -> bool:
    """Is this one of torch's own layers, which are not looked into?"""
    of_torch = type(layer).__module__.startswith("torch.nn")
    return of_torch and not isinstance(layer, nn.Sequential | nn.ModuleList | nn.ModuleDict)


def _check_owned(net: nn.Module) -> None:
    """Every parameter and buffer lies in one known layer, under its usual name, and in no other."""
    layers, places = dict(net.named_modules()), {}
    tensors = (*net.named_parameters(remove_duplicate=False), *net.named_buffers(remove_duplicate=False))
    for name, value in tensors:
        layer, _, own = name.rpartition(".")
        if own not in OWNED.get(kind_of(layers[layer]), ()):
            raise CannotStack(f"{name} lies in {type(layers[layer]).__name__}, which cannot be stacked")
        place = value.untyped_storage().data_ptr()
        if place and place in places:
            raise CannotStack(f"{places[place]} and {name} are tied: they share their numbers")
        places[place] = name


class _Follower(fx.Tracer):
    """Follows `forward` down to the layers that are known or torch's own."""

    proxy_buffer_attributes = True  # a buffer that `forward` looks at shows, as a parameter does

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return kind_of(m) in OWNED or kind_of(m) in CHANNELWISE or _is_leaf(m)


class _Computed(TorchDispatchMode):
    """Notes what is computed with real numbers: nothing, if `forward` works on its images alone."""

    def __init__(self):
        super().__init__()
        self.calls: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.calls.append(str(func))
        return func(*args, **(kwargs or {}))


def _check_forward(net: nn.Module, training: bool) -> None:
    net = copy.deepcopy(net).train(training)
    before, computed = blueprint(net), _Computed()
    try:
        with computed:
            graph = _Follower().trace(net)
    except Exception as error:  # whatever `forward` does with a stand-in for its images
        raise CannotStack(f"forward() cannot be followed: {_first_line(error)}") from error
    for node in graph.nodes:
        if node.op == "get_attr":
            raise CannotStack(f"forward() uses {node.target} outside its layer")
        if node.op == "call_function" and node.target not in FUNCTIONS:
            raise CannotStack(f"forward() calls {getattr(node.target, '__name__', node.target)}")
        if node.op == "call_method" and node.target not in METHODS:
            raise CannotStack(f"forward() calls {node.target}")
    if computed.calls:
        raise CannotStack(f"forward() computes with more than its images ({computed.calls[0]})")
    if blueprint(net) != before:
        raise CannotStack("forward() changes an attribute of the network")


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {first_line(error)}"


PIXELS, FEWEST, MOST = 16384, 4, 16  # in a batch; few images of one pixel make batch norms blow rounding up
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


@torch.no_grad()
def prove_outputs(net: nn.Module, count: int, shape: tuple[int, int, int], assemble: Assemble) -> None:
    """Raise CannotStack unless `count` such networks give the same outputs in a stack, where fewer were proven.

    A `forward` may compute with the number of channels, and go wrong for some numbers only. The layers treat all
    networks alike, so one set of weights is enough, which leaves memory for a deep stack of large networks.
    """
    for seed in range(TRIES):
        generator = torch.Generator().manual_seed(seed)
        one = as_stated(redrawn(net, generator))
        images = _images(FEWEST // 2, count, shape, generator)
        try:
            for training in (True, False):
                stacked = assemble([one.train(training)] * count).train(training)
                found = stacked(images.flatten(1, 2))
                expected = torch.cat([one(images[:, number]) for number in range(count)], dim=1)
                _compare(f"outputs of {count}", found, expected)
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
    images = _images(_batches(shape)[0], 1, shape, generator)[:, 0]
    for training in (True, False):
        found, expected = (each.train(training)(images) for each in (stated, own))
        _compare("outputs of layers as they are stacked", found, expected)
    for name, value in own.state_dict().items():
        _compare(name, stated.state_dict()[name], value)


def _batches(shape: tuple[int, int, int]) -> tuple[int, int]:
    """Sizes of the two batches; they differ, as the last batch of an epoch does."""
    images = min(max(PIXELS // (shape[1] * shape[2]), FEWEST), MOST)
    return images, images * 3 // 4


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
        self.first = [copy.deepcopy(net.state_dict()) for net in plain]

    def run(self) -> None:
        for net in (*self.plain, self.stacked):
            net.train()
        batches = _batches(self.shape)
        for batch in batches:
            self._compare_passes(batch, "in train mode", NOISE)
            self._take_steps()
            self._compare_states()
        for net in (*self.plain, self.stacked):
            net.eval()
        self._compare_passes(batches[-1], "in eval mode", 0.0)
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
