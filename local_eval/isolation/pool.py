"""Many independent jobs on a pool of processes, with time limits, crash detection and progress (pebble does the work).

A job that raises, hangs or kills its process becomes a `Failure`, and the others go on. Results arrive in the parent,
one at a time, in the order in which they finish.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as JobTimeout
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import resource_tracker
from types import MappingProxyType
from typing import Any

from pebble import ProcessExpired, ProcessPool
from tqdm import tqdm

from local_eval.isolation.child import Failure, exit_reason
from local_eval.isolation.processes import (
    adopt_orphans,
    children_now,
    die_with_parent,
    end_strangers,
    kill_descendants,
    leave_orphans,
)
from local_eval.store.files import remove_of_the_dead, remove_ours

# Show that something goes on: a bar on a terminal, elsewhere a line every half minute.


EVERY = 30.0  # seconds between lines where there is no terminal


class Progress:
    """`with Progress(64, "runs of fanchuan") as progress: ... progress.update(1)`; on standard error."""

    def __init__(
        self,
        total: int,
        title: str,
        unit: str = "model",
        clock: Callable[[], float] = time.monotonic,
        reached: Callable[[], float] | None = None,
    ):
        """`reached` says how many are done, parts of one counted, where that is known better than by `update`."""
        self.total, self.title, self.done, self._clock, self._count = total, title, 0, clock, reached
        self._start = self._reported = clock()
        on_terminal = sys.stderr.isatty()
        self._bar = tqdm(
            total=total, desc=title, unit=unit, disable=not on_terminal, dynamic_ncols=True, smoothing=0.05
        )

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_) -> None:
        self._bar.close()

    def update(self, count: int) -> None:
        """So many more are done."""
        if self._count is None:
            self.done += count
            self._bar.update(count)
        else:
            self._look()
        self._tell()

    def tick(self) -> None:
        """Time has passed; call it at least every few seconds."""
        if self._count is not None:
            self._look()
        self._bar.refresh()
        self._tell()

    def _look(self) -> None:
        self.done = min(max(self._count(), self.done), self.total)  # never back, and not beyond the end
        self._bar.update(int(self.done) - self._bar.n)

    def _tell(self) -> None:
        now = self._clock()
        if self._bar.disable and now - self._reported >= EVERY and self.done < self.total:
            self._reported = now
            print(
                f"{self.title}: {int(self.done)} of {self.total} done, {self._left(now)}", file=sys.stderr, flush=True
            )

    def _left(self, now: float) -> str:
        if not self.done:
            return f"{in_words(now - self._start)} gone"
        return f"about {in_words((self.total - self.done) * (now - self._start) / self.done)} left"


def in_words(seconds: float) -> str:
    """'40 s', '3 min', '2.5 h'."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


# How a pool's process begins and ends. Imports nothing heavy: it must be mortal before it imports torch.


STOPPED = 128 + signal.SIGTERM  # a worker's exit code when it was asked to end


def start_worker(parent: int, environment: Mapping[str, str]) -> None:
    """Make this process mortal, quiet and single-threaded, in this order.

    Args:
        parent: the process that it must not outlive.
        environment: variables to set before anything is imported, such as those that say which GPU it sees.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # no handler of Python's would be called while a library is loaded
    if not die_with_parent(signal.SIGTERM):  # a killed parent cannot stop its workers
        threading.Thread(target=_watch_parent, args=(parent,), daemon=True).start()
    if os.getppid() != parent:
        os._exit(STOPPED)
    os.environ.update(environment)
    os.environ["MPLBACKEND"] = "Agg"  # plots go nowhere
    # Else a task's file that only asks whether there is a GPU starts CUDA here, and no run that is forked could use it
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    silence = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(silence, number)
    import torch

    # The number of threads changes the order of additions, so it must not follow the number of workers.
    torch.set_num_threads(1)
    signal.signal(signal.SIGTERM, _leave)


def _leave(*_) -> None:
    """End now, and whatever runs apart from this process with it."""
    kill_descendants()
    remove_ours()
    os._exit(STOPPED)


def _watch_parent(parent: int) -> None:
    while os.getppid() == parent:
        threading.Event().wait(1.0)
    _leave()


# What full GPU memory is called by the allocator and CUDA, by cuBLAS, by cuDNN, which swallows the first, and while a
# graph is recorded, where it spoils the recording and only that is told.
OUT_OF_MEMORY = (
    "out of memory", "ALLOC_FAILED", "ALLOCATION_FAILED", "CUBLAS_STATUS_NOT_INITIALIZED",
    "CUDNN_STATUS_NOT_INITIALIZED", "unable to find an engine", "StreamCaptureInvalidated", "error during capture",
)  # fmt: skip
# Errors after which a process can use its GPU no more, whatever it does.
CARD_LOST = (
    "illegal memory access", "device-side assert", "unspecified launch failure", "misaligned address",
    "an illegal instruction was encountered", "uncorrectable ECC", "hardware stack error", "the launch timed out",
)  # fmt: skip


def default_workers(device: str) -> int:
    """How many processes to use: one per usable core on a CPU, one on a GPU."""
    if device.partition(":")[0] != "cpu":
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_was_full(error: BaseException | Failure) -> bool:
    """Does an error, or one in whose handling it arose, say that the GPU's memory was full?"""
    return _says(error, OUT_OF_MEMORY)


