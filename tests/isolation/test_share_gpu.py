"""The number of processes is measured, memory is respected, every card works, no job is lost. No GPU is needed."""

import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

import pytest

from local_eval.isolation import share_gpu
from local_eval.isolation.cards import VISIBLE, Card
from local_eval.isolation.child import Failure
from local_eval.isolation.pool import BROKEN, Progress
from local_eval.isolation.share_gpu import Crew, Sharing, more_that_fit, ran_out_of_memory, run_on_device, shared_out
from local_eval.store.errors import InputError

FULL = "CUDA out of memory. Tried to allocate 2.00 GiB"
GB = 10**9


@dataclass(frozen=True)
class Made:
    """A card as a test wants it."""

    number: int = 0
    free: Callable[[], int] = lambda: 80 * GB
    takes_one: bool = False
    name: str = "Made"

    @property
    def environment(self):
        return Card(self.number, self.name).environment


class Clockwork:
    """Stands in for processes and for time: a job takes seconds(busy processes on its card); None: memory is full."""

    def __init__(self, patch, seconds):
        self.now, self.flying, self.started, self.busiest = 0.0, [], [], 0
        self.seconds, self.errors = seconds, {}
        outer = self

        class Workers(share_gpu.Workers):
            def __init__(self, count, environment):
                self.card, self.stopped = environment[VISIBLE], False
                outer.started.append(self.card)

            def submit(self, function, argument, index, timeout):
                future = Future()
                outer.flying.append([None, self, index, future])
                return future

            def outcome(self, future, timeout):
                error = future.exception()
                return future.result() if error is None else Failure(f"{type(error).__name__}: {error}")

            def stop(self):
                self.stopped = True

        patch.setattr(share_gpu, "Workers", Workers)
        patch.setattr(share_gpu.time, "monotonic", lambda: self.now)
        patch.setattr(Crew, "_next", lambda crew, _: self.next(crew))

    def next(self, crew):
        for sharing in crew._sharings:
            sharing.look()
        for job in self.flying:
            if job[0] is None:
                busy = sum(other[1].card == job[1].card for other in self.flying)
                self.busiest = max(self.busiest, busy)
                taken = self.seconds(busy)
                job[0] = self.now + (taken or 0.5)
                if taken is None:
                    self.errors.setdefault(job[2], []).append(RuntimeError(FULL))
        job = min(self.flying, key=lambda job: job[0])
        self.flying.remove(job)
        self.now = job[0]
        if self.errors.get(job[2]):
            job[3].set_exception(self.errors[job[2]].pop())
        else:
            job[3].set_result(job[2])
        return crew._finished.get_nowait()


@pytest.fixture
def clockwork(monkeypatch):
    return lambda seconds: Clockwork(monkeypatch, seconds)


def all_jobs(count, sharings):
    with Crew(sharings, None, None, 60.0) as crew, Progress(count, "jobs") as progress:
        return dict(crew.made(deque(range(count)), progress))


def test_processes_are_added_while_they_pay_and_those_that_are_there_stay(clockwork):
    works, sharing = clockwork(lambda busy: 1.0), Sharing(Made(), 8)  # each waits for itself alone
    assert all_jobs(100, [sharing]) == {k: k for k in range(100)}
    assert sharing.wanted == works.busiest == 8 and len(works.started) == 8


@pytest.mark.parametrize(
    "seconds, best, tried", [(lambda busy: max(1.0, busy / 2), 2, 4), (lambda busy: busy**2, 1, 2)]
)
def test_the_best_number_is_kept_where_more_bring_nothing(clockwork, seconds, best, tried):
    works, sharing = clockwork(seconds), Sharing(Made(), 16)
    assert len(all_jobs(60, [sharing])) == 60
    assert sharing.settled and sharing.wanted == best and len(works.started) == tried


def test_jobs_that_ran_out_of_memory_are_made_again_beside_fewer(clockwork):
    works, sharing = clockwork(lambda busy: None if busy > 2 else 1.0), Sharing(Made(), 16)
    assert all_jobs(60, [sharing]) == {k: k for k in range(60)}
    assert sharing.wanted == 2 and works.busiest > 2


def test_a_job_that_alone_needs_more_than_the_card_has_fails(clockwork):
    clockwork(lambda busy: None)
    assert all(ran_out_of_memory(result) for result in all_jobs(4, [Sharing(Made(), 16)]).values())


def test_full_memory_keeps_the_number_from_growing(clockwork):
    clockwork(lambda busy: 1.0)
    free = iter([10, *[4] * 1000])
    sharing = Sharing(Made(free=lambda: next(free)), 16)
    assert len(all_jobs(20, [sharing])) == 20 and sharing.wanted == 1


def test_a_card_is_looked_at_while_its_jobs_run_not_when_they_have_given_back_what_they_took(clockwork):
    works = clockwork(lambda busy: 1.0)
    sharing = Sharing(Made(free=lambda: (80 - 30 * len(works.flying)) * GB), 16)  # true 30 GB a job
    assert len(all_jobs(40, [sharing])) == 40 and sharing.wanted == 2


