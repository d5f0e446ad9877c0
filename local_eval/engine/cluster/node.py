"""A node's side: a Ray worker that has jobs made by one process of the kit's own pool, and never makes one itself.

So a job finds what it finds on the driver's machine: a process as worker.py starts it, which forks another for every
submission. Whatever a job does to that process ends in a Failure and a new process; Ray's retries are left to nodes
that are lost. This module imports nothing heavy, as there is one such worker beside every process that works.

How it is used: bootstrap.py calls `make_job` or `make_trial` with what driver.py has sent.
"""

from __future__ import annotations

import atexit
import os
import pickle
import sys
import threading
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

from local_eval.engine.failure import Failure
from local_eval.engine.pool import Workers

CARDS = "CUDA_VISIBLE_DEVICES"


def make_job(
    folders: list[Path], job: bytes, environment: dict[str, str | None], index: int, timeout: float | None
) -> bytes:
    """Make a job; returns its result as results.py packs it, or a Failure as it packs itself.

    Args:
        folders: of the parcels of the job's argument.
        job: (function, argument), pickled by the driver.
        environment: variables to set or, for None, to take away, as they are on the driver's machine.
        timeout: seconds; None lets it take what it takes.
    """
    workers = keeper().workers(environment)
    content = workers.outcome(workers.submit(in_keeper, (folders, job), index, timeout), timeout)
    return content.as_bytes() if isinstance(content, Failure) else content


def in_keeper(what: tuple[list[Path], bytes], index: int) -> bytes:
    """In the process that works: make the job where its files are, and pack what it gives."""
    from local_eval.engine.cluster.results import packed  # here, since it imports torch

    folders, job = what
    function, argument = pickle.loads(job)  # the driver's, whose code this process runs anyhow
    argument = argument.moved(folders)
    return packed(*argument.told(function(argument, index), index, folders))


def make_trial(
    folders: list[Path], job: bytes, environment: dict[str, str | None], indices: list[int], timeout: float
) -> tuple[int, list[tuple[int, bytes]]]:
    """Make jobs on this node's GPU until it is known how many at once are best.

    Returns:
        That number, and the packed results of the jobs that were made.
    """
    import torch  # here, since only this worker needs it: it ends with this call

    from local_eval.engine.cluster.results import packed
    from local_eval.engine.share_gpu import until_settled

    _set(environment)
    function, argument = pickle.loads(job)
    argument, made = argument.moved(folders), []
    free = lambda: torch.cuda.mem_get_info()[0]  # noqa: E731
    trials = until_settled(function, argument, indices, timeout, "trial", os.cpu_count() or 1, free)
    while True:
        try:
            index, result = next(trials)
        except StopIteration as end:
            return end.value[0], made
        made.append((index, packed(*argument.told(result, index, folders))))


class Keeper:
    """The process that works for this Ray worker; another one when Ray has given it another GPU."""

    def __init__(self):
        self._workers: Workers | None = None
        self._started_with: Any = None
        atexit.register(self.stop)

    def workers(self, environment: dict[str, str | None]) -> Workers:
        """A pool of one process, started if there is none that fits."""
        wanted = (environment, os.environ.get(CARDS))
        if self._workers is None or wanted != self._started_with:
            self.stop()
            _set(environment)
            self._workers, self._started_with = Workers(1), wanted
        return self._workers

    def stop(self) -> None:
        """End it."""
        if self._workers is not None:
            self._workers.stop()
            self._workers = None


@lru_cache(maxsize=1)
def keeper() -> Keeper:
    """This process's own."""
    sys.modules["__main__"].__file__ = None  # Ray's main program, which the new process would import again
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    return Keeper()


def _end_with(parent: int) -> None:
    """End this worker when its node is gone. Ray's own look is for process 1, but orphans may go to another one."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)  # what it has started dies with it


def _set(environment: dict[str, str | None]) -> None:
    for name, value in environment.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
