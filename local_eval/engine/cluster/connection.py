"""The connection to a Ray cluster: found or started when it is first needed, told what to send and what to run.

How it is used: `Cluster(address)` in driver.py, which asks it for `ray` itself, for `task`s and for its size.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pickle
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from functools import cached_property

from local_eval.engine.cluster import bootstrap
from local_eval.engine.cluster.parcels import Parcel, Travels, kit_parcel, name_of
from local_eval.engine.errors import InputError, WorkError
from local_eval.engine.pool import default_workers

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
