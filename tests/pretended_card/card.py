"""A card that is not there: tensors that say cuda:0 and keep CUDA's rules, while their values lie in the CPU's memory.

What is kept, and told by the error that CUDA or torch would raise:

* tensors of two devices do not meet, but for copies, indices on the CPU and numbers;
* a process that is forked from one that has used the card cannot use it;
* while a graph is recorded nothing waits for the card, and nothing is computed: the calls go onto a tape. A replay
  plays it, on the very memory that it was recorded on;
* a card in EXCLUSIVE_PROCESS mode takes one process; memory has a limit.

What is counted: calls that launch a kernel, calls for which the CPU waits for the card (`waits`), and in a `Ledger` that
all processes share who has made a context. What it cannot show: other sums than the CPU's, streams that race, seconds.
Random numbers are the CPU's, so that everything equals a CPU to the bit.

How it is used: `using.py` starts commands and functions on it; nothing but tests does.
"""

from __future__ import annotations

import contextlib
import gc
import json
import mmap
import os
import weakref
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import SimpleNamespace

import torch
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map_only

VARIABLE = "PRETENDED_CARD"  # of the environment: Settings as JSON
CARDS = 4  # at most
GIGABYTE = 1 << 30


@dataclass(frozen=True)
class Settings:
    """What kind of card is pretended."""

    ledger: str  # file of the Ledger
    cards: int = 1
    memory: int = 80 * GIGABYTE  # bytes that each process can have
    exclusive: bool = False
    full_recordings: int = 0  # so many recordings of graphs, in every process, run out of memory

    def environment(self) -> dict[str, str]:
        """The variable by which other processes know of it."""
        return {VARIABLE: json.dumps(asdict(self))}


# Which processes have made contexts, and how often the CPU waited for the card: in memory that all of them share.
#
# Every process has a place of its own, found by its number, so that nobody has to lock anything. It is mapped before
# foreign code runs, since a process in the sandbox can open no file.


class Ledger:
    """Four numbers for every process: its parent, its contexts (a bit for each card), waits and kernels."""

    PARENT, CONTEXTS, WAITS, KERNELS = range(4)

    def __init__(self, path: str | Path):
        size = 16 * (int(Path("/proc/sys/kernel/pid_max").read_text()) + 1)
        with open(path, "a+b") as file:
            if os.path.getsize(path) < size:
                file.truncate(size)  # sparse: what nobody writes to takes no disk
            self._numbers = memoryview(mmap.mmap(file.fileno(), size)).cast("I")

    def add(self, what: int, count: int = 1) -> None:
        """For this process."""
        self._numbers[4 * os.getpid() + what] += count

    def has_context(self, card: int) -> None:
        """This process now has one."""
        self._numbers[4 * os.getpid() + self.PARENT] = os.getppid()
        self._numbers[4 * os.getpid() + self.CONTEXTS] |= 1 << card

    def owner(self, card: int) -> int:
        """The living process that has a card in EXCLUSIVE_PROCESS mode for itself; 0 if nobody does."""
        process = self._numbers[card]  # the place of process 0
        with contextlib.suppress(PermissionError):  # it lives, and this process is in the sandbox
            try:
                os.kill(process or os.getpid(), 0)
            except ProcessLookupError:
                return 0
        return process

    def own(self, card: int) -> None:
        """This process has it."""
        self._numbers[card] = os.getpid()

    def processes(self) -> dict[int, tuple[int, int, int, int]]:
        """The numbers of every process that has made a context, by its number."""
        import numpy as np

        table = np.frombuffer(self._numbers, dtype=np.uint32).reshape(-1, 4)
        found = np.flatnonzero(table[:, self.CONTEXTS] * (np.arange(len(table)) > 0))
        return {int(process): tuple(map(int, table[process])) for process in found}


# What this process knows of its cards.


