"""Jobs on GPUs: every card has processes of its own, as many as make it fastest, found by counting finished jobs.

An unlearning method is arbitrary Python that keeps a card waiting most of the time, so other processes can use it
meanwhile. How many pay depends on method, card and CPU. A card starts with one process; their number is doubled for as
long as that makes clearly more jobs per second and memory allows. Those that are there work on while others start, so
looking for the best number costs nothing, and nothing is made twice, except jobs that run out of memory, which are made
again beside half as many.

Every process keeps the task's images on its card as bytes (92 MB at the competition's size) for itself, on purpose: a
submission that writes into the data it is handed must not spoil what other processes see.
"""

from __future__ import annotations

import math
import os
import queue
import statistics
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Protocol

from local_eval.isolation.cards import Card, cards_of, kind_of
from local_eval.isolation.child import Failure
from local_eval.isolation.pool import (
    BROKEN,
    Progress,
    Workers,
    card_was_lost,
    default_workers,
    memory_was_full,
    run_jobs,
)
from local_eval.isolation.processes import adopt_orphans, leave_orphans
from local_eval.store.errors import InputError

JOBS_PER_PROCESS = 2  # that are timed; each one's first, which loads the data, is not
GAIN = 1.1  # a doubling that brings less is not worth the memory
USABLE = 0.9  # of the memory that was free
LOOK = 0.25  # seconds between looks at a card's memory while its jobs run


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
    timeout: float | None,
    title: str,
    models: int = 1,
    one_each: bool = False,
    reached: Callable[[], float] | None = None,
) -> Iterator[tuple[int, Any]]:
    """As `run_jobs`, on the CPU or on one card or several. A worker calls its card `cuda`; so must the argument.

    Args:
        workers: processes in all; None for one per core, or on cards for as many as are best.
        one_each: give a card one process, whatever `workers` says: for jobs that fill it by themselves.
    Raises:
        InputError: the device cannot be used, or does not take so many processes.
    """
    if not indices:
        return
    if kind_of(device) == "cpu":
        count = workers or default_workers(device)
        yield from run_jobs(function, argument, indices, count, timeout, title, models=models, reached=reached)
        return
    sharings = shared_out(cards_of(device), 0 if one_each else workers)
    bar = Progress(models * len(indices), title, reached=reached)
    with Crew(sharings, function, argument, timeout) as crew, bar as progress:
        yield from crew.made(deque(indices), progress, models)


