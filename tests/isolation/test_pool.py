"""Jobs that raise, hang or kill their process become failures; the others go on."""

import contextlib
import os
import signal
import sys
import time
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest
import torch

from local_eval.isolation import pool
from local_eval.isolation.child import Failure
from local_eval.isolation.pool import run_jobs

OF_THE_PARENT = []


def misbehave(kinds: dict, index: int):
    kind = kinds.get(index)
    if kind == "raise":
        raise ValueError("told to")
    if kind == "hang":
        time.sleep(600)
    if kind == "exit":
        os._exit(7)
    if kind == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    print("noise" * 1000)
    return index * index, torch.get_num_threads(), list(OF_THE_PARENT)


def test_every_kind_of_failure_is_told_and_the_others_go_on():
    kinds = {1: "raise", 2: "hang", 3: "exit", 4: "kill"}
    found = dict(run_jobs(misbehave, kinds, list(range(6)), workers=2, timeout=3, title="test"))
    assert found[0] == (0, 1, [])
    assert found[5] == (25, 1, [])
    reasons = [found[i].reason for i in (1, 2, 3, 4)]
    assert all(isinstance(found[i], Failure) for i in (1, 2, 3, 4))
    assert "told to" in reasons[0]
    assert "limit of 3 s" in reasons[1]
    assert "exit code 7" in reasons[2]
    assert "SIGKILL" in reasons[3]


@pytest.mark.spawned
def test_a_worker_starts_afresh_with_one_thread_and_nothing_of_the_parents(monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "OF_THE_PARENT", ["state"])
    ((_, found),) = run_jobs(misbehave, {}, [3], workers=1, timeout=120, title="test")
    assert found == (9, 1, [])


def slow_disk(_: None, index: int):
    raise TimeoutError("the disk did not answer")


def test_without_a_limit_a_jobs_own_timeout_is_no_other_than_its_own():
    ((_, failure),) = run_jobs(slow_disk, None, [0], workers=1, timeout=None, title="test")
    assert failure.reason == "TimeoutError: the disk did not answer"


def test_workers_die_with_a_killed_parent(tmp_path):
    parent = os.fork()
    if parent == 0:
        with contextlib.suppress(BaseException):
            list(run_jobs(note_and_sleep, str(tmp_path), [0, 1], workers=2, timeout=600, title="test"))
        os._exit(0)
    notes = [tmp_path / "0", tmp_path / "1"]
    wait_until(lambda: all(n.exists() and n.read_text() for n in notes), 60)
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    workers = [int(n.read_text()) for n in notes]
    wait_until(lambda: not any(alive(pid) for pid in workers), 20)
    assert not any(alive(pid) for pid in workers)


def note_and_sleep(folder: str, index: int):
    (Path(folder) / str(index)).write_text(str(os.getpid()))
    time.sleep(600)


def wait_until(condition, seconds: float):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.1)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return "zombie" not in Path(f"/proc/{pid}/status").read_text()
    except (ProcessLookupError, FileNotFoundError):
        return False


class Breaking:
    """Stands in for `Workers`: a pool that makes some jobs and then breaks, as pebble's may when a job kills it."""

    makes: list[int] = []

    def __init__(self, count, forked=False):
        self.left = self.makes.pop(0)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def submit(self, function, argument, index, timeout):
        future = Future()
        self.left -= 1
        if self.left >= 0:
            future.set_result(function(argument, index))
        else:
            future.set_exception(BrokenProcessPool("All workers expired"))
        return future

    def outcome(self, future, timeout):
        return future.result()


def test_what_a_broken_pool_did_not_come_to_is_made_by_another_unless_that_makes_nothing(monkeypatch):
    monkeypatch.setattr(pool, "Workers", Breaking)
    monkeypatch.setattr(Breaking, "makes", [1, 0, 2])
    found = dict(pool.run_jobs(lambda base, index: base + index, 10, [0, 1, 2], 2, None, "jobs"))
    assert found[0] == 10 and [found[k] for k in (1, 2)] == [pool.BROKEN] * 2
    monkeypatch.setattr(Breaking, "makes", [1, 1, 5])
    assert dict(pool.run_jobs(lambda base, index: base + index, 10, [0, 1, 2], 2, None, "jobs")) == {
        0: 10,
        1: 11,
        2: 12,
    }
    assert Breaking.makes == []


def lose_the_card(lost: dict, index: int):
    if index in lost["here"]:
        lost["files"].joinpath(str(index)).write_text(str(os.getpid()))
        raise RuntimeError("CUDA error: an illegal memory access was encountered")
    if index in lost["elsewhere"]:
        return Failure("RuntimeError: CUDA error: device-side assert triggered")  # of a process of its own
    return os.getpid()


def test_a_process_that_lost_its_card_makes_no_further_job_and_one_that_tells_of_another_goes_on(tmp_path):
    lost = {"files": tmp_path, "here": {2}, "elsewhere": {1, 4}}
    found = dict(pool.run_jobs(lose_the_card, lost, list(range(6)), 1, None, "jobs"))
    assert "illegal memory access" in found[2].reason
    assert all("device-side assert" in found[k].reason for k in (1, 4))
    gone = int((tmp_path / "2").read_text())
    assert found[0] == gone and found[3] == found[5] != gone


def test_full_memory_is_known_by_all_its_names_also_behind_another_error():
    said = (
        "CUDA out of memory. Tried to allocate 2.00 GiB", "CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate",
        "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED", "CUBLAS_STATUS_NOT_INITIALIZED",
        "CUDA error: operation failed due to a previous error during capture", "cudaErrorStreamCaptureInvalidated",
    )  # fmt: skip
    for text in said:
        assert pool.memory_was_full(RuntimeError(text)), text
        assert pool.memory_was_full(Failure("RuntimeError: CUDA error", f"Traceback ...\nRuntimeError: {text}")), text
    try:
        try:
            raise MemoryError("CUDA out of memory")
        finally:
            raise RuntimeError("CUDA error: invalid argument")  # as the end of a recording does
    except RuntimeError as error:
        assert pool.memory_was_full(error)
        error.__cause__ = error
        assert not pool.memory_was_full(error), "and a circle ends"
    assert not pool.memory_was_full(RuntimeError("CUDA error: device-side assert triggered"))
