"""Many independent jobs on a pool of processes, with time limits and crash detection (pebble does the work).

A job that raises, hangs or kills its process becomes a `Failure`, and the others go on. Results arrive in the parent,
one at a time, in the order in which they finish.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as JobTimeout
from multiprocessing import resource_tracker
from typing import Any

from pebble import ProcessExpired, ProcessPool

from local_eval.engine.failure import Failure, exit_reason
from local_eval.engine.own_folders import remove_of_the_dead
from local_eval.engine.processes import adopt_orphans, children_now, end_strangers
from local_eval.engine.progress import Progress
from local_eval.engine.worker import STOPPED, start_worker

# What full GPU memory is called by the allocator and CUDA, by cuBLAS, and by cuDNN, which swallows the first
OUT_OF_MEMORY = ("out of memory", "ALLOC_FAILED", "unable to find an engine")


def default_workers(device: str) -> int:
    """How many processes to use: one per usable core on a CPU, one on a GPU."""
    if device.partition(":")[0] != "cpu":
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_was_full(reason: str) -> bool:
    """Does an error's text say that the GPU's memory was full?"""
    return any(sign in reason for sign in OUT_OF_MEMORY)


def run_jobs(
    function: Callable[[Any, int], Any],
    argument: Any,
    indices: list[int],
    workers: int,
    timeout: float | None,
    title: str,
    models: int = 1,
) -> Iterator[tuple[int, Any]]:
    """Yield (index, function(argument, index) or Failure) for every index, as they finish, with a progress bar.

    `timeout` is in seconds for one job; None lets it take what it takes.
    `function` must be importable (a module's top level) and should catch what it can explain better. `models` is how
    many one job makes, for the bar. Leaving the iteration early, by an exception or Ctrl-C, stops the workers.
    """
    if not indices:
        return
    finished: queue.SimpleQueue = queue.SimpleQueue()
    with Workers(min(workers, len(indices))) as pool:
        for index in indices:
            future = pool.submit(function, argument, index, timeout)
            future.add_done_callback(lambda future, index=index: finished.put((index, future)))
        with Progress(models * len(indices), title) as progress:
            for _ in indices:
                index, future = _next(finished, progress)
                yield index, pool.outcome(future, timeout)
                progress.update(models)


class Workers:
    """`with Workers(2) as pool: pool.submit(...)`: processes, each with one job at a time; the end stops them."""

    def __init__(self, count: int):
        adopt_orphans()  # what a job has started comes here if its worker is killed
        resource_tracker.ensure_running()  # now, because it undoes what `_deaf_to_ctrl_c` does
        self._before = children_now()
        # Spawned, not forked: CUDA and OpenMP do not survive a fork, and no state leaks from the parent.
        self._pool = ProcessPool(
            max_workers=count,
            context=multiprocessing.get_context("spawn"),
            initializer=start_worker,
            initargs=(os.getpid(),),
        )

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *exception) -> None:
        self.stop()

    def submit(self, function: Callable[[Any, int], Any], argument: Any, index: int, timeout: float | None) -> Future:
        """Have a job made; `outcome` tells what became of it."""
        with _deaf_to_ctrl_c():
            return self._pool.schedule(function, args=(argument, index), timeout=timeout)

    def outcome(self, future: Future, timeout: float | None) -> Any:
        """Wait for what a job gives, or a Failure; `timeout` is the one that it was submitted with."""
        return _outcome(future, timeout, self._before)

    def stop(self) -> None:
        """End them, whatever they are doing."""
        self._pool.stop()
        for process in multiprocessing.active_children():  # all at once; pebble asks one after the other
            if process.pid not in self._before:
                process.terminate()
        self._pool.join()
        end_strangers(self._before)
        remove_of_the_dead()


def _next(finished: queue.SimpleQueue, progress: Progress) -> Any:
    while True:
        try:
            return finished.get(timeout=1.0)
        except queue.Empty:
            progress.tick()


@contextlib.contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """Processes and threads that are made meanwhile never hear of it, not even while they start."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _outcome(future: Future, timeout: float | None, before: frozenset[int]) -> Any:
    try:
        return future.result()
    except ProcessExpired as error:
        end_strangers(before)
        remove_of_the_dead()
        code = -signal.SIGTERM if error.exitcode == STOPPED else error.exitcode
        return Failure(f"the worker process in charge of it died ({exit_reason(code)}), or was killed by it")
    except Exception as error:
        if isinstance(error, JobTimeout) and timeout is not None:
            return Failure(f"still running after its limit of {timeout:g} s; it was stopped")
        # else the job function itself is at fault, or its result did not travel
        return Failure(f"{type(error).__name__}: {error}", getattr(error, "traceback", ""))