def shared_out(cards: Sequence[Card], workers: int | None) -> list[Sharing]:
    """How many processes each card gets: `workers` in all, one each if that is 0, and what is best if it is None.

    Raises:
        InputError: the cards do not take so many.
    """
    most = max((os.cpu_count() or 1) // len(cards), 1)
    alone = [card for card in cards if card.takes_one]
    if alone and (workers or 0) > len(cards):
        raise InputError(
            f"--workers {workers}: {alone[0].name} is in EXCLUSIVE_PROCESS mode and takes one process at a time; leave "
            "--workers out, or let it take more, as its administrator, with: nvidia-smi -c DEFAULT"
        )
    if workers is None:
        return [Sharing(card, most, 1 if card in alone else None) for card in cards]
    count = workers or len(cards)
    parts = [count // len(cards) + (k < count % len(cards)) for k in range(len(cards))]
    return [Sharing(card, most, part) for card, part in zip(cards, parts) if part]


class Sharing:
    """How many processes a card is to have, while that is being found out and afterwards."""

    def __init__(self, card: Card, most: int, fixed: int | None = None):
        """`most` processes are never exceeded, such as the number of cores; `fixed` of them are not to be doubted."""
        self.card, self.wanted, self.settled = card, fixed or 1, fixed is not None
        self._most, self._best = most, (0.0, 1)
        self._before = self._least = None if self.settled else card.free()
        self._changed, self._since, self._seconds = 0.0, math.inf, []

    def look(self) -> None:
        """Note how full the card is."""
        if not self.settled and self._before is not None:
            self._least = min(self._least, self.card.free() or self._least)

    def all_have_made_one(self, now: float) -> None:
        """From now on jobs are timed."""
        self._since = min(self._since, now)

    def made(self, began: float, ended: float) -> None:
        """A job was made; times are of one clock, in seconds."""
        if self.settled or began < self._since:
            return
        self._seconds.append(ended - began)
        if len(self._seconds) >= JOBS_PER_PROCESS * self.wanted:
            self._decide(ended)

    def was_full(self, began: float, now: float) -> None:
        """A job that began then ran out of memory beside others. Others may have, for the same reason."""
        if began >= self._changed:
            self.wanted, self.settled, self._changed = max(self.wanted // 2, 1), True, now

    def _decide(self, now: float) -> None:
        rate = self.wanted / statistics.median(self._seconds)
        gained = rate >= GAIN * self._best[0]
        self._best = (rate, self.wanted) if gained else self._best
        more = more_that_fit(2 * self.wanted, self._most, self.wanted, self._before, self._least)
        self.settled = not gained or more == self.wanted
        self.wanted = self._best[1] if self.settled else more
        self._changed, self._since, self._seconds = now, math.inf, []


def more_that_fit(wanted: int, most: int, workers: int, before: int | None, least: int | None) -> int:
    """How many processes to try next: `wanted`, unless cores or memory allow fewer; never fewer than `workers`.

    Args:
        before, least: bytes that were free before the first process, and at least while `workers` worked; None where
            that cannot be told, and full memory is the only sign.
    """
    fit = most if before is None else int(USABLE * before / max((before - least) / workers, 1.0))
    return max(min(wanted, most, fit), workers)


class Seat:
    """A process on a card, with one job at a time."""

    def __init__(self, sharing: Sharing):
        self.sharing, self.workers = sharing, Workers(1, sharing.card.environment)
        self.job: int | None = None
        self.began, self.has_made = 0.0, 0

    def outcome(self, future: Future, timeout: float | None) -> tuple[Any, BaseException | None]:
        """What became of its job, as `Workers.outcome` has it, and the error itself."""
        error = None if future.cancelled() else future.exception()
        self.has_made = 0 if error else self.has_made + 1  # after an error it may be another process
        return BROKEN if isinstance(error, BrokenProcessPool) else self.workers.outcome(future, timeout), error


class Crew:
    """`with Crew(...) as crew: crew.made(...)`: the processes of all cards; the end stops them."""

    def __init__(
        self,
        sharings: Sequence[Sharing],
        function: Callable[[Any, int], Any],
        argument: Any,
        timeout: float | None,
    ):
        self._sharings, self._timeout = sharings, timeout
        self._function, self._argument = function, argument
        self._seats: list[Seat] = []
        self._finished: queue.SimpleQueue[tuple[Seat, Future]] = queue.SimpleQueue()
        self._broken: set[int] = set()  # jobs whose process was gone before it had taken them
        self._began_to_adopt = adopt_orphans()  # here, else the first process that ends would stop it for all

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *exception) -> None:
        for seat in list(self._seats):
            self._dismiss(seat)
        if self._began_to_adopt:
            leave_orphans()

    @property
    def settled(self) -> bool:
        """Is it known how many processes are best?"""
        return all(sharing.settled for sharing in self._sharings)

    def made(
        self, waiting: deque[int], progress: Progress, models: int = 1, until_settled: bool = False
    ) -> Iterator[tuple[int, Any]]:
        """Make the jobs that wait; yields (index, result or Failure). What is not made is left in `waiting`.

        With `until_settled` no more is begun once the best number of processes is known.
        """
        while True:
            if not (until_settled and self.settled):
                self._hand_out(waiting)
            if all(seat.job is None for seat in self._seats):
                return
            seat, future = self._next(progress)
            index, result = seat.job, self._result(seat, future, waiting)
            if result is not None:
                yield index, result[0]
                progress.update(models)

    def _hand_out(self, waiting: deque[int]) -> None:
        """Give cards the processes that they are to have, and those that are idle a job."""
        for sharing in self._sharings:
            seats = [seat for seat in self._seats if seat.sharing is sharing]
            busy = [seat for seat in seats if seat.job is not None]
            idle = [seat for seat in seats if seat.job is None]
            for seat in idle[max(sharing.wanted - len(busy), 0) :]:
                self._dismiss(seat)
            idle = idle[: max(sharing.wanted - len(busy), 0)]
            while waiting and len(busy) < sharing.wanted:
                seat = idle.pop() if idle else self._seated(sharing)
                self._begin(seat, waiting.popleft())
                busy.append(seat)

    def _seated(self, sharing: Sharing) -> Seat:
        self._seats.append(Seat(sharing))
        return self._seats[-1]

    def _dismiss(self, seat: Seat) -> None:
        self._seats.remove(seat)
        seat.workers.stop()

    def _begin(self, seat: Seat, index: int) -> None:
        seat.job, seat.began = index, time.monotonic()
        future = seat.workers.submit(self._function, self._argument, index, self._timeout)
        future.add_done_callback(lambda future: self._finished.put((seat, future)))

    def _next(self, progress: Progress) -> tuple[Seat, Future]:
        """The next that has finished. Cards are looked at meanwhile: what a job takes it gives back at its end."""
        while True:
            for sharing in self._sharings:
                sharing.look()
            try:
                return self._finished.get(timeout=LOOK)
            except queue.Empty:
                progress.tick()

    def _result(self, seat: Seat, future: Future, waiting: deque[int]) -> tuple[Any] | None:
        """What a seat's job gave, as a tuple of one; None if it waits again."""
        index, sharing, now = seat.job, seat.sharing, time.monotonic()
        result, error = seat.outcome(future, self._timeout)
        seat.job = None
        if error is not None and (result is BROKEN or card_was_lost(error)):
            self._dismiss(seat)  # it would fail every job from now on
        if result is BROKEN and index not in self._broken:
            self._broken.add(index)
            waiting.appendleft(index)
            return None
        if ran_out_of_memory(result) and sum(other.sharing is sharing for other in self._seats) > 1:
            sharing.was_full(seat.began, now)
            waiting.append(index)
            return None
        self._count(seat, now)
        return (result,)

    def _count(self, seat: Seat, now: float) -> None:
        seats = [other for other in self._seats if other.sharing is seat.sharing]
        seat.sharing.made(seat.began, now)
        if len(seats) == seat.sharing.wanted and all(other.has_made for other in seats):
            seat.sharing.all_have_made_one(now)


def until_settled(
    function: Callable[[Any, int], Any], argument: Any, indices: list[int], timeout: float, title: str
) -> Generator[tuple[int, Any], None, int]:
    """Make jobs on the one card that this process sees until it is known how many processes are best for it.

    Returns:
        That number. Some jobs may be left.
    Raises:
        InputError: there is no card.
    """
    (sharing,) = shared_out(cards_of("cuda")[:1], None)
    with Crew([sharing], function, argument, timeout) as crew, Progress(len(indices), title) as progress:
        yield from crew.made(deque(indices), progress, until_settled=True)
    return sharing.wanted


def ran_out_of_memory(result: Any) -> bool:
    """Did a job fail because the GPU's memory was full?"""
    return isinstance(result, Failure) and memory_was_full(result)
