"""Ctrl-C, SIGTERM and kill -9 end a grading within two seconds, whatever it is doing, and leave only finished runs."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

import psutil
import pytest

from local_eval.__main__ import how_to_go_on, main
from local_eval.grader import Grader
from local_eval.isolation.processes import EndsOnSignals, adopt_orphans, end_children, leave_orphans
from tests.conftest import TINY

SECONDS = 2.0  # until everything is gone
BUSY = 2.0  # more, on a machine that has other things to do
LOOK = 0.1  # between two looks at all processes of this machine, which take a while
MARK = "TEST_OF_INTERRUPTS"  # in the environment of every process that a test starts
INT, TERM, KILL = signal.SIGINT, signal.SIGTERM, signal.SIGKILL
SLOW = """
import subprocess, time
subprocess.Popen(['sleep', '600'], start_new_session=True)
time.sleep(0.3)
"""


def slow() -> str:
    """A submission of its own for every test: none goes on with another's runs."""
    return f"{SLOW}unlike_the_others = {uuid.uuid4().hex!r}\n"


class Command:
    """A command of the kit in a session of its own, and what can be seen of it from outside."""

    def __init__(self, tmp_path: Path, *arguments: str):
        self.mark, self.temporary = uuid.uuid4().hex, tmp_path / "temporary"
        self.temporary.mkdir()
        environment = os.environ | {MARK: self.mark, "TMPDIR": str(self.temporary)}
        self.process = subprocess.Popen(
            [sys.executable, *arguments],
            env=environment,
            text=True,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(INT, signal.SIG_DFL),  # a shell's background jobs ignore Ctrl-C
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def wait_for(self, condition) -> None:
        end = time.monotonic() + 120
        while not condition(self.process.pid):
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < end
            time.sleep(0.03)

    def semaphores(self) -> list[Path]:
        maps = Path(f"/proc/{self.process.pid}/maps").read_text()
        return [Path(name) for name in set(re.findall(r"/dev/shm/\S+", maps))]

    def alive(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get(MARK) == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def stop(self, number: int, times: int = 1, group: bool = False) -> tuple[int, str, float]:
        """Send a signal; returns exit code, what it said, and seconds until nothing of it was alive."""
        start = time.monotonic()
        for k in range(times):
            with contextlib.suppress(ProcessLookupError):
                (os.killpg if group else os.kill)(self.process.pid, number)
            time.sleep(0.1 if k + 1 < times else 0)
        code = self.process.wait(30)
        while self.alive() and time.monotonic() < start + 30:
            time.sleep(LOOK)
        seconds = time.monotonic() - start
        print(f"all gone after {seconds:.2f} s")
        for process in self.alive():  # a test that fails is not to leave them either
            process.kill()
        return code, self.process.communicate()[1], seconds


class Fork:
    """A Popen of a command that is forked from this process, which has imported what takes most of a command's time."""

    def __init__(self, temporary: Path, arguments: list[str]):
        self.said, self.code = temporary.parent / "said", None
        self.pid = os.fork()
        if self.pid == 0:
            try:
                self._live(temporary, arguments)
            finally:
                os._exit(1)

    def _live(self, temporary: Path, arguments: list[str]) -> None:
        """As the end of local_eval/__main__.py, in a process that looks like a new one."""
        os.setsid()
        for number in (INT, TERM):
            signal.signal(number, signal.SIG_DFL)
        said = os.open(self.said, os.O_WRONLY | os.O_CREAT)
        os.dup2(said, 1)
        os.dup2(said, 2)
        os.environ["TMPDIR"], tempfile.tempdir, sys.stdout, sys.stderr = str(temporary), None, *map(open_end, (1, 2))
        with EndsOnSignals(how_to_go_on(arguments)) as signals:
            os._exit(main(arguments, signals))

    def poll(self) -> int | None:
        if self.code is None and (found := os.waitpid(self.pid, os.WNOHANG))[0]:
            self.code = os.waitstatus_to_exitcode(found[1])
        return self.code

    def wait(self, seconds: float) -> int:
        end = time.monotonic() + seconds
        while self.poll() is None and time.monotonic() < end:
            time.sleep(0.01)
        assert self.code is not None
        return self.code

    def communicate(self) -> tuple[str, str]:
        return "", self.said.read_text()


def open_end(number: int):
    return os.fdopen(number, "w", 1, closefd=False)


class ForkedCommand(Command):
    """A command that is not `python -m local_eval`, but a fork of this process that calls `main`."""

    def __init__(self, tmp_path: Path, *arguments: str):
        self.temporary = tmp_path / "temporary"
        self.temporary.mkdir()
        adopt_orphans()  # what it leaves behind comes here
        self.before = {p.pid for p in psutil.Process().children(recursive=True)}
        self.process = Fork(self.temporary, list(arguments))

    def alive(self) -> list[psutil.Process]:
        found = [p for p in psutil.Process().children(recursive=True) if p.pid not in self.before]
        return [p for p in found if p.status() != psutil.STATUS_ZOMBIE]

    def stop(self, number: int, times: int = 1, group: bool = False) -> tuple[int, str, float]:
        try:
            return super().stop(number, times, group)
        finally:
            end_children(self.before)  # it is these that have died already, which nobody else waits for
            leave_orphans()


def torch_is_being_imported(pid: int) -> bool:
    return "libtorch" in Path(f"/proc/{pid}/maps").read_text()


def a_worker_starts(pid: int) -> bool:
    for child in psutil.Process(pid).children():
        with contextlib.suppress(psutil.Error):  # other children, such as git, may be gone by now
            if "spawn_main" in " ".join(child.cmdline()):
                return True
    return False


def finished(folder: Path, count: int):
    return lambda pid: len(list(folder.glob("*.npz"))) >= count


def begin(tmp_path, out, path, command="run", *more, workers=2):
    """With one worker it is a fork of this process, else a command as it is given by a user, slow to start."""
    given = [command, *path, "--task", TINY, "--runs", "16", "--out", str(out), "--device", "cpu"]
    given += ["--workers", str(workers), *more]
    return ForkedCommand(tmp_path, *given) if workers == 1 else Command(tmp_path, "-m", "local_eval", *given)


def check_the_end(command, code, said, seconds, number, semaphores):
    assert code == 128 + number
    assert seconds < SECONDS + BUSY
    (line,) = [
        line for line in said.splitlines() if " done, " not in line and not line.endswith(" gone")
    ]  # no progress
    assert "goes on from there: python -m local_eval" in line
    assert TINY in line
    check_nothing_is_left(command, semaphores)


def check_nothing_is_left(command, semaphores):
    assert not command.alive()
    assert not [s for s in semaphores if s.exists()]
    assert not list(command.temporary.rglob("*"))


def more(*given):
    """What is stopped in yet another way or place, apart from the one below that is always tried."""
    return pytest.param(*given, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    "number, times, group, workers",
    [
        (INT, 2, True, 1),
        more(INT, 1, False, 2),
        more(INT, 2, True, 2),
        more(INT, 1, True, 2),
        more(TERM, 1, False, 2),
        more(TERM, 2, False, 2),
    ],
)
def test_while_runs_are_made(tmp_path, original_out, body, number, times, group, workers):
    path = body(slow())
    grader = Grader(TINY, original_out, runs=16)
    folder = grader.folder / grader.run_plan(path).folder_name
    command = begin(tmp_path, original_out, [path], workers=workers)
    command.wait_for(finished(folder, workers))
    semaphores = command.semaphores()
    assert semaphores
    check_the_end(command, *command.stop(number, times, group), number, semaphores)
    assert all(re.fullmatch(r"\d{4}\.npz|\.lock", p.name) for p in folder.iterdir())
    assert len(grader_runs(grader, path, folder)) >= workers


def grader_runs(grader, path, folder):
    from local_eval.runs.one_run import finished_runs

    return finished_runs(grader.run_plan(path), folder, 16, (16, 3))


@pytest.mark.parametrize("number, times", [more(INT, 1), more(INT, 2), (TERM, 1), more(TERM, 2)])
def test_while_torch_is_imported(tmp_path, original_out, submission, number, times):
    command = begin(tmp_path, original_out, [submission()], "grade")
    command.wait_for(torch_is_being_imported)
    check_the_end(command, *command.stop(number, times, group=True), number, [])


@pytest.mark.spawned
@pytest.mark.parametrize("number, workers", [(INT, 1), more(INT, 2), more(TERM, 2)])
def test_while_workers_start(tmp_path, original_out, submission, number, workers):
    command = begin(tmp_path, original_out, [submission()], workers=workers)
    command.wait_for(a_worker_starts)
    semaphores = command.semaphores()
    check_the_end(command, *command.stop(number, group=True), number, semaphores)


@pytest.mark.slow
def test_while_oracles_are_trained(tmp_path, original_out):
    command = begin(tmp_path, tmp_path / "out", [], "oracles", "--runs", "512")
    folder = Grader(TINY, tmp_path / "out").folder / "oracles"
    command.wait_for(finished(folder, 1))
    semaphores = command.semaphores()
    check_the_end(command, *command.stop(INT, 2, group=True), INT, semaphores)


STUBBORN = """
import subprocess, sys, time
from local_eval.isolation.processes import EndsOnSignals
with EndsOnSignals("interrupted; the same command goes on from there: python -m local_eval TINY") as signals:
    signals.from_now_on_unwind()
    subprocess.Popen(["sleep", "600"], start_new_session=True)
    open(sys.argv[1], "w").close()
    while True:
        try:
            time.sleep(600)
        except BaseException:
            pass
"""


@pytest.mark.parametrize("number, times", [more(INT, 1), (TERM, 2)])
def test_also_where_something_swallows_the_exception(tmp_path, number, times):
    ready = tmp_path / "ready"
    command = Command(tmp_path, "-c", STUBBORN.replace("TINY", TINY), str(ready))
    command.wait_for(lambda _: ready.exists())
    check_the_end(command, *command.stop(number, times), number, [])


@pytest.mark.parametrize("phase, workers", [("runs", 1), more("workers start", 2), more("runs", 2)])
def test_a_killed_driver_takes_everything_along(tmp_path, original_out, body, phase, workers):
    path = body(slow())
    grader = Grader(TINY, original_out, runs=16)
    folder = grader.folder / grader.run_plan(path).folder_name
    command = begin(tmp_path, original_out, [path], workers=workers)
    command.wait_for(finished(folder, workers) if phase == "runs" else a_worker_starts)
    semaphores = command.semaphores()
    _, _, seconds = command.stop(KILL)
    assert seconds < SECONDS + BUSY
    check_nothing_is_left(command, semaphores)
    assert len(grader_runs(grader, path, folder)) >= (workers if phase == "runs" else 0)
