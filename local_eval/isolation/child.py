"""Run foreign code in a process of its own: watched, limited in time and memory, ended with all that it started.

The process is forked from this one, which must never have run foreign code itself: so it starts with everything loaded
and nothing touched, and whatever it does to torch, to modules, signals or the environment goes with it. It leads a
process group of its own and has a temporary folder of its own, in which it works. When it has answered, failed, run out
of time or taken all memory, the group is killed, and so is everything that has left the group (on Linux this process
adopts orphans, so it can find them; elsewhere only the group ends), and the folder is removed.

How it is used: `run_apart(work, timeout)`, from runs/one_run.py, runs/check.py and kaggle/budget.py. processes.py finds
and ends what is left; watch.py reads what the process says.
"""

from __future__ import annotations

import _thread
import contextlib
import ctypes
import gc
import json
import multiprocessing.util
import os
import select
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Collection
from dataclasses import dataclass
from multiprocessing import resource_tracker
from pathlib import Path
from types import FrameType
from typing import BinaryIO

import psutil

from local_eval.store.errors import InputError, WorkError, printable
from local_eval.store.files import WORK, own_folder

# Why a job gave no result.


FIRST_LINES, LONGEST = 5, 200  # of what it printed, and characters of each
MARK = b"failure:"


@dataclass(frozen=True)
class Failure:
    """Why a job gave no result: one line, and the traceback where there is one."""

    reason: str
    traceback: str = ""
    printed: str = ""  # the beginning of what it said

    def told(self) -> str:
        """The reason, and the first lines of what it printed."""
        printed = ["it printed: " + first_lines(self.printed)] if self.printed.strip() else []
        return "\n    ".join([printable(self.reason), *printed])

    def as_text(self) -> str:
        """For people."""
        parts = [self.reason, self.traceback, self.printed and f"It printed:\n{self.printed}"]
        return "\n\n".join(part for part in parts if part) + "\n"

    def as_bytes(self) -> bytes:
        """For another machine; `failure_in` reads it."""
        return MARK + json.dumps([self.reason, self.traceback, self.printed]).encode(errors="replace")


def failure_in(content: bytes) -> Failure | None:
    """The Failure in what `as_bytes` made, None if these bytes are something else. Raises ValueError."""
    if not content.startswith(MARK):
        return None
    reason, traceback, printed = map(str, json.loads(content[len(MARK) :]))
    return Failure(reason, traceback, printed)


def first_lines(printed: str) -> str:
    """The first few lines that are not empty, each cut, and how many more there are."""
    lines = [printable(line.rstrip()[:LONGEST]) for line in printed.splitlines() if line.strip()]
    more = f" (and {len(lines) - FIRST_LINES} lines more)" if len(lines) > FIRST_LINES else ""
    return "\n    ".join(lines[:FIRST_LINES]) + more


def exit_reason(code: int) -> str:
    """What a process's exit code, negative for a signal, says in words."""
    if code >= 0:
        return f"exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:  # real-time signals have no names
        name = str(-code)
    return f"signal {name}" + (", out of memory perhaps" if name == "SIGKILL" else "")


# Find and end processes that descend from this one, also those that foreign code has tried to get away from it.
#
# On Linux a process can adopt the orphans among its descendants, so whatever leaves its group or session still comes
# back to it, and a process can ask to die with its parent. Elsewhere only children and their groups are ended.
#
# Imports nothing heavy: a pool's process (worker.py) must be mortal before it imports torch.


STUBBORN = 10.0  # seconds after which a process that is killed again and again counts as one that cannot be
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER, PR_GET_CHILD_SUBREAPER = 1, 36, 37  # linux/prctl.h


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


# How much memory is left, so that a run that takes it all is ended before the system ends something else.
#
# A machine whose memory is full kills a process of its own choice: the grader, or a node of a cluster. So the run
# that holds much of it is ended a little earlier (watch.py).


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


# Watch a process from outside: what it marks and prints, until it answers, dies or is out of time.


KEPT = 4000  # bytes of what was printed; the rest is read and dropped, so that no disk or pipe fills up
TICK = 0.05  # seconds between looks at whether the process still lives
MEMORY_TICK = 0.25  # seconds between looks at how much memory is left
LARGEST_PIPE = 1 << 20  # bytes; the most that can have been printed and not read
SECONDS, ANSWERED = struct.Struct("d"), b"a"  # what the process says: how long it took, and that it has answered