@dataclass
class Cards:
    """This process's side of the cards."""

    settings: Settings
    ledger: Ledger
    started_in: int = 0  # the process that asked for the card first; its children cannot use it
    contexts: set[int] = field(default_factory=set)
    now: int = 0  # the current card
    limit: int = 0  # bytes
    waits: Counter[str] = field(default_factory=Counter)
    kernels: Counter[str] = field(default_factory=Counter)
    recording: Graph | None = None
    recordings_to_fail: int = 0
    living: weakref.WeakValueDictionary = field(default_factory=weakref.WeakValueDictionary)
    made: int = 0

    def start(self) -> None:
        """What torch.cuda.is_available() does: CUDA is started, without a context."""
        self.started_in = self.started_in or os.getpid()

    def in_bad_fork(self) -> bool:
        return self.started_in not in (0, os.getpid())

    def touch(self, card: int | None = None) -> int:
        """Use a card; the first use makes a context."""
        card = self.now if card is None else card
        if self.in_bad_fork():
            raise RuntimeError(
                "Cannot re-initialize CUDA in forked subprocess. To use CUDA with multiprocessing, you must use the "
                "'spawn' start method"
            )
        if not 0 <= card < self.settings.cards:
            raise cuda_error("invalid device ordinal")
        self.start()
        if card not in self.contexts:
            if self.settings.exclusive and self.ledger.owner(card) not in (0, os.getpid()):
                raise cuda_error("CUDA-capable device(s) is/are busy or unavailable")
            self.ledger.own(card)
            self.ledger.has_context(card)
            self.contexts.add(card)
        return card

    def wait(self, what: str) -> None:
        """The CPU waits for the card."""
        if self.recording is not None:
            self.recording.spoilt = True
            raise cuda_error(f"operation not permitted when stream is capturing ({what})")
        self.waits[what] += 1
        self.ledger.add(Ledger.WAITS)

    def launch(self, name: str) -> None:
        self.kernels[name] += 1
        self.ledger.add(Ledger.KERNELS)

    def used(self) -> int:
        """Bytes that living tensors hold."""
        held = [tensor.held.untyped_storage() for tensor in list(self.living.values())]
        return sum({storage.data_ptr(): storage.nbytes() for storage in held}.values())

    def allocated(self, tensor: OnCard) -> None:
        """Raise OutOfMemoryError if there is no room for it."""
        self.made += 1
        self.living[self.made] = tensor
        fails = self.recording is not None and self.recordings_to_fail > 0
        if fails or (self.limit < 80 * GIGABYTE and self.used() > self.limit):
            if self.recording is not None:
                self.recordings_to_fail -= 1
                self.recording.spoilt = True
            size = tensor.held.untyped_storage().nbytes()
            raise torch.cuda.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {size} bytes (pretended)")


CARD: Cards | None = None  # this process's; None where nothing is pretended


def cuda_error(text: str) -> RuntimeError:
    """As torch tells an error of CUDA's."""
    return getattr(torch, "AcceleratorError", RuntimeError)(f"CUDA error: {text}")


# Tensors on the card.


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
            is_parameter = isinstance(self, torch.nn.Parameter)
            out = torch.nn.Parameter(out, self.requires_grad) if is_parameter else out.requires_grad_(self.requires_grad)
            memo[id(self)] = out
        return memo[id(self)]

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return called(func, args, kwargs or {})


def _unpickled(values: torch.Tensor, card: int, requires_grad: bool) -> torch.Tensor:
    return moved(values, torch.device("cuda", card)).requires_grad_(requires_grad)


class OnEveryCall(TorchDispatchMode):
    """Sees the calls that make tensors, too, which have none among what they are given."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return called(func, args, kwargs or {})


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


def called(func, args: tuple, kwargs: dict):
    """Do a call of torch's as a card would, on the values that tensors hold."""
    leaves = tree_leaves((args, kwargs))
    ours = [leaf for leaf in leaves if isinstance(leaf, OnCard)]
    asked = card_of(kwargs.get("device"))  # C++ may say "cpu" because it takes our tensors for the CPU's
    if not ours and asked is None:
        return func(*args, **kwargs)
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


# From and to the card, and the rest of torch.cuda.


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


def pin_memory(self: torch.Tensor, *_) -> torch.Tensor:
    """Stands in for Tensor.pin_memory: locked memory belongs to a context."""
    CARD.touch()
    out = self.clone()
    out.pinned_for_a_card = True
    return out


def tensor(data, *, device=None, requires_grad=False, **how) -> torch.Tensor:
    """Stands in for torch.tensor, which asks CUDA itself."""
    card = None if device is None else card_of(device)
    if card is None:
        return REAL["tensor"](data, device=device, requires_grad=requires_grad, **how)
    return moved(REAL["tensor"](data, **how), torch.device("cuda", card)).requires_grad_(requires_grad)


class CardGenerator(torch.Generator):
    """Stands in for torch.Generator; one that is asked for on a card knows it."""

    def __new__(cls, device="cpu"):
        if card_of(device) is None:
            return REAL["Generator"](device)
        CARD.touch()
        return super().__new__(cls)

    device = property(lambda self: torch.device("cuda", 0))


class Stream:
    """Stands in for torch.cuda.Stream: all streams are one."""

    def __init__(self, device=None, **_):
        CARD.touch(card_of(device))
        self.device = torch.device("cuda", CARD.now if device is None else card_of(device))

    def synchronize(self) -> None:
        CARD.wait("synchronize")

    def wait_stream(self, other: Stream) -> None:
        """In order anyway."""

    wait_event = record_event = wait_stream

    def is_capturing(self) -> bool:
        return CARD.recording is not None


class Event:
    """Stands in for torch.cuda.Event."""

    def __init__(self, **_):
        CARD.touch()

    def record(self, *_) -> None:
        """At once."""

    def synchronize(self) -> None:
        CARD.wait("synchronize")

    def elapsed_time(self, other: Event) -> float:
        return 1.0


@contextlib.contextmanager
def on_card(device: object) -> Iterator[None]:
    """Stands in for torch.cuda.device."""
    before, CARD.now = CARD.now, CARD.now if device is None else _number(device)
    try:
        yield
    finally:
        CARD.now = before


def _number(device: object) -> int:
    return device if isinstance(device, int) else card_of(device)


def _is_available() -> bool:
    if os.environ.get("PYTORCH_NVML_BASED_CUDA_CHECK") != "1":
        CARD.start()
    return True


