"""The number of processes is found by measuring, memory is respected, and no job is lost. No GPU is needed."""

import pytest

from local_eval.isolation import share_gpu
from local_eval.isolation.child import Failure
from local_eval.isolation.share_gpu import (
    Timed,
    jobs_per_second,
    more_that_fit,
    ran_out_of_memory,
    run_measured,
    run_on_device,
)

PLENTY = 80 * 10**9
FULL = Failure("OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB")


@pytest.fixture
def card(monkeypatch):
    """card(seconds) -> the (processes, jobs) of every pool. A job takes seconds(processes); None: memory is full."""

    def make(seconds):
        used = []

        def run_jobs(function, argument, indices, workers, timeout, title):
            used.append((workers, len(indices)))
            for place, index in enumerate(indices):
                taken = seconds(workers)
                out_of_memory = taken is None and place % workers
                yield index, Timed(FULL if out_of_memory else index, process=place % workers, seconds=taken or 1.0)

        monkeypatch.setattr(share_gpu, "run_jobs", run_jobs)
        return used

    return make


def all_jobs(count, most=16, free=lambda: PLENTY):
    return dict(run_measured(None, None, list(range(count)), 60.0, "jobs", most, free))


def test_more_processes_are_used_while_they_pay(card):
    used = card(lambda workers: 1.0)  # each waits for itself alone
    assert all_jobs(60, most=8) == {k: k for k in range(60)}
    assert used == [(1, 3), (2, 6), (4, 12), (8, 24), (8, 15)]


def test_the_best_number_is_kept_where_more_bring_nothing(card):
    used = card(lambda workers: max(1.0, workers / 2))  # the card has room for two
    assert len(all_jobs(30)) == 30
    assert used == [(1, 3), (2, 6), (4, 12), (2, 9)]


def test_one_process_is_kept_where_two_disturb_each_other(card):
    used = card(lambda workers: workers**2)
    assert len(all_jobs(12)) == 12
    assert used == [(1, 3), (2, 6), (1, 3)]


def test_jobs_that_ran_out_of_memory_are_made_again_by_fewer_processes(card):
    used = card(lambda workers: None if workers > 2 else 1.0)
    assert all_jobs(30) == {k: k for k in range(30)}
    assert used == [(1, 3), (2, 6), (4, 12), (2, 18)]


def test_a_job_that_alone_needs_more_than_the_card_has_fails(monkeypatch):
    monkeypatch.setattr(share_gpu, "run_jobs", lambda f, a, indices, *_: ((k, FULL) for k in indices))
    assert all(ran_out_of_memory(result) for result in all_jobs(4).values())


def test_full_memory_keeps_the_number_from_growing(card):
    used, free = card(lambda workers: 1.0), iter([10, *[4] * 100])
    assert len(all_jobs(10, free=lambda: next(free))) == 10
    assert used == [(1, 3), (1, 7)]


def test_memory_limits_the_number_of_processes():
    assert more_that_fit(4, most=16, workers=2, before=10_000, least=6_000) == 4
    assert more_that_fit(8, most=16, workers=4, before=10_000, least=2_000) == 4
    assert more_that_fit(8, most=6, workers=4, before=10_000, least=9_000) == 6
    assert more_that_fit(2, most=16, workers=1, before=10_000, least=10_000) == 2


def test_the_first_job_of_a_process_does_not_count():
    made = [Timed(None, 7, 30.0), Timed(None, 8, 31.0), Timed(None, 7, 2.0), Timed(None, 7, 2.0), Timed(None, 8, 9.0)]
    assert jobs_per_second(made, workers=2) == 1.0
    assert jobs_per_second(made[:2], workers=2) == 0.0


def test_other_failures_are_no_lack_of_memory():
    assert ran_out_of_memory(Failure("RuntimeError: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"))
    assert not ran_out_of_memory(Failure("ValueError: unlucky"))
    assert not ran_out_of_memory(3)


def doubles(offset, index):
    return offset + 2 * index


def test_real_processes_make_every_job(tmp_path):
    found = dict(run_measured(doubles, 5, list(range(7)), 60.0, "jobs", 2, lambda: PLENTY))
    assert found == {k: 5 + 2 * k for k in range(7)}


def test_a_cpu_is_not_measured(card):
    used = card(lambda workers: 1.0)
    assert len(dict(run_on_device("cpu", None, None, [0, 1], 2, 60, "jobs"))) == 2
    assert used == [(2, 2)]
