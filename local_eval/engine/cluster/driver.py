"""The driver's side of a cluster: jobs as Ray tasks, with the signatures of pool.run_jobs and share_gpu.run_on_device.

A job is a plain task that may be made twice, since it depends on its argument and number alone. Ray repeats it where a
node was lost, never where it failed. Files go into the object store once and to each node once; results come back as
bytes, and whoever iterates writes them to disk, as with the local pool. Only so many tasks are in flight as keep the
cluster busy, so what the driver does for a job does not depend on how many there are.

How it is used: `Grader(..., engine=RayEngine("auto"))`; on the command line --engine ray --address auto
"""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from local_eval.engine.cluster.connection import Cluster, ClusterError, first_line
from local_eval.engine.cluster.parcels import Travels
from local_eval.engine.cluster.results import unpacked
from local_eval.engine.failure import Failure
from local_eval.engine.progress import Progress
from local_eval.engine.records import RecordError
from local_eval.engine.share_gpu import ran_out_of_memory, run_on_device

AHEAD = 2  # tasks in flight for each that can be worked on, so that no node waits for the driver
EVERY = 5.0  # seconds between looks at how large the cluster is
TICK = 0.5  # seconds between looks at the clock and at Ctrl-C
TRIAL_LIMIT = 100  # jobs that a trial on a GPU may make at most; it needs 45 for 8 at once
STEP = 10_000  # Ray counts fractions of a GPU in ten-thousandths


class RayEngine:
    """Makes jobs on a Ray cluster: the one at `address`, or one of its own on this machine."""

    def __init__(self, address: str | None = None):
        """Nothing is started or connected to before the first job. Raises RayMissing, an InputError."""
        self.cluster = Cluster(address)

    def run_jobs(
        self,
        function: Callable[[Any, int], Any],
        argument: Travels,
        indices: list[int],
        workers: int | None,
        timeout: float | None,
        title: str,
        models: int = 1,
    ) -> Iterator[tuple[int, Any]]:
        """As pool.run_jobs; on a GPU every job has one to itself. `workers` None: as many as the cluster has room for.

        Raises:
            ClusterError: it cannot be reached, or has no such device.
        """
        if indices:
            share = 1.0 if on_gpu(argument) else 0.0
            yield from self._made(function, argument, list(indices), workers, timeout, title, models, share)

    def run_on_device(
        self,
        device: str,
        function: Callable[[Any, int], Any],
        argument: Travels,
        indices: list[int],
        workers: int | None,
        timeout: float,
        title: str,
    ) -> Iterator[tuple[int, Any]]:
        """As share_gpu.run_on_device: several jobs share a GPU, `workers` or as many as a trial on one node shows.

        While it is not known what the jobs read, the first is made here: then it is, and travels with the others.
        """
        indices = list(indices)
        if indices and not argument.is_known():
            job = run_on_device(device, function, argument, indices[:1], 1, timeout, f"{title}, the first of them here")
            for index, result in job:
                yield index, result
                argument = argument.having_made(result)
            indices = indices[1:]
        if not indices:
            return
        if not on_gpu(argument):
            yield from self._made(function, argument, indices, workers, timeout, title, 1, 0.0)
            return
        if workers is None:
            workers, made = self._trial(function, argument, indices[:TRIAL_LIMIT], timeout)
            yield from made
            indices = [index for index in indices if index not in dict(made)]
        yield from self._sharing(function, argument, indices, workers, timeout, title)

    def _sharing(self, function, argument, indices, workers, timeout, title) -> Iterator[tuple[int, Any]]:
        """Jobs of which several share a GPU; those for which its memory was too small are made by fewer at once."""
        while indices:
            again, share = [], math.floor(STEP / workers) / STEP
            for index, result in self._made(function, argument, indices, None, timeout, title, 1, share):
                if workers > 1 and ran_out_of_memory(result):
                    again.append(index)
                else:
                    yield index, result
            indices, workers = again, max(workers // 2, 1)

    def _trial(self, function, argument, indices, timeout) -> tuple[int, list[tuple[int, Any]]]:
        ray = self.cluster.ray
        print("trying on one node how many runs at once are best on a GPU", file=sys.stderr, flush=True)
        task = self.cluster.task("make_trial", function, argument, gpus=1.0, max_calls=1)
        try:
            workers, made = ray.get(task(indices, timeout))
        except ray.exceptions.RayError as error:
            raise ClusterError(f"the trial on a node's GPU failed: {first_line(error)}") from error
        return workers, [(index, self._received(argument, index, content)) for index, content in made]

    def _made(self, function, argument, indices, workers, timeout, title, models, share) -> Iterator[tuple[int, Any]]:
        """Keep the cluster busy until all are made."""
        ray, waiting, flying, room, looked = self.cluster.ray, deque(indices), {}, 0, -math.inf
        task = self.cluster.task("make_job", function, argument, share)
        with Progress(models * len(indices), f"{title}, on {self.cluster.size}") as progress:
            try:
                while waiting or flying:
                    if time.monotonic() > looked + EVERY:
                        room, looked = workers or AHEAD * self.cluster.slots(share), time.monotonic()
                    while waiting and len(flying) < room:
                        index = waiting.popleft()
                        flying[task(index, timeout)] = index
                    for ref in ray.wait(list(flying), timeout=TICK)[0]:
                        index = flying.pop(ref)
                        yield index, self._result(argument, index, ref)
                        progress.update(models)
                    progress.tick()
            finally:
                for ref in flying:  # left early
                    with contextlib.suppress(Exception):
                        ray.cancel(ref, force=True)

    def _result(self, argument: Travels, index: int, ref) -> Any:
        try:
            return self._received(argument, index, self.cluster.ray.get(ref))
        except self.cluster.ray.exceptions.RayError as error:
            return Failure(f"lost on the cluster ({type(error).__name__}): {first_line(error)}", str(error))

    def _received(self, argument: Travels, index: int, content: bytes) -> Any:
        try:
            result, files = unpacked(content, "a node")
        except RecordError as error:
            return Failure(str(error))
        argument.take(files, index)
        return result


def on_gpu(argument: Any) -> bool:
    """Are these jobs for a GPU?"""
    return argument.device.partition(":")[0] != "cpu"
