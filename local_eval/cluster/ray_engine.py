"""This machine's side of a Ray cluster: the connection, and jobs as Ray tasks in the form of `pool.run_jobs`.

A job is a plain task that may be made twice, since it depends on its argument and number alone. Ray repeats it where a
node was lost, never where it failed. Files go into the object store once and to each node once; results come back as
bytes, and whoever iterates writes them to disk, as with the local pool. Only so many tasks are in flight as keep the
cluster busy, so what the driver does for a job does not depend on how many there are.

Ray's own ways were tried with Ray 2.60 and two nodes, and do not carry this. `runtime_env` takes folders for a whole
connection only, so neither a submission's and a task's files, which differ from job to job, nor a connection that the
caller has made could use it; unpacking stays, and the kit's code may as well go the same way. Plain returns would be
unpickled here, and a stranger's submission that takes over a node must not run code on the driver's machine.

How it is used: `Grader(..., engine=RayEngine("auto"))`; on the command line --engine ray --address auto
"""

from __future__ import annotations

import contextlib
import importlib.util
import math
import os
import pickle
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

from local_eval.cluster import bootstrap
from local_eval.cluster.node import Parcel, Travels, kit_parcel, name_of, unpacked
from local_eval.isolation.cards import kind_of
from local_eval.isolation.child import Failure
from local_eval.isolation.pool import Progress, default_workers
from local_eval.isolation.share_gpu import ran_out_of_memory, run_on_device
from local_eval.store.errors import InputError, WorkError
from local_eval.store.records import RecordError

# The connection to a Ray cluster: found or started when it is first needed, told what to send and what to run.


PACKAGES = ("ray", "cloudpickle")
RETRIES = 3  # of a job whose node, or whose Ray worker, was lost
PATIENCE = 10.0  # seconds for a cluster to answer at all
ORPHANS = 20  # seconds after which what is left of a Ray of its own ends, if the driver was killed
STORE = 200 * 2**20  # bytes of a Ray of its own's object store; containers have little /dev/shm
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")  # Ray sets the first, which changes sums


class RayMissing(InputError):
    """Ray is asked for and not installed."""


class ClusterError(WorkError):
    """The cluster cannot be reached or has nothing to work with; the message says which."""


class Cluster:
    """A Ray cluster: the one at `address`, or one of its own on this machine."""

    def __init__(self, address: str | None = None):
        """Nothing is started or connected to yet. Raises RayMissing."""
        missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
        if missing:
            raise RayMissing(
                f"--engine ray needs {' and '.join(missing)}, which is not installed: "
                f"{sys.executable} -m pip install -r requirements-cluster.txt"
            )
        self.address = address
        self._sent: dict[str, tuple[str, dict[str, int], list]] = {}

    @cached_property
    def ray(self):
        """Ray itself, connected."""
        with _own_signals():
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            import ray

            if not ray.is_initialized():
                self._connect(ray)
        return ray

    def _connect(self, ray) -> None:
        quiet = {"log_to_driver": False, "logging_level": "ERROR"}
        if self.address is None:
            ray.init(
                "local",
                num_cpus=default_workers("cpu"),
                include_dashboard=False,
                object_store_memory=STORE,
                _system_config={"gcs_rpc_server_reconnect_timeout_s": ORPHANS, "worker_niceness": 0},  # as local ones
                _node_ip_address="127.0.0.1",  # nobody else is to find it: Ray runs the code of whoever reaches it
                **quiet,
            )
            return
        try:
            self._knock()
            ray.init(self.address, **quiet)
        except (OSError, RuntimeError, ValueError) as error:
            raise ClusterError(
                f"no Ray cluster answers at {self.address!r} ({first_line(error)}); start one with "
                "'ray start --head', see docs/cluster.md"
            ) from error

    def _knock(self) -> None:
        """Raise OSError or ValueError unless something listens at an address of the form host:port. Ray tries long."""
        host, _, port = self.address.rpartition(":")
        if "://" in self.address:
            raise ValueError("it must be host:port, as 'ray start' prints it, or auto")
        if port.isdigit():
            socket.create_connection((host, int(port)), PATIENCE).close()

    def task(self, work: str, function: Callable, argument: Travels, gpus: float, max_calls: int = 0) -> Callable:
        """What starts `work` of node.py with a function and its argument, and more arguments."""
        ray = self.ray
        sent = [self._send(parcel) for parcel in (kit_parcel(), *argument.luggage())]
        environment = {name: os.environ.get(name) for name in THREADS}
        job = pickle.dumps((function, argument))
        ray.cloudpickle.register_pickle_by_value(bootstrap)
        once = {"num_cpus": 1, "num_gpus": gpus, "max_calls": max_calls}
        task = ray.remote(max_retries=RETRIES, retry_exceptions=False, **once)(bootstrap.make)
        return lambda *arguments: task.remote(sent, work, job, environment, *arguments)

    def _send(self, parcel: Parcel) -> tuple[str, dict[str, int], list]:
        """A parcel's name, sizes and reference. In a list: Ray would fetch the object for every task otherwise."""
        import numpy as np

        name = name_of(parcel)
        if name not in self._sent:
            arrays = {file: np.frombuffer(content, np.uint8) for file, content in parcel.items()}
            sizes = {file: len(content) for file, content in parcel.items()}
            self._sent[name] = (name, sizes, [self.ray.put(arrays)])
        return self._sent[name]

    def slots(self, share: float) -> int:
        """How many tasks the cluster can work on now; nodes come and go. `share` is of a GPU, for each.

        Raises:
            ClusterError: there is no GPU.
        """
        room = self.ray.cluster_resources()
        cpus, gpus = int(room.get("CPU", 0)), int(room.get("GPU", 0))
        if share and not gpus:
            raise ClusterError("the cluster has no GPU; start its nodes with --num-gpus, or give --device cpu")
        return max(min(cpus, int(gpus / share)) if share else cpus, 1)

    @property
    def size(self) -> str:
        """In words."""
        room, nodes = self.ray.cluster_resources(), sum(node["Alive"] for node in self.ray.nodes())
        cards = f" and {room['GPU']:.0f} GPUs" if room.get("GPU") else ""
        return f"{nodes} node{'s' if nodes > 1 else ''} with {room.get('CPU', 0):.0f} CPUs{cards}"


def first_line(error: BaseException) -> str:
    """What an error of Ray's says: its last line, after the traceback of the other side."""
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Ray sets a handler for SIGTERM when it starts; the command line's own is put back."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in kept.items():
            with contextlib.suppress(ValueError):  # not in the main thread: nothing was set either
                signal.signal(number, handler)


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
    return kind_of(argument.device) != "cpu"
