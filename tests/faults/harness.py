"""A grading of the tiny task in a process of its own that can be killed, and what is compared afterwards.

The process is forked from the tests', so that torch is there at once. Unless a test asks for workers, it makes oracles
and runs itself; runs are forked from it, as they are from a worker.
"""

import contextlib
import hashlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from local_eval.grader import Grader
from local_eval.report.result import read_score
from local_eval.store.errors import InputError, WorkError, said_by_the_machine
from tests.conftest import TINY, work_here

RUNS = 16
SUBMISSION = """
import time
import torch

def unlearning(net, retain_loader, forget_loader, val_loader):
    time.sleep(0.02)
    with torch.no_grad():
        for weight in net.parameters():
            weight += 0.01 * torch.randn_like(weight)
    net.eval()
"""


class Store:
    """One output folder and the command that fills it."""

    def __init__(self, place: Path, out: Path | None = None):
        self.path, self.log = place / "mine.py", place / "log.txt"
        self.path.write_text(SUBMISSION)
        self.out = out or place / "out"
        self.grader = Grader(TINY, self.out, runs=RUNS)

    @property
    def runs(self) -> Path:
        """The folder of the runs; the original model need not be there."""
        (found,) = [*self.grader.folder.glob("mine-*")] or [self.grader.folder / "none yet"]
        return found

    def start(self, prepare: Callable[[], None] = lambda: None, workers: int = 0) -> int:
        """The number of a new process that makes what `grade` makes; `prepare` is called in it before."""
        child = os.fork()
        if child == 0:
            code = 70
            try:
                os.setsid()
                sink = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
                os.dup2(sink, 1)
                os.dup2(sink, 2)
                sys.stdout = sys.stderr = os.fdopen(1, "w", 1, closefd=False)
                prepare()
                code = self.grade(workers)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        return child

    def grade(self, workers: int = 0) -> int:
        """In this process: what `grade --keep-checkpoints` makes, up to the score. Returns the exit code."""
        grader = replace(self.grader, workers=workers or 1)
        try:
            with contextlib.nullcontext() if workers else pytest.MonkeyPatch.context() as patch:
                if patch is not None:
                    work_here(patch)
                grader.finish_oracles()
                _, failures = grader.finish_runs(str(self.path), keep=True)
            for index, failure in failures.items():
                print(f"run {index} failed: {failure.reason}")
            if not failures:
                grader.zip_checkpoints(str(self.path))
            return 1 if failures else 0
        except (InputError, WorkError, RuntimeError) as error:  # as __main__ has it
            print(f"error: {error}")
            return 2 if isinstance(error, InputError) else 1
        except OSError as error:
            if (text := said_by_the_machine(error)) is None:
                raise
            print(f"error: {text}")
            return 1

    def resume(self, **more) -> int:
        """The same command to its end; then the score, in this process. Returns the exit code."""
        code = self.wait(self.start(**more))
        try:
            if code == 0:
                self.grader.score(str(self.path))
        except WorkError as error:
            self.log.write_text(f"{self.said()}error: {error}\n")
            return 1
        return code

    def is_complete(self) -> bool:
        """Has everything been made?"""
        return (self.runs / "submission.zip").exists()

    def wait(self, child: int, seconds: float = 300.0) -> int:
        """The exit code of a process, negative for a signal."""
        end = time.monotonic() + seconds
        while True:
            number, status = os.waitpid(child, os.WNOHANG)
            if number:
                return os.waitstatus_to_exitcode(status)
            if time.monotonic() > end:
                kill_all(child)
                raise AssertionError(f"still there after {seconds} s: {self.said()}")
            time.sleep(0.005)

    def said(self) -> str:
        """All that its processes have said."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def finished(self) -> dict[str, tuple[int, str]]:
        """When every finished record was written, and its checksum."""
        files = [*self.grader.folder.glob("oracles/*.npz"), *self.grader.folder.glob("mine-*/*.npz")]
        whole = [file for file in files if not file.name.startswith(".")]
        return {str(f.relative_to(self.out)): (f.stat().st_mtime_ns, digest(f)) for f in sorted(whole)}

    def lost_since(self, before: dict[str, tuple[int, str]]) -> int:
        """How many of the records that were there are not, or were made or written again."""
        now = self.finished()
        return sum(now.get(name) != known for name, known in before.items())

    def differs_from(self, other: "Store") -> int:
        """1 if the score or any example's epsilon is another one, else 0."""
        mine, theirs = (read_score(store.runs / "score.json") for store in (self, other))
        keys = ("score", "interval", "ceiling", "epsilons", "retain_accuracy", "test_accuracy")
        return int(any(mine[key] != theirs[key] for key in keys))


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def family(process: int) -> list[psutil.Process]:
    """A process's descendants."""
    try:
        return psutil.Process(process).children(recursive=True)
    except psutil.Error:
        return []


def kill_all(process: int) -> None:
    """kill -9 of a process and all that descends from it, as nearly at once as can be."""
    for one in [*family(process), *([psutil.Process(process)] if psutil.pid_exists(process) else [])]:
        with contextlib.suppress(psutil.Error):
            one.send_signal(signal.SIGKILL)


def gone(processes: list[psutil.Process], seconds: float = 5.0) -> bool:
    """Are they all gone, or will be in a moment?"""
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    return not [p for p in alive if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