class Watch:
    """Reads what a process marks and prints, until it answers, dies or is out of time."""

    def __init__(self, child: int, marks: int, said: int):
        self.child, self.marks, self.said = child, marks, said
        self.open = {marks, said}
        self.heard = b""
        self.printed, self.printed_bytes = b"", 0

    def until_answer(self, timeout: float | None) -> Failure | None:
        """None once it has answered, else why it never will."""
        end = None if timeout is None else time.monotonic() + timeout
        next_look = next_measure = time.monotonic() + TICK
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
                    self._listen_to_the_end()
                    return None if self._answered_last() else gone
            if now > next_measure:
                next_measure = now + MEMORY_TICK
                if taken := too_much(self.child):
                    return Failure(f"it held {taken / 1e9:.1f} GB when the memory was nearly full; it was stopped")
            if end is not None and now > end:
                return Failure(f"still running after its limit of {timeout:g} s; it was stopped")

    def _has_answered(self) -> bool:
        self.heard += self._read(self.marks)[: SECONDS.size + 1]
        return self.heard.endswith(ANSWERED) and len(self.heard) in (1, SECONDS.size + 1)

    @property
    def seconds(self) -> float:
        """What the process's clock counted; NaN if it was never stopped."""
        return SECONDS.unpack_from(self.heard)[0] if len(self.heard) >= SECONDS.size else float("nan")

    def _answered_last(self) -> bool:
        """Did the answer come between the last look at the marks and the one at the process?"""
        return self.marks in self.open and bool(select.select([self.marks], [], [], 0)[0]) and self._has_answered()

    def _listen(self) -> None:
        more = self._read(self.said)
        self.printed_bytes += len(more)
        self.printed += more[: KEPT - len(self.printed)]

    def _listen_to_the_end(self) -> None:
        """What it had printed when it answered; what it left running may print on for ever."""
        end = self.printed_bytes + LARGEST_PIPE
        while self.said in self.open and self.printed_bytes < end and select.select([self.said], [], [], 0)[0]:
            self._listen()

    def _read(self, pipe: int) -> bytes:
        content = os.read(pipe, 65536)
        if not content:  # nobody holds its other end any more
            self.open.discard(pipe)
        return content

    def _gone(self) -> Failure | None:
        try:
            code = exit_code_of(self.child)
        except ChildProcessError:
            return Failure("its process is gone")
        if code is None:
            return None
        if code < 0:
            return Failure(f"its process died ({exit_reason(code)})")
        words = f"its process ended without an answer ({exit_reason(code)})"
        return Failure(f"{words}; did it call os._exit or close all files?")


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


STOPPING = (signal.SIGINT, signal.SIGTERM)
# Foreign code may replace these in their modules.
_fork, _write, _exit, _kill, _pid = os.fork, os.write, os._exit, os.kill, os.getpid
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

    def __init__(self, pipe: int, home: str):
        self.home = home  # the folder in which the command was given; the process works in one of its own
        self._pipe, self._started, self._process = pipe, 0.0, _pid()

    def start(self) -> None:
        """From now on it counts."""
        self._started = _now()

    def stop(self) -> None:
        """Up to now it counted. A copy of the process has no say."""
        if _pid() == self._process:
            _write(self._pipe, SECONDS.pack(_now() - self._started))


def run_apart(work: Callable[[Clock], bytes], timeout: float | None) -> Answer:
    """The bytes of `work(clock)`, from a forked process; in time or not at all.

    Args:
        timeout: seconds; None lets it take what it takes.
    """
    began, before = adopt_orphans(), children_now()
    try:
        return _run_apart(work, timeout, before)
    finally:
        if began:
            leave_orphans()


def _run_apart(work: Callable[[Clock], bytes], timeout: float | None, before: Collection[int]) -> Answer:
    with own_folder() as folder, _nameless_file() as result:
        (marks, mark), (said, say) = os.pipe(), os.pipe()
        try:
            try:
                child = _forked(lambda: _work_and_leave(work, folder, result.fileno(), mark, say))
            finally:
                os.close(mark)
                os.close(say)
            try:
                watched = Watch(child, marks, said)
                failure = watched.until_answer(timeout)
            finally:
                end_group(child, before)
        finally:
            os.close(marks)
            os.close(said)
        result.seek(0)
        content = failure or _unwrap(result.read())
    return Answer(content, watched.seconds, watched.printed.decode(errors="replace"), watched.printed_bytes)


def _nameless_file() -> BinaryIO:
    """For the answer. In memory where that can be had: foreign code may have filled the disk."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("answer"), "w+b")
    return tempfile.TemporaryFile()


def _forked(life: Callable[[], None]) -> int:
    """Fork a child for `life()`, which must end it. No handler of this process's for a signal is called in it."""
    parent = os.getpid()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    child = _fork()
    if child == 0:
        try:
            os.setsid()
            die_with_parent(signal.SIGKILL)
            if os.getppid() == parent:  # else it died before it could be asked
                for number in STOPPING:
                    signal.signal(number, signal.SIG_DFL)
                signal.pthread_sigmask(signal.SIG_SETMASK, ())
                life()
        finally:
            _exit(0)
            _kill(os.getpid(), signal.SIGKILL)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return child


def _work_and_leave(work: Callable[[Clock], bytes], folder: Path, result: int, mark: int, say: int) -> None:
    """The child's whole life. A copy that the work makes of it, with os.fork, has nothing to say."""
    itself = _pid()
    _close_all_but(result, mark, say)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, end in enumerate((nothing, say, say)):
        os.dup2(end, number)
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
    home = _current_folder()
    os.chdir(folder / WORK)
    sys.stdout = sys.stderr = os.fdopen(say, "w", 1, encoding="utf-8", errors="replace", closefd=False)
    content = memoryview(b"+" + _answer_of(work, Clock(mark, home)))
    while content and _pid() == itself:
        content = content[_write(result, content) :]
    if _pid() == itself:
        _write(mark, ANSWERED)


def _current_folder() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:  # removed meanwhile: nothing lies there that could be looked for
        return os.sep


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
    except (ValueError, TypeError, RecursionError):
        return Failure("its process gave no readable answer")


def _close_all_but(*kept: int) -> None:
    """What this process has open is not the foreign code's business: a pool's channel, another run's pipes."""
    low = 3
    for number in sorted(kept):
        os.closerange(low, number)
        low = number + 1
    os.closerange(low, os.sysconf("SC_OPEN_MAX") if os.sysconf("SC_OPEN_MAX") < 1 << 20 else 1 << 20)
