"""A card that is not there: what kind it is, what this process knows of it, and what all processes share of it.

The rules that are kept, each with the error that CUDA or torch would raise (tensors.py keeps them call by call):

* tensors of two devices do not meet, but for copies, indices on the CPU and numbers;
* a process that is forked from one that has used the card cannot use it;
* while a graph is recorded nothing waits for the card, and nothing is computed: the calls go onto a tape. A replay
  plays it, on the very memory that it was recorded on;
* a card in EXCLUSIVE_PROCESS mode takes one process; memory has a limit.

What is counted: calls that launch a kernel, calls for which the CPU waits for the card, and in a `Ledger` that all
processes share who has made a context. What it cannot show: other sums than the CPU's, streams that race, seconds.
Random numbers are the CPU's, so that everything equals a CPU to the bit.

How it is used: `using.py` starts commands and functions on it; nothing but tests does.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import weakref
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from tests.pretended_card.tensors import Graph, OnCard

VARIABLE = "PRETENDED_CARD"  # of the environment: Settings as JSON
ENDLESS = 80 << 30  # bytes; of a card with so much, what is in use is not even counted


@dataclass(frozen=True)
class Settings:
    """What kind of card is pretended."""

    ledger: str  # file of the Ledger
    cards: int = 1
    memory: int = ENDLESS  # bytes that each process can have
    exclusive: bool = False
    full_recordings: int = 0  # so many recordings of graphs, in every process, run out of memory
    nvml: bool = True  # whether NVML, which tells memory and mode without a context, can be asked

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
        """This process now has one, and so has the card."""
        self._numbers[4 * os.getpid() + self.PARENT] = os.getppid()
        self._numbers[4 * os.getpid() + self.CONTEXTS] |= 1 << card
        self._numbers[card] = os.getpid()

    def owner(self, card: int) -> int:
        """The process that was the last to use a card; 0 if it has ended."""
        process = self._numbers[card]  # the place of process 0
        with contextlib.suppress(PermissionError):  # it lives, and this process is in the sandbox
            try:
                os.kill(process or os.getpid(), 0)
            except ProcessLookupError:
                return 0
        return process

    def processes(self) -> dict[int, tuple[int, int, int, int]]:
        """The numbers of every process that has made a context, by its number."""
        import numpy as np

        table = np.frombuffer(self._numbers, dtype=np.uint32).reshape(-1, 4)
        found = np.flatnonzero(table[:, self.CONTEXTS] * (np.arange(len(table)) > 0))
        return {int(process): tuple(map(int, table[process])) for process in found}


# What this process knows of its cards.


class Cards:
    """This process's side of the cards."""

    def become(self, settings: Settings, ledger: Ledger) -> None:
        """From now on there are such cards, and this process has used none of them."""
        self.settings, self.ledger = settings, ledger
        self.started_in = 0  # the process that asked for CUDA first; its children cannot use it
        self.contexts: set[int] = set()
        self.now = 0  # the current card
        self.limit = settings.memory  # bytes
        self.waits: Counter[str] = Counter()
        self.kernels: Counter[str] = Counter()
        self.recording: Graph | None = None
        self.recordings_to_fail = settings.full_recordings
        self._living: weakref.WeakValueDictionary[int, OnCard] = weakref.WeakValueDictionary()
        self._made = 0

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
        self.start()
        if not 0 <= card < len(self.visible):
            raise cuda_error("invalid device ordinal")
        if card not in self.contexts:
            if self.settings.exclusive and self.ledger.owner(self.visible[card]) not in (0, os.getpid()):
                raise cuda_error("CUDA-capable device(s) is/are busy or unavailable")
            self.ledger.has_context(self.visible[card])
            self.contexts.add(card)
        return card

    @property
    def visible(self) -> list[int]:
        """The machine's cards that this process sees, in the order in which it counts them."""
        named = os.environ._data.get(b"CUDA_VISIBLE_DEVICES")  # as C asks: the kit follows what Python files ask for
        if named is None:
            return list(range(self.settings.cards))
        numbers = [int(part.removeprefix("GPU-")) for part in named.decode().split(",") if part]
        return [k for k in numbers if k < self.settings.cards]

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
        held = [tensor.held.untyped_storage() for tensor in list(self._living.values())]
        return sum({storage.data_ptr(): storage.nbytes() for storage in held}.values())

    def allocated(self, tensor: OnCard) -> None:
        """Raise OutOfMemoryError if there is no room for it."""
        self._made += 1
        self._living[self._made] = tensor
        fails = self.recording is not None and self.recordings_to_fail > 0
        if fails or (self.limit < ENDLESS and self.used() > self.limit):
            if self.recording is not None:
                self.recordings_to_fail -= 1
                self.recording.spoilt = True
            size = tensor.held.untyped_storage().nbytes()
            raise torch.cuda.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {size} bytes (pretended)")


CARD = Cards()  # this process's, once it has become one


def cuda_error(text: str) -> RuntimeError:
    """As torch tells an error of CUDA's."""
    return getattr(torch, "AcceleratorError", RuntimeError)(f"CUDA error: {text}")
