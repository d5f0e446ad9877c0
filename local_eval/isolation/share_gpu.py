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
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from local_eval.isolation.child import Failure
from local_eval.isolation.pool import default_workers, memory_was_full, run_jobs

JOBS_PER_PROCESS = 3  # in a trial; the first of them is not counted
GAIN = 1.1  # a doubling that brings less is not worth the memory
USABLE = 0.9  # of the memory that was free


class Engine(Protocol):
    """Who makes jobs elsewhere than here: two functions with the signatures of run_jobs and run_on_device."""

    run_jobs: Callable[..., Iterator[tuple[int, Any]]]  # every job has a device to itself
    run_on_device: Callable[..., Iterator[tuple[int, Any]]]  # jobs share devices


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
    workers, waiting = yield from until_settled(function, argument, indices, timeout, title, most, free_memory)
    while waiting:
        share = Share(timeout, f"{title}, {workers} at once", workers, free_memory)
        yield from share.made(function, argument, waiting)
        waiting, workers = share.again, max(workers // 2, 1)


def until_settled(
    function: Callable[[Any, int], Any],
    argument: Any,
    indices: list[int],
    timeout: float,
    title: str,
    most: int,
    free_memory: Callable[[], int],
) -> Generator[tuple[int, Any], None, tuple[int, list[int]]]:
    """Make jobs until it is known how many processes are best; returns that number, and the jobs that are left."""
    waiting, workers, best = list(indices), 1, (0.0, 1)
    while waiting:
        share = Share(timeout, f"{title}, {workers} at once", workers, free_memory)
        taken = JOBS_PER_PROCESS * workers
        yield from share.made(function, argument, waiting[:taken])
        waiting = share.again + waiting[taken:]
        if share.again:
            return max(workers // 2, 1), waiting
        gained = share.rate >= GAIN * best[0]
        best = (share.rate, workers) if gained else best
        more = more_that_fit(2 * workers, most, workers, share.before, share.least)
        if not gained or more == workers:
            break
        workers = more
    return best[1], waiting


class Share:
    """Some jobs made by some processes, and what was seen meanwhile."""

    def __init__(self, timeout: float, title: str, workers: int, free_memory: Callable[[], int]):
        self._timeout, self._title, self._workers, self._free_memory = timeout, title, workers, free_memory
        self.before = self.least = free_memory()  # bytes that were free on the device
        self.again: list[int] = []  # jobs that ran out of memory beside others
        self.rate = 0.0  # jobs per second

    def made(self, function: Callable[[Any, int], Any], argument: Any, indices: list[int]) -> Iterator[tuple[int, Any]]:
        """Make them; yields (index, result or Failure) but for the jobs that are to be made again."""
        made = []
        jobs = run_jobs(timed_job, (function, argument), indices, self._workers, self._timeout, self._title)
        for index, job in jobs:
            self.least = min(self.least, self._free_memory())
            result = job.result if isinstance(job, Timed) else job
            made += [job] if isinstance(job, Timed) else []
            if self._workers > 1 and ran_out_of_memory(result):
                self.again.append(index)
            else:
                yield index, result
        self.rate = jobs_per_second(made, self._workers)


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
    return isinstance(result, Failure) and memory_was_full(result)


def more_that_fit(wanted: int, most: int, workers: int, before: int, least: int) -> int:
    """How many processes to try next: `wanted`, unless cores or memory allow fewer; never fewer than `workers`."""
    each = max((before - least) / workers, 1.0)
    return max(min(wanted, most, int(USABLE * before / each)), workers)