def _set_device(device: object) -> None:
    CARD.now = CARD.touch(_number(device))


def _synchronize(device: object = None) -> None:
    CARD.touch(None if device is None else _number(device))
    CARD.wait("synchronize")


def _set_fraction(fraction: float, device: object = None) -> None:
    CARD.touch()
    CARD.limit = int(fraction * CARD.settings.memory)


def _properties(device: object = None) -> SimpleNamespace:
    CARD.touch()
    return SimpleNamespace(
        name="Pretended Card", total_memory=CARD.settings.memory, major=9, minor=0, multi_processor_count=132
    )


REAL = {"to": torch.Tensor.to, "tensor": torch.tensor, "Generator": torch.Generator}


def install(settings: Settings) -> Cards:
    """From now on this process has pretended cards; there is no way back, so do it in a process of its own."""
    global CARD
    CARD = Cards(settings, Ledger(settings.ledger), limit=settings.memory, recordings_to_fail=settings.full_recordings)
    touching = {
        "current_device": lambda: CARD.touch(),
        "get_device_name": lambda device=None: (CARD.touch(), "Pretended Card")[1],
        "get_device_capability": lambda device=None: (CARD.touch(), (9, 0))[1],
        "get_device_properties": _properties,
        "mem_get_info": lambda device=None: (CARD.touch(), (CARD.limit - CARD.used(), CARD.settings.memory))[1],
        "set_per_process_memory_fraction": _set_fraction,
        "empty_cache": lambda: None,
        "memory_allocated": lambda device=None: CARD.used(),
        "memory_reserved": lambda device=None: CARD.used(),
        "max_memory_allocated": lambda device=None: CARD.used(),
        "max_memory_reserved": lambda device=None: CARD.used(),
        "reset_peak_memory_stats": lambda device=None: None,
        "synchronize": _synchronize,
        "set_device": _set_device,
        "current_stream": lambda device=None: Stream(),
        "default_stream": lambda device=None: Stream(),
        "get_rng_state": lambda device=None: (CARD.touch(), torch.get_rng_state())[1],
        "set_rng_state": lambda state, device=None: (CARD.touch(), torch.set_rng_state(state))[1],
    }
    quiet = {
        "is_available": _is_available,
        "device_count": lambda: settings.cards,
        "is_initialized": lambda: bool(CARD.contexts) and not CARD.in_bad_fork(),
        "_is_in_bad_fork": lambda: CARD.in_bad_fork(),
        "_lazy_init": lambda: CARD.touch(),
        "manual_seed": lambda seed: None,
        "manual_seed_all": lambda seed: None,
        "is_current_stream_capturing": lambda: CARD.recording is not None,
        "stream": lambda stream: contextlib.nullcontext(),
        "device": on_card,
        "Stream": Stream,
        "Event": Event,
        "CUDAGraph": Graph,
        "graph": recording,
    }
    for name, stand_in in (touching | quiet).items():
        setattr(torch.cuda, name, stand_in)
    torch.Tensor.to, torch.Tensor.pin_memory = to, pin_memory
    torch.Tensor.cpu = lambda self, *_, **__: moved(self, torch.device("cpu"))
    torch.Tensor.cuda = lambda self, device=None, non_blocking=False, **_: moved(
        self, torch.device("cuda", CARD.now if device is None else _number(device)), non_blocking
    )
    torch.tensor, torch.Generator = tensor, CardGenerator
    _teach_accelerator()
    _teach_optimisers()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    OnEveryCall().__enter__()
    return CARD


def as_if_spawned() -> None:
    """In a process that was forked from one with a card: it knows nothing of that, as one that was spawned would."""
    global CARD
    CARD = Cards(CARD.settings, CARD.ledger, limit=CARD.settings.memory)
    CARD.recordings_to_fail = CARD.settings.full_recordings


def _teach_accelerator() -> None:
    if place := getattr(torch, "accelerator", None):  # since torch 2.6
        place.is_available = _is_available
        place.current_accelerator = lambda check_available=False: torch.device("cuda")
        place.current_device_index = lambda: CARD.touch()
        place.current_stream = lambda device=None: Stream()
        place.device_count = lambda: CARD.settings.cards
        place.synchronize = _synchronize


def _teach_optimisers() -> None:
    """That our tensors may go through their calls for many tensors, as those of a card do."""
    from torch.optim import optimizer
    from torch.utils import _foreach_utils

    _foreach_utils._foreach_supported_types.append(OnCard)
    if optimizer._foreach_supported_types is not _foreach_utils._foreach_supported_types:
        optimizer._foreach_supported_types.append(OnCard)
    grouped = optimizer.Optimizer._group_tensors_by_device_and_dtype

    def by_card(lists, with_indices=False):
        found = grouped(lists, with_indices)
        return {(_device_of(group[0][0], key[0]), *key[1:]): group for key, group in found.items()}

    optimizer.Optimizer._group_tensors_by_device_and_dtype = staticmethod(by_card)


def _device_of(tensors: list, otherwise: torch.device) -> torch.device:
    return next((t.device for t in tensors if isinstance(t, OnCard)), otherwise)
