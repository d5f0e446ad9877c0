"""Find and end processes: what foreign code has started, and all of this command's on Ctrl-C and SIGTERM.

On Linux a process can adopt the orphans among its descendants, so whatever leaves its group or session still comes
back to it, and a process can ask to die with its parent. Elsewhere only children and their groups are ended.

Imports nothing heavy: a pool's process must be mortal before it imports torch.
"""

from __future__ import annotations

import _thread
import contextlib
import ctypes
import gc
import multiprocessing.util
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection
from multiprocessing import resource_tracker
from types import FrameType

import psutil

from local_eval.store.errors import WorkError

STUBBORN = 10.0  # seconds after which a process that is killed again and again counts as one that cannot be
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER, PR_GET_CHILD_SUBREAPER = 1, 36, 37  # linux/prctl.h
STOPPING = (signal.SIGINT, signal.SIGTERM)


class ProcessesLeft(WorkError):
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

    What this process's own code has started meanwhile, by subprocess or multiprocessing, is left alone.


    Raises:
        ProcessesLeft: some cannot be killed.
    """
    ours, started = os.getsid(0), None

    def is_strange(pid: int) -> bool:
        nonlocal started
        if session_of(pid) in (ours, None):
            return False
        started = _started_here() if started is None else started  # looked up only where there is a candidate
        return pid not in started

    end_children(before, is_strange)


def _started_here() -> set[int]:
    """The children for which this process holds a Popen: nothing that was adopted has one."""
    mine = {found.pid for found in gc.get_objects() if issubclass(type(found), subprocess.Popen)}
    return mine | {process.pid for process in multiprocessing.active_children()}


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


def adopt_orphans() -> bool:
    """From now on, processes whose parent dies become children of this one, if they descend from it. Linux only.

    Returns:
        Whether that is new: `leave_orphans` is for whoever began it.
    """
    if sys.platform != "linux":
        return False
    was = ctypes.c_int()
    ctypes.CDLL(None).prctl(PR_GET_CHILD_SUBREAPER, ctypes.byref(was), 0, 0, 0)
    return not was.value and _prctl(PR_SET_CHILD_SUBREAPER, 1)


def leave_orphans() -> None:
    """From now on this process adopts no orphans, as is usual."""
    _prctl(PR_SET_CHILD_SUBREAPER, 0)


def die_with_parent(number: int) -> bool:
    """Send this process a signal when the thread that made it ends, however that happens. False if it cannot be had."""
    return _prctl(PR_SET_PDEATHSIG, number)


def _prctl(option: int, value: int) -> bool:
    return sys.platform == "linux" and ctypes.CDLL(None).prctl(option, value, 0, 0, 0) == 0


# End on Ctrl-C and SIGTERM: everything that was started, within two seconds, with one line on how to go on.
#
# The first signal raises `Stopped` in the main thread, so that files are closed, locks released and workers stopped
# on the way out; later ones are ignored meanwhile. Should that take too long, or something swallow the exception, a
# thread ends the process. Before there is anything to unwind the first signal ends it at once, since an exception in
# the middle of an import can be swallowed or printed by whatever is being imported.


PATIENCE = 1.2  # seconds for the way out; the hard end takes a moment, too


class Stopped(KeyboardInterrupt):
    """This process was asked to end, by a signal."""


class EndsOnSignals:
    """While it lasts, Ctrl-C and SIGTERM end the process with exit code 130 or 143, and nothing is left running."""

    def __init__(self, line: str):
        """`line` tells the user what to do next; it goes to standard error."""
        self._line = line
        self._number: int | None = None
        self._unwinds = False
        self._ending = threading.Lock()
        self._heard: list[int] = []

    def __enter__(self) -> EndsOnSignals:
        self._heard = [n for n in STOPPING if signal.getsignal(n) is not signal.SIG_IGN]  # nohup's wish is granted
        for number in self._heard:
            signal.signal(number, self._hear)
        return self

    def from_now_on_unwind(self) -> None:
        """From now on there is something to clean up: a signal raises `Stopped` instead of ending at once."""
        self._unwinds = True

    def __exit__(self, *exception) -> None:
        if self._number is not None:
            with contextlib.suppress(OSError, ValueError):
                sys.stdout.flush()
            self._end()
        for number in self._heard:  # what is left is the interpreter's own end, which needs no tidying
            signal.signal(number, signal.SIG_DFL)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self._number is not None:
            return
        self._number = number
        if not self._unwinds:
            self._end()
        _thread.start_new_thread(self._end_late, ())  # threading.Thread waits for locks that this thread may hold
        raise Stopped

    def _end_late(self) -> None:
        time.sleep(PATIENCE)
        self._end()

    def _end(self) -> None:
        """End everything and this process; the second caller waits for the first one's end."""
        if not self._ending.acquire(blocking=False):
            time.sleep(60)
        with contextlib.suppress(Exception):
            _end_descendants()
        with contextlib.suppress(Exception):
            multiprocessing.util._run_finalizers()  # semaphores are taken back; nothing is waited for
        with contextlib.suppress(OSError):
            begin = "\n" if os.isatty(2) else ""  # after a progress bar and what the terminal shows of Ctrl-C
            os.write(2, f"{begin}{self._line}\n".encode(errors="replace"))
        os._exit(128 + self._number)


def _end_descendants() -> None:
    """All but the process that looks after semaphores, which ends with this one and would be missed before."""
    # psutil need not be waited for by --help

    kill_descendants(apart_from=[getattr(resource_tracker._resource_tracker, "_pid", None)])