def test_memory_limits_the_number_of_processes():
    assert more_that_fit(4, most=16, workers=2, before=10_000, least=6_000) == 4
    assert more_that_fit(8, most=16, workers=4, before=10_000, least=2_000) == 4
    assert more_that_fit(8, most=6, workers=4, before=10_000, least=9_000) == 6
    assert more_that_fit(2, most=16, workers=1, before=10_000, least=10_000) == 2
    assert more_that_fit(8, most=16, workers=4, before=None, least=None) == 8  # nobody can tell


def test_every_card_works_and_finds_its_own_number(clockwork):
    works = clockwork(lambda busy: max(1.0, busy / 2))
    sharings = [Sharing(Made(0), 8), Sharing(Made(3), 8)]
    assert all_jobs(80, sharings) == {k: k for k in range(80)}
    assert [s.wanted for s in sharings] == [2, 2] and set(works.started) == {"0", "3"}
    alone, works = works.now, clockwork(lambda busy: max(1.0, busy / 2))
    all_jobs(80, [Sharing(Made(0), 8)])
    assert works.now > 1.6 * alone


def test_processes_that_were_asked_for_are_shared_out():
    cards = [Made(0), Made(1)]
    assert [s.wanted for s in shared_out(cards, 3)] == [2, 1]
    assert [s.card.number for s in shared_out(cards, 1)] == [0]
    assert [s.wanted for s in shared_out(cards, 0)] == [1, 1]  # one each
    assert [s.settled for s in shared_out(cards, None)] == [False, False]


def test_a_card_in_exclusive_mode_gets_one_process_and_says_why_not_more():
    card = Made(takes_one=True)
    (sharing,) = shared_out([card], None)
    assert sharing.settled and sharing.wanted == 1
    with pytest.raises(InputError, match="--workers 2.*EXCLUSIVE_PROCESS.*nvidia-smi -c DEFAULT"):
        shared_out([card], 2)


def test_a_process_that_can_use_its_card_no_more_is_replaced(clockwork):
    works = clockwork(lambda busy: 1.0)
    works.errors[3] = [RuntimeError("CUDA error: an illegal memory access was encountered")]
    found = all_jobs(12, [Sharing(Made(), 2, 2)])
    assert [k for k, result in found.items() if isinstance(result, Failure)] == [3]
    assert len(works.started) == 3


def test_a_job_whose_process_was_gone_before_it_began_is_made_by_another_once(clockwork):
    works = clockwork(lambda busy: 1.0)
    works.errors = {3: [BrokenProcessPool()], 5: [BrokenProcessPool(), BrokenProcessPool()]}
    found = all_jobs(8, [Sharing(Made(), 2, 2)])
    assert found.pop(5) is BROKEN
    assert found == {k: k for k in range(8) if k != 5}


def test_a_trial_ends_when_the_number_is_known_and_leaves_the_rest(clockwork):
    clockwork(lambda busy: max(1.0, busy / 2))
    sharing, waiting = Sharing(Made(), 16), deque(range(100))
    with Crew([sharing], None, None, 60.0) as crew, Progress(100, "jobs") as progress:
        made = dict(crew.made(waiting, progress, until_settled=True))
    assert sharing.settled and sharing.wanted == 2
    assert len(made) < 30 and sorted([*made, *waiting]) == list(range(100))


def test_other_failures_are_no_lack_of_memory():
    assert ran_out_of_memory(Failure("RuntimeError: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"))
    assert not ran_out_of_memory(Failure("ValueError: unlucky"))
    assert not ran_out_of_memory(3)


def card_and_double(offset, index):
    return os.environ[VISIBLE], offset + 2 * index


def test_real_processes_make_every_job_and_see_their_own_card_alone(monkeypatch):
    monkeypatch.setenv(VISIBLE, "4,7")
    monkeypatch.setattr(share_gpu, "cards_of", lambda device: (Made(0), Made(1)))
    found = dict(run_on_device("cuda", card_and_double, 5, list(range(7)), 2, 60.0, "jobs"))
    assert {k: value for k, (_, value) in found.items()} == {k: 5 + 2 * k for k in range(7)}
    assert {card for card, _ in found.values()} == {"4", "7"}


def test_with_nothing_to_do_no_card_is_looked_at(monkeypatch):
    monkeypatch.setattr(share_gpu, "cards_of", lambda device: pytest.fail("a card is looked at"))
    assert list(run_on_device("cuda", None, None, [], None, 60.0, "jobs")) == []


def test_a_cpu_is_not_measured(monkeypatch):
    used = []
    monkeypatch.setattr(share_gpu, "run_jobs", lambda *given, **_: used.append(given[3]) or [(0, 0), (1, 1)])
    assert len(dict(run_on_device("cpu", None, None, [0, 1], 2, 60, "jobs"))) == 2
    assert used == [2]
