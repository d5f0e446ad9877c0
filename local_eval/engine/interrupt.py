"""End on Ctrl-C and SIGTERM: everything that was started, within two seconds, with one line on how to go on.

The first signal raises `Stopped` in the main thread, so that files are closed, locks released and workers stopped on
the way out; later ones are ignored meanwhile. Should that take too long, or something swallow the exception, a thread
ends the process. Before there is anything to unwind the first signal ends it at once, since an exception in the middle
of an import can be swallowed or printed by whatever is being imported.

How it is used: `with EndsOnSignals(line) as signals: ...`, by __main__.py alone, in the main thread.
"""

from __future__ import annotations

import _thread
import contextlib
import multiprocessing.util
import os
import signal
import sys
import threading
import time
from multiprocessing import resource_tracker
from types import FrameType

STOPPING = (signal.SIGINT, signal.SIGTERM)
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
    from local_eval.engine.processes import kill_descendants  # psutil need not be waited for by --help

    kill_descendants(apart_from=[getattr(resource_tracker._resource_tracker, "_pid", None)])
