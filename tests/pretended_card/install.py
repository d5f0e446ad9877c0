"""Put the pretended card into this process: what stands in for torch.cuda, Tensor.to, NVML and the rest."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from types import SimpleNamespace

import torch

from tests.pretended_card.card import CARD, Ledger, Settings
from tests.pretended_card.tensors import REAL, CardGenerator, Graph, OnCard, OnEveryCall, card_of, moved, recording, to

NAME = "Pretended Card"


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
    card = CARD.visible[CARD.touch(None if device is None else _number(device))]
    return SimpleNamespace(
        name=NAME, total_memory=CARD.settings.memory, major=9, minor=0, multi_processor_count=132, uuid=f"GPU-{card}"
    )


def _nvml() -> SimpleNamespace:
    """Stands in for the module pynvml; a card's handle is its number in the machine."""
    return SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda uuid: int(uuid.removeprefix("GPU-")),
        nvmlDeviceGetMemoryInfo=lambda card: SimpleNamespace(free=CARD.limit, total=CARD.settings.memory),
        nvmlDeviceGetComputeMode=lambda card: 3 if CARD.settings.exclusive else 0,
    )


def _keep_inference_to_no_gradients() -> None:
    """torch.inference_mode as torch.no_grad: what torch keeps of inference's tensors does not go with wrapped ones."""

    def enter(self) -> None:
        self.before = torch.is_grad_enabled()
        torch.set_grad_enabled(self.before and not self.mode)

    mode = torch.autograd.grad_mode.inference_mode
    mode.__enter__, mode.__exit__ = enter, lambda self, *_: torch.set_grad_enabled(self.before)


def install(settings: Settings) -> None:
    """From now on this process has pretended cards; there is no way back, so do it in a process of its own."""
    CARD.become(settings, Ledger(settings.ledger))
    touching = {
        "current_device": lambda: CARD.touch(),
        "get_device_name": lambda device=None: (CARD.touch(), NAME)[1],
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
        "device_count": lambda: len(CARD.visible),
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
    sys.modules["pynvml"] = _nvml() if settings.nvml else None
    _keep_inference_to_no_gradients()
    _teach_accelerator()
    _teach_optimisers()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    OnEveryCall().__enter__()


def as_if_spawned() -> None:
    """In a process that was forked from one with a card: it knows nothing of that, as one that was spawned would."""
    CARD.become(CARD.settings, CARD.ledger)


def _teach_accelerator() -> None:
    if place := getattr(torch, "accelerator", None):  # since torch 2.6
        place.is_available = _is_available
        place.current_accelerator = lambda check_available=False: torch.device("cuda")
        place.current_device_index = lambda: CARD.touch()
        place.current_stream = lambda device=None: Stream()
        place.device_count = lambda: len(CARD.visible)
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
