"""Many independent jobs on a pool of processes, with time limits and crash detection (pebble does the work).

A job that raises, hangs or kills its process becomes a `Failure`, and the others go on. Results arrive in the parent,
one at a time, in the order in which they finish.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.util
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import TimeoutError as JobTimeout
from typing import Any

import torch
from pebble import ProcessExpired, ProcessPool

from local_eval.engine.apart import die_with_parent, end_children
from local_eval.engine.failure import Failure, exit_reason
from local_eval.engine.progress import Progress

# What full GPU memory is called by the allocator and CUDA, by cuBLAS, and by cuDNN, which swallows the first
OUT_OF_MEMORY = ("out of memory", "ALLOC_FAILED", "unable to find an engine")


def default_workers(device: str) -> int:
    """How many processes to use: one per usable core on a CPU, one on a GPU."""
    if torch.device(device).type != "cpu":
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
    # Spawned, not forked: CUDA and OpenMP do not survive a fork, and no state leaks from the parent.
    pool = ProcessPool(
        max_workers=min(workers, len(indices)),
        context=multiprocessing.get_context("spawn"),
        initializer=_start_worker,
        initargs=(os.getpid(),),
    )
    finished: queue.SimpleQueue = queue.SimpleQueue()
    try:
        for index in indices:
            future = pool.schedule(function, args=(argument, index), timeout=timeout)
            future.add_done_callback(lambda future, index=index: finished.put((index, future)))
        with Progress(models * len(indices), title) as progress:
            for _ in indices:
                index, future = _next(finished, progress)
                yield index, _outcome(future, timeout)
                progress.update(models)
        pool.close()
    finally:
        pool.stop()
        pool.join()


def _next(finished: queue.SimpleQueue, progress: Progress) -> Any:
    while True:
        try:
            return finished.get(timeout=1.0)
        except queue.Empty:
            progress.tick()


def _outcome(future, timeout: float | None) -> Any:
    try:
        return future.result()
    except ProcessExpired as error:
        return Failure(f"its process died ({exit_reason(error.exitcode)})")
    except Exception as error:
        if isinstance(error, JobTimeout) and timeout is not None:
            return Failure(f"still running after its limit of {timeout:g} s; it was stopped")
        # else the job function itself is at fault, or its result did not travel
        return Failure(f"{type(error).__name__}: {error}", getattr(error, "traceback", ""))


def _start_worker(parent: int) -> None:
    """Make a worker quiet, single-threaded and mortal."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    signal.signal(signal.SIGTERM, _leave)
    os.environ["MPLBACKEND"] = "Agg"  # plots go nowhere
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    # The number of threads changes the order of additions, so it must not follow the number of workers.
    torch.set_num_threads(1)
    if not die_with_parent(signal.SIGTERM):  # a killed parent cannot stop its workers
        threading.Thread(target=_watch_parent, args=(parent,), daemon=True).start()
    elif os.getppid() != parent:
        _leave()


def _leave(*_) -> None:
    """End now, and whatever runs apart from this process with it."""
    end_children()
    multiprocessing.util._exit_function()  # as pebble does: let go of what the pool shares
    os._exit(1)


def _watch_parent(parent: int) -> None:
    while os.getppid() == parent:
        threading.Event().wait(1.0)
    _leave()
