"""The machine's GPUs: which there are, how full they are, and how many processes they take.

The process in which a command runs never starts CUDA: it would hold some hundred MB of a card for as long as it lives,
nothing that is forked from it could use the card, and a card in EXCLUSIVE_PROCESS mode would take no worker. So a
process of its own looks at the cards and ends; memory and mode are asked of the driver by NVML, which needs no context.

A worker sees one card, by CUDA_VISIBLE_DEVICES, and calls it `cuda` whichever it is. So does every submission.
"""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import dataclass
from functools import lru_cache

import torch

from local_eval.isolation.child import Failure
from local_eval.isolation.pool import Workers
from local_eval.store.errors import InputError, first_line

VISIBLE = "CUDA_VISIBLE_DEVICES"
CHECK_BY_NVML = "PYTORCH_NVML_BASED_CUDA_CHECK"
PATIENCE = 300.0  # seconds to import torch and to start CUDA; minutes where a driver is loaded anew
MODES = {0: "DEFAULT", 2: "PROHIBITED", 3: "EXCLUSIVE_PROCESS"}  # NVML's compute modes
KINDS = ("cpu", "cuda")  # of devices; torch calls AMD's cards cuda, too
WHY_NOT = {"mps": "every run is forked, and Metal does not survive that", "meta": "it computes nothing"}


@dataclass(frozen=True)
class Card:
    """A GPU that can be used."""

    number: int  # as CUDA counts here
    name: str
    uuid: str = ""  # empty where torch does not tell it

    @property
    def environment(self) -> dict[str, str]:
        """Variables with which a process sees this card alone."""
        seen = os.environ.get(VISIBLE, "")
        return {VISIBLE: seen.split(",")[self.number].strip() if seen else str(self.number)}

    def free(self) -> int | None:
        """Bytes of memory that are free now; None if that cannot be told."""
        nvml, handle = _nvml(self.uuid)
        return nvml.nvmlDeviceGetMemoryInfo(handle).free if nvml else None

    @property
    def mode(self) -> str:
        """How many processes it takes at a time: DEFAULT, EXCLUSIVE_PROCESS, PROHIBITED; empty if nobody can tell."""
        nvml, handle = _nvml(self.uuid)
        return MODES.get(nvml.nvmlDeviceGetComputeMode(handle), "") if nvml else ""

    @property
    def takes_one(self) -> bool:
        """Does it take one process at a time?"""
        return self.mode == "EXCLUSIVE_PROCESS"


@lru_cache(maxsize=64)
def _nvml(uuid: str) -> tuple:
    """NVML and its handle of a card; (None, None) if there is no NVML, as on AMD's, or it does not know the card."""
    with contextlib.suppress(Exception):  # its errors have no common base that is there without it
        import pynvml

        pynvml.nvmlInit()
        kind = "" if uuid.startswith(("GPU-", "MIG-")) else "GPU-"
        return pynvml, pynvml.nvmlDeviceGetHandleByUUID(kind + uuid)
    return None, None


def usable_device(name: str | None) -> str:
    """The device of this name, or the best there is.

    Raises:
        InputError: it cannot be used here, or it is of a kind with which nothing has been tried.
    """
    device = name or best_kind()
    kind = kind_of(device)
    if kind not in KINDS:
        reason = WHY_NOT.get(kind, "the kit works on cpu and cuda, such as cuda:1, and has not been tried on others")
        raise InputError(f"--device {device} cannot be used ({reason}); try --device cpu")
    if kind == "cuda":
        cards_of(device)
        return device
    try:
        torch.zeros(1, device=device)
    except RuntimeError as error:
        raise InputError(_unusable(device, first_line(error))) from None
    return device


def kind_of(device: str) -> str:
    """'cpu' or 'cuda': what a device is called in a worker, which sees one card."""
    return device.partition(":")[0]


def card_name(device: str) -> str:
    """What its maker calls the card, or the first of several; empty on a CPU."""
    return "" if kind_of(device) == "cpu" else cards_of(device)[0].name


@lru_cache(maxsize=8)  # cards do not come and go while a command runs
def cards_of(device: str) -> tuple[Card, ...]:
    """The card that 'cuda:1' means; for 'cuda' all cards that are like the first one. Others are told of.

    Raises:
        InputError: there is none that can be used.
    """
    with Workers(1) as worker:
        found = worker.outcome(worker.submit(_look, device, 0, PATIENCE), PATIENCE)
    if isinstance(found, Failure):
        raise InputError(_unusable(device, found.reason))
    cards, reasons = found
    if not cards:
        raise InputError(_unusable(device, reasons[0] if reasons else "torch sees no such card"))
    unlike = [card for card in cards if card.name != cards[0].name]
    reasons += [f"cuda:{card.number}, {card.name}, is unlike {cards[0].name}" for card in unlike]
    for reason in reasons:
        print(f"a card is not used: {reason}", file=sys.stderr)
    return tuple(card for card in cards if card not in unlike)


def _unusable(device: str, reason: str) -> str:
    if "busy or unavailable" in reason:
        reason += "; in mode EXCLUSIVE_PROCESS another process may hold it, PROHIBITED takes none (nvidia-smi)"
    return f"--device {device} cannot be used here ({reason}); try --device cpu"


def best_kind() -> str:
    """'cuda' if torch sees a card, else 'cpu'. The driver is asked, not CUDA, which would start in this process."""
    before = os.environ.get(CHECK_BY_NVML)
    os.environ[CHECK_BY_NVML] = "1"
    try:
        return "cuda" if torch.cuda.is_available() else "cpu"
    finally:
        if before is None:
            del os.environ[CHECK_BY_NVML]
        else:
            os.environ[CHECK_BY_NVML] = before


def _look(device: str, _: int) -> tuple[list[Card], list[str]]:
    """In a process of its own: the cards that can be used, and why others cannot."""
    number, cards, reasons = device.partition(":")[2], [], []
    for k in [int(number)] if number else range(torch.cuda.device_count()):
        try:
            torch.zeros(1, device=f"cuda:{k}")
            cards.append(Card(k, torch.cuda.get_device_name(k), _uuid(k)))
        except (RuntimeError, AssertionError) as error:
            mode = Card(k, "", _uuid(k)).mode  # asking for it needs no context
            reasons.append(f"cuda:{k}: {first_line(error)}" + (f", in compute mode {mode}" if mode else ""))
    return cards, reasons


def _uuid(number: int) -> str:
    """A card's own name for NVML; empty where torch, or the card, does not tell it."""
    with contextlib.suppress(Exception):  # without it memory and mode are not known, and all else works
        return str(torch.cuda.get_device_properties(number).uuid)
    return ""
