"""Tensors on the pretended card: every call of torch's is checked against CUDA's rules, and done by the CPU.

torch's C++ takes such a tensor for one on the CPU, which is why its autograd and all of Python's layers work unchanged.
Python asks for `device` and hears of the card; calls come by `called`, which sees what every kernel would see.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

import torch
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map_only

from tests.pretended_card.card import CARD, cuda_error

REAL = {"to": torch.Tensor.to, "tensor": torch.tensor, "Generator": torch.Generator}


def _on_the_host(*_, **__):
    raise TypeError(
        "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory first."
    )


class OnCard(torch.Tensor):
    """A tensor on a card. torch's C++ takes it for one on the CPU; Python, and every call, sees the card."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held: torch.Tensor, card: int):
        layout = {"strides": held.stride(), "storage_offset": held.storage_offset(), "dtype": held.dtype}
        self = torch.Tensor._make_wrapper_subclass(cls, held.size(), **layout, device="cpu", requires_grad=False)
        self.held, self.card = held, card
        return self

    @property
    def device(self) -> torch.device:
        return torch.device("cuda", self.card)

    is_cuda, is_cpu = property(lambda self: True), property(lambda self: False)
    numpy = __array__ = _on_the_host

    @property
    def data(self) -> torch.Tensor:
        return self.detach()

    @data.setter
    def data(self, value: OnCard) -> None:
        torch.Tensor.data.__set__(self, value)
        self.held, self.card = value.held, value.card

    def get_device(self) -> int:
        return self.card

    def tolist(self) -> list:
        CARD.wait("tolist")
        return self.held.tolist()

    def new_tensor(self, data, **how) -> torch.Tensor:
        return torch.tensor(data, **{"device": self.device, "dtype": self.dtype} | how)

    def pin_memory(self, *_) -> torch.Tensor:
        raise RuntimeError("cannot pin 'torch.cuda.FloatTensor' only dense CPU tensors can be pinned")

    def __repr__(self, **_) -> str:
        return f"OnCard({self.held!r}, device='{self.device}')"

    def __reduce_ex__(self, protocol: int):
        return _unpickled, (moved(self.detach(), torch.device("cpu")), self.card, self.requires_grad)

    def __deepcopy__(self, memo: dict) -> torch.Tensor:
        if id(self) not in memo:
            with torch.no_grad():
                out = self.detach().clone()
            out.requires_grad_(self.requires_grad)
            memo[id(self)] = torch.nn.Parameter(out, self.requires_grad) if is_parameter(self) else out
        return memo[id(self)]

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return called(func, types, args, kwargs or {})


def is_parameter(tensor: torch.Tensor) -> bool:
    return isinstance(tensor, torch.nn.Parameter)


def _unpickled(values: torch.Tensor, card: int, requires_grad: bool) -> torch.Tensor:
    return moved(values, torch.device("cuda", card)).requires_grad_(requires_grad)