def card_was_lost(error: BaseException | Failure) -> bool:
    """Does an error say that its process can use the GPU no more?"""
    return _says(error, CARD_LOST)


def _says(error: BaseException | Failure, signs: tuple[str, ...]) -> bool:
    text = error.reason + error.traceback if isinstance(error, Failure) else "\n".join(_chain(error))
    return any(sign in text for sign in signs)


def _chain(error: BaseException | None) -> Iterator[str]:
    """The texts of an error, of the one that caused it, and so on; each once, should they name each other."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield str(error)
        error = error.__cause__ or error.__context__


def run_jobs(
    function: Callable[[Any, int], Any],
    argument: Any,
    indices: list[int],
    workers: int,
    timeout: float | None,
    title: str,
    models: int = 1,
    forked: bool = False,
    reached: Callable[[], float] | None = None,
) -> Iterator[tuple[int, Any]]:
    """Yield (index, function(argument, index) or Failure) for every index, as they finish, with a progress bar.

    `timeout` is in seconds for one job; None lets it take what it takes.
    `function` must be importable (a module's top level) and should catch what it can explain better. `models` is how
    many one job makes, for the bar; `reached` is asked about every second how many are made, if something knows that
    better. Leaving the iteration early, by an exception or Ctrl-C, stops the workers.
    `forked` starts workers as copies of this process, which need not import torch again: only for a process whose
    torch has always had one thread and no GPU.
    """
    if not indices:
        return
    with Progress(models * len(indices), title, reached=reached) as progress:
        waiting = list(indices)
        while waiting:
            lost: list[int] = []
            for index, found in _until_it_breaks(function, argument, waiting, workers, timeout, progress, forked):
                if found is BROKEN:
                    lost.append(index)
                    continue
                yield index, found
                progress.update(models)
            if len(lost) == len(waiting):
                yield from ((index, BROKEN) for index in lost)
                return
            waiting = lost


BROKEN = Failure("the pool of processes broke before it had made anything; run the same command again")


def _until_it_breaks(
    function: Callable[[Any, int], Any],
    argument: Any,
    indices: list[int],
    workers: int,
    timeout: float | None,
    progress: Progress,
    forked: bool,
) -> Iterator[tuple[int, Any]]:
    """As `run_jobs`, on one pool; BROKEN for every job that it did not come to.

    pebble gives a pool up when a process dies before it is known to have taken a job, which one that is killed soon
    after it began may do. And a pool is given up here after an error that takes the GPU from one of its processes for
    good: that one would fail every job that it is given from then on.
    """
    finished: queue.SimpleQueue = queue.SimpleQueue()
    left = set(indices)
    with Workers(min(workers, len(indices)), forked=forked) as pool:
        for index in indices:
            future = pool.submit(function, argument, index, timeout)
            future.add_done_callback(lambda future, index=index: finished.put((index, future)))
        while left:
            index, future = _next(finished, progress)
            left.remove(index)
            error = None if future.cancelled() else future.exception()
            yield index, BROKEN if isinstance(error, BrokenProcessPool) else pool.outcome(future, timeout)
            if error is not None and card_was_lost(error):  # raised by the worker, not told by it of another process
                break
    yield from ((index, BROKEN) for index in sorted(left))


class Workers:
    """`with Workers(2) as pool: pool.submit(...)`: processes, each with one job at a time; the end stops them."""

    def __init__(self, count: int, environment: Mapping[str, str] = MappingProxyType({}), forked: bool = False):
        """From how many there are to be.

        Args:
            environment: variables that they have beside those of this process.
            forked: as in `run_jobs`.
        """
        self._began_to_adopt = adopt_orphans()  # what a job has started comes here if its worker is killed
        resource_tracker.ensure_running()  # now, because it undoes what `_deaf_to_ctrl_c` does
        self._before = children_now()
        # Spawned unless it is known to be safe: CUDA and OpenMP do not survive a fork, nor does state leak this way.
        self._spawning = _Forking() if forked else _Spawning()
        self._pool = ProcessPool(
            max_workers=count,
            context=self._spawning,
            initializer=start_worker,
            initargs=(os.getpid(), dict(environment)),
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
        for process in self._spawning.made:  # all at once; pebble asks one after the other
            with contextlib.suppress(ValueError, AttributeError):  # closed, or being closed by pebble: it has ended
                if process.is_alive():  # one that could not be started never was
                    process.terminate()
        self._pool.join()
        end_strangers(self._before)
        remove_of_the_dead()
        if self._began_to_adopt:
            leave_orphans()
            self._began_to_adopt = False


class _Remembering:
    """Starts a pool's processes and remembers them: whoever uses the pool may start others meanwhile."""

    def __init__(self) -> None:
        self.made: list[multiprocessing.process.BaseProcess] = []

    def Process(self, *given, **named) -> multiprocessing.process.BaseProcess:  # noqa: N802 (multiprocessing's name)
        process = super().Process(*given, **named)
        self.made.append(process)
        return process


class _Spawning(_Remembering, multiprocessing.context.SpawnContext):
    """Starts each with a Python of its own."""


class _Forking(_Remembering, multiprocessing.context.ForkContext):
    """Starts each as a copy of this process."""


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
