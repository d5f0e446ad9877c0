"""What a cluster costs the driver for each job: on a hundred simulated nodes, and on a real Ray where there is one.

How to run it: python -m local_eval bench --parts cluster
"""

from __future__ import annotations

import heapq
import importlib.util
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from local_eval.cluster.node import packed
from local_eval.cluster.ray_engine import PACKAGES, RayEngine
from local_eval.isolation.child import Failure
from local_eval.store.records import Controls, Evaluation, Record

NODES = 100
JOB_SECONDS = 0.05  # of a simulated job; short, so that the driver and not the sleep is what is measured
COUNTS = (512, 1024, 2048, 4096)  # simulated jobs
REAL = 64  # jobs on a real Ray


class SimulatedRay:
    """Nodes with one core each, whose jobs sleep and then give the same bytes; as much of Ray as driver.py uses."""

    class exceptions:
        """The base of Ray's errors."""

        class RayError(Exception):
            """None is ever raised here."""

    def __init__(self, nodes: int, seconds: float, content: bytes):
        self._nodes, self._seconds, self._content = nodes, seconds, content
        self._free, self._flying, self._numbers, self.most = [0.0] * nodes, {}, itertools.count(), 0

    def start(self, *_: Any) -> int:
        """A task, given to the node that is free first; its reference is a number."""
        begin = max(heapq.heappop(self._free), time.monotonic())
        heapq.heappush(self._free, begin + self._seconds)
        number = next(self._numbers)
        self._flying[number] = begin + self._seconds
        self.most = max(self.most, len(self._flying))
        return number

    def wait(self, refs: list[int], timeout: float) -> tuple[list[int], list[int]]:
        """The first of these that is ready, as ray.wait gives it."""
        first = min(refs, key=self._flying.__getitem__)
        time.sleep(min(max(self._flying[first] - time.monotonic(), 0.0), timeout))
        ready = [first] if self._flying[first] <= time.monotonic() else []
        return ready, [ref for ref in refs if ref not in ready]

    def get(self, ref: int) -> bytes:
        """What every job gives."""
        del self._flying[ref]
        return self._content

    def cancel(self, ref: int, force: bool) -> None:
        """Nothing runs."""

    def as_cluster(self) -> Any:
        """What connection.Cluster would be of it."""
        return SimpleNamespace(ray=self, task=lambda *_: self.start, slots=lambda share: self._nodes, size="simulated")


@dataclass(frozen=True)
class Nothing:
    """An argument of jobs that need nothing; see cluster/node.py."""

    device: str = "cpu"
    parcels: list = field(default_factory=list)

    def luggage(self) -> list:
        """Nothing."""
        return self.parcels

    def moved(self, folders: list[Path], left: Path) -> Nothing:
        """The same."""
        return self

    def reported(self, result: Any, index: int, folders: list[Path]) -> tuple[Any, dict]:
        """As it is."""
        return result, {}

    def take(self, files: dict[str, bytes], index: int) -> None:
        """None come."""

    def is_known(self) -> bool:
        """There is nothing to know."""
        return True


def record_of_size(examples: int, classes: int) -> Record:
    """A made-up record as large as a run's."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(examples, classes)).astype(np.float32)
    controls = Controls(logits[:500], logits[:500], np.zeros((4, classes), np.int64))
    return Record(Evaluation(logits, 0.9, 0.8, controls), {"kind": "run", "index": 0}, {"seconds": 1.0})


def simulated_cost(jobs: int, content: bytes) -> dict[str, float]:
    """CPU seconds of the driver for each of so many jobs on simulated nodes, and how many were in flight at most."""
    engine, ray = RayEngine.__new__(RayEngine), SimulatedRay(NODES, JOB_SECONDS, content)
    engine.cluster = ray.as_cluster()
    start, clock = time.process_time(), time.monotonic()
    made = sum(1 for _ in engine.run_jobs(do_nothing, Nothing(), list(range(jobs)), None, None, f"{jobs} jobs"))
    seconds = time.process_time() - start
    return {
        "jobs": made,
        "cpu_ms_per_job": 1e3 * seconds / jobs,
        "in_flight": ray.most,
        "jobs_per_second": jobs / (time.monotonic() - clock),
    }


def do_nothing(argument: Nothing, index: int) -> Failure:
    """A job that is over at once."""
    return Failure("nothing was to be done")


def real_cost(jobs: int = REAL) -> dict[str, float]:
    """Milliseconds for each job that does nothing, on a Ray of this machine's own, once its processes are there."""
    engine = RayEngine()
    try:
        for _ in engine.run_jobs(do_nothing, Nothing(), [0, 1, 2, 3], None, 60.0, "starting Ray"):
            pass
        start, cpu = time.perf_counter(), time.process_time()
        for _ in engine.run_jobs(do_nothing, Nothing(), list(range(jobs)), None, 60.0, "jobs on Ray"):
            pass
        wall, cpu = time.perf_counter() - start, time.process_time() - cpu
        return {"jobs": jobs, "wall_ms_per_job": 1e3 * wall / jobs, "driver_cpu_ms_per_job": 1e3 * cpu / jobs}
    finally:
        engine.cluster.ray.shutdown()


def cluster_bench(examples: int, classes: int) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield a title and figures for every measurement.

    Args:
        examples, classes: the size of a run's logits.
    """
    content = packed(record_of_size(examples, classes))
    for jobs in COUNTS:
        yield f"{NODES} simulated nodes, {jobs} jobs of {len(content) // 1000} kB", simulated_cost(jobs, content)
    if all(importlib.util.find_spec(name) for name in PACKAGES):
        yield "a Ray on this machine, jobs that do nothing", real_cost()
