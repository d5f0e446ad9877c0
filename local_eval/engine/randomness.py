"""Random numbers that depend on one seed alone, and leave everybody else's as they were.

A network may draw from torch (its initial weights, dropout), from numpy or from random, whoever wrote it. An oracle is
to be the same whichever were trained before it, in whichever process, so all three start from its seed.

How it is used: `with seeded(seed): net = make_net()`
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch


@contextlib.contextmanager
def seeded(seed: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """While it lasts, torch, numpy and random go on from `seed`; afterwards they are where they were before.

    Args:
        device: where the work happens: a GPU has a generator of its own.
    """
    card = torch.device(device) if torch.device(device).type == "cuda" else None
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
