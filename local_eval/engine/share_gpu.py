"""Several processes on one GPU, as many as make it fastest: found by counting finished jobs, not by a flag.

An unlearning method is arbitrary Python that keeps a card waiting most of the time, so other processes can use it
meanwhile. How many pay depends on method, card and CPU. The first jobs are made by 1, 2, 4 ... processes for as long as
each doubling makes clearly more jobs per second and memory allows; the rest by the best number. Nothing is made twice,
except jobs that run out of memory, which are made again by half as many processes.

Every process keeps the task's images on the GPU as bytes (92 MB at the competition's size) for itself, on purpose: a
submission that writes into the data it is handed must not spoil what other processes see.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from local_eval.engine.failure import Failure
from local_eval.engine.pool import default_workers, memory_was_full, run_jobs

JOBS_PER_PROCESS = 3  # in a trial; the first of them is not counted
GAIN = 1.1  # a doubling that brings less is not worth the memory
USABLE = 0.9  # of the memory that was free


def run_on_device(
    device: str,
    function: Callable[[Any, int], Any],
    argument: Any,
    indices: list[int],
    workers: int | None,
    timeout: float,
    title: str,
) -> Iterator[tuple[int, Any]]:
    """As `run_jobs`; with `workers` None, one process per core on a CPU and as many as are best on a GPU."""
    if workers is None and torch.device(device).type == "cuda":
        free = lambda: torch.cuda.mem_get_info(device)[0]  # noqa: E731
        return run_measured(function, argument, indices, timeout, title, os.cpu_count() or 1, free)
    return run_jobs(function, argument, indices, workers or default_workers(device), timeout, title)


def run_measured(
    function: Callable[[Any, int], Any],
    argument: Any,
    indices: list[int],
    timeout: float,
    title: str,
    most: int,
    free_memory: Callable[[], int],
) -> Iterator[tuple[int, Any]]:
    """Yield (index, result or Failure) for every index, by as many processes as finish most jobs per second.

    Args:
        most: processes that are never exceeded, such as the number of cores.
        free_memory: bytes that are free on the device now.
    """
    waiting, workers, best, settled = list(indices), 1, (0.0, 1), False
    while waiting:
        share = waiting if settled else waiting[: JOBS_PER_PROCESS * workers]
        again, made, least = [], [], (before := free_memory())
        jobs = run_jobs(timed_job, (function, argument), share, workers, timeout, f"{title}, {workers} at once")
        for index, job in jobs:
            least = min(least, free_memory())
            result = job.result if isinstance(job, Timed) else job
            made += [job] if isinstance(job, Timed) else []
            if workers > 1 and ran_out_of_memory(result):
                again.append(index)
            else:
                yield index, result
        waiting = again + waiting[len(share) :]
        if again:
            workers, settled = max(workers // 2, 1), True
        elif not settled:
            rate, more = jobs_per_second(made, workers), room_for(2 * workers, most, workers, before, least)
            gained = rate >= GAIN * best[0]
            best = (rate, workers) if gained else best
            settled = not gained or more == workers
            workers = best[1] if settled else more


@dataclass(frozen=True)
class Timed:
    """What a job returned, and in which process and how many seconds it was made."""

    result: Any
    process: int
    seconds: float


def timed_job(what: tuple[Callable[[Any, int], Any], Any], index: int) -> Timed:
    """Make a job, with a look at the clock."""
    function, argument = what
    start = time.perf_counter()
    result = function(argument, index)
    return Timed(result, os.getpid(), time.perf_counter() - start)


def jobs_per_second(made: list[Timed], workers: int) -> float:
    """What `workers` processes make at once; 0 if that cannot be told.

    From the median job: processes start one after another, so counting jobs on the clock would count their start. The
    first job of each, which loads the data, is left out.
    """
    known, seconds = set(), []
    for job in made:
        if job.process in known:
            seconds.append(job.seconds)
        known.add(job.process)
    return workers / statistics.median(seconds) if seconds else 0.0


def ran_out_of_memory(result: Any) -> bool:
    """Did a job fail because the GPU's memory was full?"""
    return isinstance(result, Failure) and memory_was_full(result.reason)


def room_for(wanted: int, most: int, workers: int, before: int, least: int) -> int:
    """How many processes to try next: `wanted`, unless cores or memory allow fewer; never fewer than `workers`."""
    each = max((before - least) / workers, 1.0)
    return max(min(wanted, most, int(USABLE * before / each)), workers)
