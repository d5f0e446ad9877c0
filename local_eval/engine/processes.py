"""Find and end processes that descend from this one, also those that foreign code has tried to get away from it.

On Linux a process can adopt the orphans among its descendants, so whatever leaves its group or session still comes
back to it, and a process can ask to die with its parent. Elsewhere only children and their groups are ended.

Imports nothing heavy: a pool's process (worker.py) must be mortal before it imports torch.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable, Collection

import psutil

STUBBORN = 10.0  # seconds after which a process that is killed again and again counts as one that cannot be
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h


class ProcessesLeft(RuntimeError):
    """Some processes cannot be ended; the message names them."""


def children_now() -> frozenset[int]:
    """The numbers of this process's children."""
    return frozenset(p.pid for p in psutil.Process().children()) if has_children() else frozenset()


def end_group(leader: int, before: Collection[int]) -> None:
    """Kill a child's process group, and whatever else has become a child of this process since `before`; reap them.

    Raises:
        ProcessesLeft: some cannot be killed, or make others faster than they can be.
    """
    for kill in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            kill(leader, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(leader, 0)
    end_children(before)


def end_strangers(before: Collection[int]) -> None:
    """Kill and reap the children in another session that are none of `before`: adopted from a process that died.

    Raises:
        ProcessesLeft: some cannot be killed.
    """
    ours = os.getsid(0)
    end_children(before, lambda pid: session_of(pid) not in (ours, None))


def session_of(pid: int) -> int | None:
    """The session that a process is in; None if there is no such process."""
    try:
        return os.getsid(pid)
    except OSError:
        return None


def end_children(before: Collection[int] = (), which: Callable[[int], bool] = lambda _: True) -> None:
    """Kill and reap this process's children that are none of `before`, and theirs, which come to it when those die.

    Raises:
        ProcessesLeft: some cannot be killed, or make others faster than they can be.
    """
    end = time.monotonic() + STUBBORN
    while has_children():
        left = [p for p in psutil.Process().children() if p.pid not in before and which(p.pid)]
        if not left:
            return
        if time.monotonic() > end:
            raise ProcessesLeft(f"these processes cannot be ended: {', '.join(str(p.pid) for p in left)}")
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        for process in left:
            with contextlib.suppress(psutil.Error, ChildProcessError):
                process.wait(0.5)


def kill_descendants(apart_from: Collection[int] = ()) -> None:
    """Kill everything that descends from this process, without waiting; for a process that is about to end itself."""
    for _ in range(3):  # what is made meanwhile, or comes here when its parent dies, is seen the next time
        living = [p for p in psutil.Process().children(recursive=True) if p.pid not in apart_from]
        for process in living:
            with contextlib.suppress(psutil.Error):
                process.kill()
        if not living:
            return


def exit_code_of(child: int) -> int | None:
    """A child's exit code, negative for a signal, once it has ended; None while it lives.

    It is left to be reaped where that is possible, so that its number goes to no other process meanwhile.

    Raises:
        ChildProcessError: there is no such child.
    """
    if not hasattr(os, "waitid"):  # macOS
        number, status = os.waitpid(child, os.WNOHANG)
        return os.waitstatus_to_exitcode(status) if number else None
    ended = os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    if ended is None:
        return None
    return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status


def has_children() -> bool:
    """Has this process any child? Much cheaper to ask than a list of them, and the answer is mostly no."""
    if not hasattr(os, "waitid"):  # macOS
        return bool(psutil.Process().children())
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def adopt_orphans() -> None:
    """From now on, processes whose parent dies become children of this one, if they descend from it. Linux only."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(number: int) -> bool:
    """Send this process a signal when the thread that made it ends, however that happens. False if it cannot be had."""
    return _prctl(PR_SET_PDEATHSIG, number)


def _prctl(option: int, value: int) -> bool:
    return sys.platform == "linux" and ctypes.CDLL(None).prctl(option, value, 0, 0, 0) == 0
