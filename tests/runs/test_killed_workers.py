"""A submission that kills or stops its parent loses its own run; the others are made, and nothing is left."""

import psutil
import pytest

from local_eval.grader import Grader
from local_eval.isolation.child import Failure
from local_eval.runs import one_run as runs
from local_eval.runs.one_run import one_run, seed_everything
from tests.conftest import GOOD, TINY

KINDS = {1: "SIGKILL", 2: "SIGTERM", 3: "SIGKILL", 4: "SIGKILL", 6: "SIGSTOP"}
RUNS = 8


def attack() -> str:
    """Lines that signal the parent in the runs of KINDS, with a child that tries to outlive it all."""
    seeds = {}
    for index, kind in KINDS.items():
        seed_everything(0, index)
        from torch import initial_seed

        seeds[initial_seed()] = kind
    return (
        f"import os, signal, subprocess, time\nkind = {seeds}.get(torch.initial_seed())\n"
        "if kind:\n"
        "    subprocess.Popen(['sleep', '600'], start_new_session=True)\n"
        "    os.kill(os.getppid(), getattr(signal, kind))\n"
        "    time.sleep(600)"
    )


@pytest.mark.parametrize("workers, limit", [(1, 2), pytest.param(2, 5, marks=[pytest.mark.spawned, pytest.mark.slow])])
def test_workers_that_runs_kill_many_times_in_a_row_are_replaced(
    original_out, body, submission, monkeypatch, workers, limit
):
    """Two are started as for a user: a forked one that is killed takes another forked one along."""
    before = {p.pid for p in psutil.Process().children(recursive=True)}
    monkeypatch.setattr(runs, "WORKER_GRACE", float(limit))
    path = body(f"{attack()}\nworkers = {workers}")
    grader = Grader(TINY, original_out, runs=RUNS, workers=workers, timeout=limit)
    done, failures = grader.make_runs(path)
    assert sorted(failures) == sorted(KINDS), {k: f.reason for k, f in failures.items()}
    assert sorted(done) == sorted(set(range(RUNS)) - set(KINDS))
    for index, kind in KINDS.items():
        if kind == "SIGSTOP":
            assert f"still running after its limit of {3 * limit} s" in failures[index].reason
        else:
            assert f"the worker process in charge of it died (signal {kind}" in failures[index].reason
    good = grader.run_plan(submission(GOOD, name="good"))
    for index in (0, 7):
        undisturbed = one_run(good, index)
        assert not isinstance(undisturbed, Failure)
        assert (done[index].evaluation.forget_logits == undisturbed.evaluation.forget_logits).all()
    left = [p for p in psutil.Process().children(recursive=True) if p.pid not in before]
    assert [p for p in left if "resource_tracker" not in " ".join(p.cmdline())] == []


@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM"])
def test_what_becomes_of_a_job_is_told_in_plain_words(name):
    """The words of pool.py for a worker's exit code."""
    import signal
    from concurrent.futures import Future

    from pebble import ProcessExpired

    from local_eval.isolation.pool import STOPPED, _outcome

    future = Future()
    future.set_exception(ProcessExpired("", code=-signal.SIGKILL if name == "SIGKILL" else STOPPED))
    reason = _outcome(future, None, frozenset(p.pid for p in psutil.Process().children())).reason
    assert reason.startswith(f"the worker process in charge of it died (signal {name}")
