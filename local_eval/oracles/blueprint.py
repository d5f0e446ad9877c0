"""What can be seen of a network without running it: may it be stacked with others of its kind?

A stack keeps the network's own `forward` and puts wide layers in the place of its layers. That is right only if every
number of the network lies in a layer that has a wide form, and if `forward` does nothing between its layers but what
works on each channel alone, whatever the images hold. A numerical check (proof.py) cannot see a branch that is taken
once in a thousand batches, so `forward` is followed symbolically and all that it calls must be known.

How it is used: `check_kind(net)` once a kind, `blueprint(net)` for every network, in stacked.py.
"""

from __future__ import annotations

import copy
import enum
import functools
import operator
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from types import BuiltinFunctionType, FunctionType, MethodType

import torch
from torch import fx, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

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
    return f"{type(error).__name__}: {error}".splitlines()[0]