class OnEveryCall(TorchDispatchMode):
    """Sees the calls that make tensors, too, which have none among what they are given."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return called(func, types, args, kwargs or {})


# Every call of torch's.


NO_KERNEL = {
    "view", "_unsafe_view", "t", "transpose", "permute", "expand", "slice", "select", "unsqueeze", "squeeze", "split",
    "split_with_sizes", "chunk", "detach", "alias", "as_strided", "unbind", "_reshape_alias", "lift_fresh", "diagonal",
    "unfold", "view_as_real", "is_same_size", "is_pinned", "record_stream",
}  # fmt: skip
EMPTY = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"}  # memory, and no kernel either
WAITING = {
    "_local_scalar_dense", "nonzero", "masked_select", "unique", "_unique2", "unique_consecutive", "unique_dim",
    "equal", "is_nonzero", "bincount", "repeat_interleave",
}  # fmt: skip
INDEXING = {"index", "index_put", "index_put_", "_unsafe_index", "_index_put_impl_", "_unsafe_index_put"}
COPYING = {"copy_", "_to_copy", "copy", "_copy_from"}


def card_of(device: object) -> int | None:
    """The number of a card, None for another device."""
    if device is None or torch.device(device).type != "cuda":
        return None
    index = torch.device(device).index
    return CARD.now if index is None else index


def called(func, types: tuple, args: tuple, kwargs: dict):
    """Do a call of torch's as a card would, on the values that tensors hold."""
    if OnCard not in types and card_of(kwargs.get("device")) is None:
        return func(*args, **kwargs)
    leaves = tree_leaves((args, kwargs))
    ours = [leaf for leaf in leaves if isinstance(leaf, OnCard)]
    asked = card_of(kwargs.get("device"))  # C++ may say "cpu" because it takes our tensors for the CPU's
    name = func.overloadpacket.__name__
    where = CARD.touch(ours[0].card if ours and asked is None else asked)
    check_generator(kwargs.get("generator"))
    check_devices(name, args, leaves, ours)
    if waits := what_waits(name, args, kwargs):
        CARD.wait(waits)
    held_args, held_kwargs = tree_map_only(OnCard, lambda t: t.held, (args, kwargs))
    if asked is not None:
        held_kwargs = held_kwargs | {"device": torch.device("cpu")}
    if "pin_memory" in held_kwargs:
        held_kwargs["pin_memory"] = None
    if name not in NO_KERNEL | EMPTY:
        CARD.launch(name)
    if CARD.recording is not None and name not in NO_KERNEL | EMPTY:
        found = CARD.recording.record(func, held_args, held_kwargs)
    else:
        found = func(*held_args, **held_kwargs)
    if name in COPYING and name != "_to_copy" and not isinstance(args[0], OnCard):
        return args[0]  # from the card into a tensor of the CPU's
    found = tree_map_only(torch.Tensor, lambda t: _wrapped(t, where, name), found)
    return return_and_correct_aliasing(func, args, kwargs, found) if ours else found


def _wrapped(held: torch.Tensor, card: int, name: str) -> OnCard:
    tensor = OnCard(held, card)
    if name not in NO_KERNEL:
        CARD.allocated(tensor)
    return tensor


def check_generator(generator: torch.Generator | None) -> None:
    if generator is not None and not isinstance(generator, CardGenerator):
        raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")


def check_devices(name: str, args: tuple, leaves: list, ours: list[OnCard]) -> None:
    """Raise RuntimeError if tensors of two devices meet that must not."""
    if name in COPYING or name == "_foreach_copy_":
        return
    others = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor) and not isinstance(leaf, OnCard)]
    if name in INDEXING:
        if not isinstance(args[0], OnCard):
            raise RuntimeError("indices should be either on cpu or on the same device as the indexed tensor (cpu)")
        others = [t for t in args[2:3] if isinstance(t, torch.Tensor) and not isinstance(t, OnCard)]
    lists = [t for a in args if isinstance(a, (list, tuple)) for t in a if any(t is other for other in others)]
    written = args[0] if name.endswith("_") and args else None
    meeting = [t for t in others if t.ndim or t is written or (name not in INDEXING and any(t is x for x in lists))]
    cards = sorted({f"cuda:{t.card}" for t in ours} | {"cpu" for _ in meeting})
    if len(cards) > 1:
        raise RuntimeError(
            "Expected all tensors to be on the same device, but found at least two devices, "
            f"{' and '.join(cards[::-1])}! ({name})"
        )


def what_waits(name: str, args: tuple, kwargs: dict) -> str:
    """Why the CPU has to wait for the card in this call; nothing if it goes on at once."""
    if name in COPYING:
        source = args[0] if name in ("_to_copy", "_copy_from") else args[1]
        if isinstance(source, OnCard):
            stays = isinstance(args[0], OnCard) or name == "_copy_from"
            return "" if stays else "to the host"
        late = kwargs.get("non_blocking") or (name == "copy_" and len(args) > 2 and args[2])
        return "" if late and is_pinned(source) else "from the host"
    if name in INDEXING:
        indices = [index for index in args[1] or () if isinstance(index, torch.Tensor)]
        if any(index.dtype in (torch.bool, torch.uint8) for index in indices):
            return "index by a mask"
        return "index from the host" if any(not isinstance(index, OnCard) for index in indices) else ""
    return name if name in WAITING else ""


