"""Run foreign code in a process of its own, take back nothing but bytes, and leave nothing of it behind.

The process is forked from this one, which must never have run foreign code itself: so it starts with everything loaded
and nothing touched, and whatever it does to torch, to modules, signals or the environment goes with it. It leads a
process group of its own and has a temporary folder of its own, in which it works. When it has answered, failed, run out
of time or taken all memory, the group is killed, and so is everything that has left the group (on Linux this process
adopts orphans, so it can find them; elsewhere only the group ends), and the folder is removed.

How it is used: `run_apart(work, timeout)`, from runs/one_run.py, runs/check.py and kaggle/budget.py. processes.py finds
and ends what is left; watch.py reads what the process says.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from local_eval.engine.errors import InputError
from local_eval.engine.failure import Failure
from local_eval.engine.own_folders import WORK, own_folder
from local_eval.engine.processes import adopt_orphans, children_now, die_with_parent, end_group
from local_eval.engine.watch import ANSWERED, SECONDS, Watch

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
    adopt_orphans()
    before = children_now()
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
