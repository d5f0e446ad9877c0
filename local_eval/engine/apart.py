"""Run foreign code in a process of its own, take back nothing but bytes, and leave nothing of it behind.

The process is forked from this one, which must never have run foreign code itself: so it starts with everything loaded
and nothing touched, and whatever it does to torch, to modules, signals or the environment goes with it. It leads a
process group of its own. When it has answered, failed or run out of time, the group is killed, and so is everything
that has left the group (on Linux this process adopts orphans, so it can find them; elsewhere only the group ends).

How it is used: `run_apart(work, timeout)`, from runs/runs.py, runs/check.py and kaggle/budget.py.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import struct
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass

import psutil

from local_eval.engine.errors import InputError
from local_eval.engine.failure import Failure, exit_reason

KEPT = 4000  # bytes of what was printed; the rest is read and dropped, so that no disk or pipe fills up
TICK = 0.05  # seconds between looks at whether the process still lives
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h
SECONDS, ANSWERED = struct.Struct("d"), b"a"  # what the process says: how long it took, and that it has answered
_fork, _write, _exit, _kill = os.fork, os.write, os._exit, os.kill  # foreign code may replace them in their modules
_now = time.perf_counter


@dataclass(frozen=True)
class Answer:
    """What came back from a process: bytes, or why there are none."""

    content: bytes | Failure
    seconds: float  # between `Clock.start` and `Clock.stop`; NaN if it never got there
    printed: str  # the beginning of its standard output and error
    printed_bytes: int  # how long all of it was


class Clock:
    """Handed to the work: times what is to be timed, by a clock that foreign code has not replaced."""

    def __init__(self, pipe: int):
        self._pipe, self._started = pipe, 0.0

    def start(self) -> None:
        """From now on it counts."""
        self._started = _now()

    def stop(self) -> None:
        """Up to now it counted."""
        _write(self._pipe, SECONDS.pack(_now() - self._started))


def run_apart(work: Callable[[Clock], bytes], timeout: float | None) -> Answer:
    """The bytes of `work(clock)`, from a forked process; in time or not at all.

    Args:
        timeout: seconds; None lets it take what it takes.
    """
    adopt_orphans()
    before = {process.pid for process in psutil.Process().children()} if _has_children() else set()
    with tempfile.TemporaryFile() as result:
        marks, mark = os.pipe()
        said, say = os.pipe()
        child = _fork()
        if child == 0:
            _work_and_leave(work, result.fileno(), mark, say)
        os.close(mark)
        os.close(say)
        try:
            watched = _Watch(child, marks, said)
            failure = watched.until_answer(timeout)
        finally:
            end_all(child, before)
            os.close(marks)
            os.close(said)
        result.seek(0)
        content = failure or _unwrap(result.read())
    return Answer(content, watched.seconds, watched.printed.decode(errors="replace"), watched.printed_bytes)


def _work_and_leave(work: Callable[[Clock], bytes], result: int, mark: int, say: int) -> None:
    """The child's whole life."""
    try:
        os.setsid()
        die_with_parent(signal.SIGKILL)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        _close_all_but(result, mark, say)
        sys.stdout = sys.stderr = os.fdopen(say, "w", 1, encoding="utf-8", errors="replace", closefd=False)
        os.dup2(say, 1)
        os.dup2(say, 2)
        content = memoryview(b"+" + _answer_of(work, Clock(mark)))
        while content:
            content = content[_write(result, content) :]
        _write(mark, ANSWERED)
    finally:
        _exit(0)
        _kill(os.getpid(), signal.SIGKILL)


def _answer_of(work: Callable[[Clock], bytes], clock: Clock) -> bytes:
    """What the work gives, or as JSON after a zero byte why it gives nothing."""
    try:
        return work(clock)
    except SystemExit as error:
        failure = (f"the submission called exit({error.code!r}); return from the function instead", "")
    except InputError as error:
        failure = (str(error), "")
    except BaseException as error:
        failure = (f"{type(error).__name__}: {error}", traceback.format_exc())
    return b"\0" + json.dumps(failure).encode(errors="replace")