# Graphs: what is called while one is recorded goes onto its tape.


class Graph:
    """Stands in for torch.cuda.CUDAGraph."""

    def __init__(self, *_, **__):
        CARD.touch()
        self.tape, self.spoilt, self.replays = [], False, 0

    def record(self, func, args: tuple, kwargs: dict):
        """Put a call onto the tape; what it gives has the right shape, and values that nobody may read."""
        copied = tree_map_only(torch.Tensor, torch.clone, (args, kwargs))  # nothing that exists may change
        made = func(*copied[0], **copied[1])
        self.tape.append((func, args, kwargs, made))
        return made

    def replay(self) -> None:
        """Do what was recorded, on the memory that it was recorded on."""
        CARD.touch()
        CARD.launch("replay")
        self.replays += 1
        for func, args, kwargs, made in self.tape:
            again = func(*args, **kwargs)
            for old, new, about in zip(_listed(made), _listed(again), func._schema.returns):
                if about.alias_info is None and old is not None:  # else it was written where it lies
                    for target, value in zip(_listed(old), _listed(new)):
                        target.copy_(value)

    def reset(self) -> None:
        self.tape = []


def _listed(value) -> list:
    return list(value) if isinstance(value, (list, tuple)) else [value]


@contextlib.contextmanager
def recording(graph: Graph, *_, **__) -> Iterator[None]:
    """Stands in for torch.cuda.graph. An error spoils the recording, and then only that is told, as CUDA does it."""
    gc.collect()
    CARD.recording = graph
    try:
        yield
    finally:
        CARD.recording = None
        if graph.spoilt:
            raise cuda_error("operation failed due to a previous error during capture")


# From and to the card.


def is_pinned(tensor: torch.Tensor) -> bool:
    return getattr(tensor, "pinned_for_a_card", False)


class Move(torch.autograd.Function):
    """A copy on another device, whose gradient comes back."""

    @staticmethod
    def forward(ctx, tensor, device, late):
        ctx.back = tensor.device
        from_card, to_card = isinstance(tensor, OnCard), device.type == "cuda"
        held = tensor.held if from_card else tensor.detach()
        if from_card:
            CARD.touch(tensor.card)
        if to_card:
            CARD.touch(device.index)
        if from_card != to_card and not (to_card and late and is_pinned(tensor)):
            CARD.wait("from the host" if to_card else "to the host")
        CARD.launch("copy")
        copied = held.detach().clone()
        if not to_card:
            return copied
        out = OnCard(copied, device.index)
        CARD.allocated(out)
        return out

    @staticmethod
    def backward(ctx, gradient):
        return moved(gradient, ctx.back), None, None


def moved(tensor: torch.Tensor, device: torch.device, late: bool = False) -> torch.Tensor:
    """The tensor itself if it is there, else a copy."""
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", CARD.now)
    return tensor if tensor.device == device else Move.apply(tensor, device, late)


def to(self: torch.Tensor, *args, **kwargs) -> torch.Tensor:
    """Stands in for Tensor.to."""
    copy = kwargs.pop("copy", False)
    other = args[0] if args and isinstance(args[0], torch.Tensor) else kwargs.pop("other", None)
    if other is not None:
        args = (other.device, other.dtype, *args[1:])
    if len(args) > 2 and isinstance(args[-1], bool) and isinstance(args[-2], bool):
        args, copy = args[:-1], args[-1]
    device, dtype, late, order = torch._C._nn._parse_to(*args, **kwargs)
    if device is not None and device.type not in ("cpu", "cuda"):
        return REAL["to"](self, *args, **kwargs)
    out = self if device is None else moved(self, device, late)
    if dtype is None and order is None and not (copy and out is self):
        return out
    how = {} if order is None else {"memory_format": order}
    return REAL["to"](out, dtype or out.dtype, copy=copy and out is self, **how)


class CardGenerator(torch.Generator):
    """Stands in for torch.Generator; one that is asked for on a card knows it."""

    def __new__(cls, device="cpu"):
        if card_of(device) is None:
            return REAL["Generator"](device)
        CARD.touch()
        return super().__new__(cls)

    device = property(lambda self: torch.device("cuda", 0))
