"""A process that stands by answers one request after the other, keeps what it holds, and ends with whoever asks."""

import os
import signal
import time

import psutil

from local_eval.isolation.child import Failure, Standby, run_apart
from local_eval.store.errors import InputError

held = []


def answer(request):
    if request == b"die":
        os.kill(os.getpid(), signal.SIGKILL)
    if request == b"raise":
        raise InputError("the weights are of another net")
    held.append(request)
    return str((os.getpid(), len(held))).encode()


def test_it_is_one_process_that_keeps_what_it_holds_and_none_of_it_is_here():
    one = Standby(answer)
    try:
        found = [eval(one.ask(request)) for request in (b"a", b"b" * 10**6, b"c")]
    finally:
        one.end()
    assert [count for _, count in found] == [1, 2, 3] and not held
    assert len({process for process, _ in found}) == 1 and not psutil.pid_exists(found[0][0])


def test_why_there_is_no_answer_is_told_and_then_it_has_ended():
    for request, reason in ((b"raise", "the weights are of another net"), (b"die", "is gone")):
        one = Standby(answer)
        process = eval(one.ask(b"a"))[0]
        failure = one.ask(request)
        assert isinstance(failure, Failure) and reason in failure.reason
        assert not psutil.pid_exists(process)


def test_foreign_code_that_runs_meanwhile_neither_ends_it_nor_holds_its_pipe():
    one = Standby(answer)
    try:
        process = eval(one.ask(b"a"))[0]
        beyond = {entry for entry in os.listdir("/proc/self/fd") if int(entry) > 2}
        foreign = run_apart(lambda _: repr([f for f in os.listdir("/proc/self/fd") if int(f) > 2]).encode(), 20)
        assert one._ours.fileno() > 2 and str(one._ours.fileno()) in beyond
        assert str(one._ours.fileno()) not in eval(foreign.content)
        assert eval(one.ask(b"b"))[0] == process
    finally:
        one.end()


def test_it_does_not_outlive_the_process_that_asks():
    def asks(_):
        return Standby(answer).ask(b"a")

    process = eval(run_apart(asks, 20).content)[0]
    end = time.monotonic() + 10
    while psutil.pid_exists(process) and time.monotonic() < end:
        time.sleep(0.05)
    assert not psutil.pid_exists(process)