def _unwrap(content: bytes) -> bytes | Failure:
    """Bytes as they came, or the Failure that they tell of."""
    if not content.startswith(b"+"):
        return Failure("its process gave no answer; did it close the files that it was given?")
    if not content.startswith(b"+\0"):
        return content[1:]
    try:
        reason, trace = json.loads(content[2:])
        return Failure(str(reason), str(trace))
    except ValueError:
        return Failure("its process gave no readable answer")


def _close_all_but(*kept: int) -> None:
    """What this process has open is not the foreign code's business: a pool's channel, another run's pipes."""
    low = 3
    for number in sorted(kept):
        os.closerange(low, number)
        low = number + 1
    os.closerange(low, os.sysconf("SC_OPEN_MAX") if os.sysconf("SC_OPEN_MAX") < 1 << 20 else 1 << 20)


class _Watch:
    """Reads what a process marks and prints, until it answers, dies or is out of time."""

    def __init__(self, child: int, marks: int, said: int):
        self.child, self.marks, self.said = child, marks, said
        self.open = {marks, said}
        self.heard = b""
        self.printed, self.printed_bytes = b"", 0

    def until_answer(self, timeout: float | None) -> Failure | None:
        """None once it has answered, else why it never will."""
        end = None if timeout is None else time.monotonic() + timeout
        next_look = time.monotonic() + TICK
        while True:
            ready, _, _ = select.select(self.open, [], [], TICK)
            if self.said in ready:
                self._listen()
            if self.marks in ready and self._has_answered():
                self._listen_to_the_end()
                return None
            now = time.monotonic()
            if now > next_look and not ({self.marks} & set(ready)):
                next_look = now + TICK
                if gone := self._gone():
                    return gone
            if end is not None and now > end:
                return Failure(f"still running after its limit of {timeout:g} s; it was stopped")

    def _has_answered(self) -> bool:
        self.heard += self._read(self.marks)[: SECONDS.size + 1]
        return self.heard.endswith(ANSWERED) and len(self.heard) in (1, SECONDS.size + 1)

    @property
    def seconds(self) -> float:
        """What the process's clock counted, if it was stopped."""
        return SECONDS.unpack_from(self.heard)[0] if len(self.heard) >= SECONDS.size else float("nan")

    def _listen(self) -> None:
        more = self._read(self.said)
        self.printed_bytes += len(more)
        self.printed += more[: KEPT - len(self.printed)]

    def _listen_to_the_end(self) -> None:
        while self.said in self.open and select.select([self.said], [], [], 0)[0]:
            self._listen()

    def _read(self, pipe: int) -> bytes:
        content = os.read(pipe, 65536)
        if not content:  # nobody holds its other end any more
            self.open.discard(pipe)
        return content

    def _gone(self) -> Failure | None:
        try:
            status = os.waitid(os.P_PID, self.child, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return Failure("its process is gone")
        if status is None:
            return None
        code = status.si_status if status.si_code == os.CLD_EXITED else -status.si_status
        return Failure(f"its process died ({exit_reason(code)})")


def end_all(child: int, before: set[int]) -> None:
    """Kill a process's group, and whatever else has become a child of this process since; reap them."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(child, 0)
    while _has_children():
        left = [p for p in psutil.Process().children() if p.pid not in before]
        if not left:
            return
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()  # its own children come to this process then, and are killed in the next round
        for process in left:
            with contextlib.suppress(psutil.Error, ChildProcessError):
                process.wait(1)


def end_children() -> None:
    """Kill everything that descends from this process; for a process that is about to end itself."""
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            process.kill()


def _has_children() -> bool:
    """Has this process any child? Much cheaper to ask than a list of them, and the answer is mostly no."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def adopt_orphans() -> None:
    """From now on, processes whose parent dies become children of this one, if they descend from it. Linux only."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(number: int) -> bool:
    """Send this process a signal when the parent dies, however that dies. False where that cannot be had."""
    return _prctl(PR_SET_PDEATHSIG, number)


def _prctl(option: int, value: int) -> bool:
    return sys.platform == "linux" and _libc().prctl(option, value, 0, 0, 0) == 0


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
