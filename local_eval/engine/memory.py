"""How much memory is left, so that a run that takes it all is ended before the system ends something else.

A machine whose memory is full kills a process of its own choice: the grader, or a node of a cluster. So the run that
holds much of it is ended a little earlier (watch.py).
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import psutil

SPARE = 0.06  # of all memory; Ray starts to kill at 0.05
MUCH = 4  # a run that holds less than a core's part of the memory, divided by this, is not to blame
CGROUP = Path("/sys/fs/cgroup")


def total() -> int:
    """Bytes of memory that processes here may use together: the machine's, or less in a container."""
    limit = _number(CGROUP / "memory.max")
    return min(psutil.virtual_memory().total, limit) if limit else psutil.virtual_memory().total


def available() -> int:
    """Bytes that are left of it."""
    left = psutil.virtual_memory().available
    limit, used = _number(CGROUP / "memory.max"), _number(CGROUP / "memory.current")
    return min(left, max(limit - used, 0)) if limit and used else left


def taken_by(process: int) -> int:
    """Bytes that a process and its descendants have for themselves, apart from what they share with others."""
    found = 0
    with contextlib.suppress(psutil.Error):
        family = [psutil.Process(process), *psutil.Process(process).children(recursive=True)]
        for one in family:
            with contextlib.suppress(psutil.Error):
                found += one.memory_full_info().uss
    return found


def too_much(process: int) -> int:
    """The bytes that a process holds if memory is nearly full and it has much of it, else 0."""
    whole = total()
    if available() >= SPARE * whole:
        return 0
    taken = taken_by(process)
    return taken if taken > whole / (MUCH * (os.cpu_count() or 1)) else 0


def _number(file: Path) -> int | None:
    """What a file of the kernel's says; None if it is not there or says 'max'."""
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None
