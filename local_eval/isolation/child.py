"""Run foreign code in a process of its own: watched, limited in time and memory, ended with all that it started.

The process is forked from this one, which must never have run foreign code itself: so it starts with everything loaded
and nothing touched, and whatever it does to torch, to modules, signals or the environment goes with it. It leads a
process group of its own and has a temporary folder of its own, in which it works. When it has answered, failed, run out
of time or taken all memory, the group is killed, and so is everything that has left the group (on Linux this process
adopts orphans, so it can find them; elsewhere only the group ends), and the folder is removed.

How it is used: `run_apart(work, timeout)`, from runs/one_run.py, runs/check.py and kaggle/budget.py. processes.py finds
and ends what is left.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import select
import signal
import struct
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Collection
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import BinaryIO

import psutil

from local_eval.isolation.processes import (
    STOPPING,
    adopt_orphans,
    children_now,
    die_with_parent,
    end_group,
    exit_code_of,
    leave_orphans,
)
from local_eval.store.errors import InputError, printable
from local_eval.store.files import WORK, own_folder

# Why a job gave no result.


FIRST_LINES, LONGEST = 5, 200  # of what it printed, and characters of each
MARK = b"failure:"
STILL_RUNNING = "still running after its limit"  # how the reason begins of what was stopped for its time


@dataclass(frozen=True)
class Failure:
    """Why a job gave no result: one line, and the traceback where there is one."""

    reason: str
    traceback: str = ""
    printed: str = ""  # the beginning of what it said

    def reported(self) -> str:
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


# How much memory is left, so that a run that takes it all is ended before the system ends something else.
#
# A machine whose memory is full kills a process of its own choice: the grader, or a node of a cluster. So the run
# that holds much of it is ended a little earlier.


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
                return Failure(f"{STILL_RUNNING} of {timeout:g} s; it was stopped")

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


class Standby:
    """A process, forked from this one, that answers requests one after the other for as long as this one lives.

    For what cannot be done here, such as using a GPU in a process that is to be forked again, and takes long to start.
    """

    def __init__(self, answer: Callable[[bytes], bytes]):
        self._ours, theirs = multiprocessing.Pipe()
        try:
            self._process = _forked(lambda: _serve(answer, theirs))
        finally:
            theirs.close()

    def ask(self, request: bytes) -> bytes | Failure:
        """What `answer(request)` gives there, or why it gives nothing. After a Failure it has ended."""
        try:
            self._ours.send_bytes(request)
            answer = _unwrap(self._ours.recv_bytes())
        except (EOFError, OSError):
            answer = Failure("the process that was to answer is gone, out of memory perhaps")
        if isinstance(answer, Failure):
            self.end()
        return answer

    def end(self) -> None:
        """End it."""
        self._ours.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self._process, 0)


def _serve(answer: Callable[[bytes], bytes], pipe: Connection) -> None:
    """The whole life of a process that stands by."""
    _close_all_but(pipe.fileno())
    with contextlib.suppress(EOFError, OSError):  # the other side is gone
        while True:
            request = pipe.recv_bytes()
            pipe.send_bytes(b"+" + _answer_of(lambda _, request=request: answer(request), None))


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


def _answer_of(work: Callable[[Clock | None], bytes], clock: Clock | None) -> bytes:
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
