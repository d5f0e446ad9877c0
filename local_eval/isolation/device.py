"""Devices and random numbers: wait for a device, keep its arithmetic exact, start generators from one seed."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

# Random numbers that depend on one seed alone, and leave everybody else's as they were.
#
# A network may draw from torch (its initial weights, dropout), from numpy or from random, whoever wrote it. An oracle
# is to be the same whichever were trained before it, in whichever process, so all three start from its seed.


@contextlib.contextmanager
def seeded(seed: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """While it lasts, torch, numpy and random go on from `seed`; afterwards they are where they were before.

    Args:
        device: where the work happens: a GPU has a generator of its own.
    """
    card = torch.device(device) if torch.device(device).type == "cuda" and _card_draws() else None
    others = torch.get_rng_state(), np.random.get_state(), random.getstate()
    of_card = None if card is None else torch.cuda.get_rng_state(card)
    _start(seed, card)
    try:
        yield
    finally:
        torch.set_rng_state(others[0])
        np.random.set_state(others[1])
        random.setstate(others[2])
        if card is not None:
            torch.cuda.set_rng_state(of_card, card)


def _card_draws() -> bool:
    """Has a GPU a generator of its own? A real one always; CUDA is started, since there is none before."""
    torch.cuda.init()
    return bool(torch.cuda.default_generators)


def _start(seed: int, card: torch.device | None) -> None:
    torch.default_generator.manual_seed(seed)  # torch.manual_seed would move the generators of all GPUs
    np.random.seed(seed % 2**32)
    random.seed(seed)
    if card is not None:
        with torch.cuda.device(card):
            torch.cuda.manual_seed(seed)


def drawn_so_far() -> tuple[Any, ...]:
    """Where the generators of torch (on the CPU), numpy and random are; equal if nothing was drawn in between."""
    of_numpy = np.random.get_state()
    return torch.get_rng_state().numpy().tobytes(), of_numpy[1].tobytes(), *of_numpy[2:], random.getstate()


LEAST_CHANNELS = 8  # of a 1x1 convolution in channels last on a CPU


def exact_convolutions(same_shapes: bool = False, tf32: bool = False) -> contextlib.AbstractContextManager:
    """While it lasts, a GPU's convolutions are in float32, not rounded to TF32 as is torch's default on newer cards.

    With `same_shapes`, cuDNN tries its algorithms out first, which pays over thousands of steps.
    """
    return torch.backends.cudnn.flags(enabled=True, benchmark=same_shapes, allow_tf32=tf32)


def memory_format(net: nn.Module, device: torch.device | str, channels_last: bool = True) -> torch.memory_format:
    """The order of memory to use for a network: channels last where that is asked for and safe.

    On a CPU with AVX2, torch 2.14.1 writes past its memory in a 1x1 convolution of stride 2 that sees 4 channels laid
    channels last, so there nothing with fewer than 8 channels a group goes that way.
    """
    small = [c for c in net.modules() if isinstance(c, nn.Conv2d) and c.kernel_size == (1, 1)]
    narrow = any(c.in_channels // c.groups < LEAST_CHANNELS for c in small)
    unsafe = torch.device(device).type == "cpu" and narrow
    return torch.channels_last if channels_last and not unsafe else torch.contiguous_format


def wait(device: torch.device | str) -> None:
    """Until the device has done what it was given: a GPU works on while Python goes ahead."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def forget_precision() -> None:
    """Undo all settings of torch that trade precision or repeatability for speed, whatever code ran before.

    That rules out TF32 in convolutions too, which torch allows by default: the competition's cards do not have it.
    """
    for place in (torch.backends, torch.backends.cudnn):
        if hasattr(place, "fp32_precision"):  # since torch 2.9; it must not contradict the older settings below
            place.fp32_precision = "none"
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = torch.backends.cudnn.deterministic = False
    torch.set_float32_matmul_precision("highest")
