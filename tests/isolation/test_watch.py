"""An answer counts whenever it comes before the end, and last words are kept."""

import math
import os
import sys
import time

import pytest

from local_eval.isolation.child import ANSWERED, Failure, Watch, run_apart

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


def watch_of(child, marked=b"", printed=b""):
    """A watch whose pipes hold this already."""
    (marks, mark), (said, say) = os.pipe(), os.pipe()
    os.write(mark, marked)
    os.write(say, printed)
    return Watch(child, marks, said), mark, say


def test_an_answer_that_comes_just_before_the_process_is_found_to_be_gone_counts():
    watch, mark, _ = watch_of(os.getpid(), printed=b"last words")

    def gone():
        os.write(mark, ANSWERED)
        return Failure("its process is gone")

    watch._gone = gone
    assert watch.until_answer(5) is None
    assert watch.printed.endswith(b"last words")


def test_last_words_of_a_process_that_dies_are_kept():
    answer = run_apart(lambda clock: print("these words") or os.abort(), 20)
    assert answer.content == Failure("its process died (signal SIGABRT)")
    assert "these words" in answer.printed


def test_the_time_is_the_clocks_own_and_unknown_unless_it_was_stopped():
    def work(clock):
        clock.start()
        time.sleep(0.2)
        clock.stop()
        return b"answer"

    assert 0.2 <= run_apart(work, 20).seconds < 5
    assert math.isnan(run_apart(lambda clock: clock.start() or b"answer", 20).seconds)
    assert math.isnan(run_apart(lambda clock: b"answer", 20).seconds)


def test_replacing_the_clock_changes_no_time():
    def work(clock):
        clock.start()
        time.perf_counter = time.monotonic = time.time = lambda: 0.0
        time.sleep(0.2)
        clock.stop()
        return b"answer"

    assert 0.2 <= run_apart(work, 20).seconds < 5


def test_a_process_may_use_more_than_an_answers_worth_of_output_after_it_has_answered():
    """A background process that prints for ever is not waited for."""

    def work(clock):
        if os.fork() == 0:
            while True:
                print("x" * 1000)
        return b"answer"

    assert run_apart(work, 20).content == b"answer"


@LINUX
def test_nothing_is_left_open():
    before = sorted(os.listdir("/proc/self/fd"))
    run_apart(lambda clock: b"", 20)
    run_apart(lambda clock: os._exit(3), 20)
    assert sorted(os.listdir("/proc/self/fd")) == before


@LINUX
def test_the_work_has_standard_input_at_its_end_and_no_inherited_files():
    answer = run_apart(lambda clock: f"{os.read(0, 10)!r} {len(os.listdir('/proc/self/fd'))}".encode(), 20)
    said, count = answer.content.decode().rsplit(" ", 1)
    assert said == "b''"
    assert int(count) <= 9
