"""Ctrl-C, SIGTERM and kill -9 end a grading within two seconds, whatever it is doing, and leave only finished runs."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import psutil
import pytest

from local_eval.grader import Grader
from tests.conftest import TINY

SECONDS = 2.0  # until everything is gone
BUSY = 2.0  # more, on a machine that has other things to do
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
            time.sleep(0.01)

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
            time.sleep(0.02)
        seconds = time.monotonic() - start
        print(f"all gone after {seconds:.2f} s")
        for process in self.alive():  # a test that fails is not to leave them either
            process.kill()
        return code, self.process.communicate()[1], seconds


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


def begin(tmp_path, out, path, command="run", *more):
    given = [command, *path, "--task", TINY, "--runs", "16", "--out", str(out), "--workers", "2", "--device", "cpu"]
    return Command(tmp_path, "-m", "local_eval", *given, *more)


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
    "number, times, group",
    [more(INT, 1, False), (INT, 2, True), more(INT, 1, True), more(TERM, 1, False), more(TERM, 2, False)],
)
def test_while_runs_are_made(tmp_path, original_out, body, number, times, group):
    path = body(slow())
    grader = Grader(TINY, original_out, runs=16)
    folder = grader.folder / grader.run_plan(path).folder_name
    command = begin(tmp_path, original_out, [path])
    command.wait_for(finished(folder, 2))
    semaphores = command.semaphores()
    assert semaphores
    check_the_end(command, *command.stop(number, times, group), number, semaphores)
    assert all(re.fullmatch(r"\d{4}\.npz|\.lock", p.name) for p in folder.iterdir())
    assert len(grader_runs(grader, path, folder)) >= 2


def grader_runs(grader, path, folder):
    from local_eval.runs.one_run import finished_runs

    return finished_runs(grader.run_plan(path), folder, 16, (16, 3))


@pytest.mark.parametrize("number, times", [more(INT, 1), more(INT, 2), (TERM, 1), more(TERM, 2)])
def test_while_torch_is_imported(tmp_path, original_out, submission, number, times):
    command = begin(tmp_path, original_out, [submission()], "grade")
    command.wait_for(torch_is_being_imported)
    check_the_end(command, *command.stop(number, times, group=True), number, [])


@pytest.mark.parametrize("number", [INT, more(TERM)])
def test_while_workers_start(tmp_path, original_out, submission, number):
    command = begin(tmp_path, original_out, [submission()])
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


@pytest.mark.parametrize("phase", [more("workers start"), "runs"])
def test_a_killed_driver_takes_everything_along(tmp_path, original_out, body, phase):
    path = body(slow())
    grader = Grader(TINY, original_out, runs=16)
    folder = grader.folder / grader.run_plan(path).folder_name
    command = begin(tmp_path, original_out, [path])
    command.wait_for(finished(folder, 2) if phase == "runs" else a_worker_starts)
    semaphores = command.semaphores()
    _, _, seconds = command.stop(KILL)
    assert seconds < SECONDS + BUSY
    check_nothing_is_left(command, semaphores)
    assert len(grader_runs(grader, path, folder)) >= (2 if phase == "runs" else 0)
