"""A pool that ends takes along what its jobs have started, and nothing of whoever uses it."""

import ctypes
import multiprocessing
import subprocess
import sys
import time

import psutil
import pytest

from local_eval.isolation.child import run_apart
from local_eval.isolation.pool import Workers
from local_eval.isolation.processes import PR_GET_CHILD_SUBREAPER

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="orphans are adopted on Linux only")
SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


def adopts() -> bool:
    found = ctypes.c_int()
    ctypes.CDLL(None).prctl(PR_GET_CHILD_SUBREAPER, ctypes.byref(found), 0, 0, 0)
    return bool(found.value)


def leave_an_orphan(_: None, index: int) -> int:
    """Start a process in another session whose parent ends at once; its number."""
    text = f"import subprocess; print(subprocess.Popen({SLEEP!r}, start_new_session=True, stdout=-3, stderr=-3).pid)"
    return int(subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True).stdout)


def test_processes_that_the_caller_starts_meanwhile_live_on_and_orphans_of_jobs_do_not():
    with Workers(1) as pool:
        orphan = pool.outcome(pool.submit(leave_an_orphan, None, 0, 60), 60)
        process = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(60,))
        process.start()
        popen = subprocess.Popen(SLEEP, start_new_session=True)
        assert adopts()
    try:
        assert process.is_alive()
        assert popen.poll() is None
        assert not psutil.pid_exists(orphan)
        assert not adopts(), "the caller is left as it was"
    finally:
        process.terminate()
        popen.kill()
        popen.wait()
        process.join()


def test_a_single_job_leaves_the_caller_as_it_was_too():
    assert run_apart(lambda clock: b"done", 60).content == b"done"
    assert not adopts()
