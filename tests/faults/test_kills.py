"""kill -9 at moments chosen by seed, each followed by the same command: nothing finished is lost, no score changes."""

import contextlib
import os
import random
import shutil
import signal
import time

import psutil
import pytest

from tests.faults.harness import family, gone, kill_all

pytestmark = pytest.mark.faults
SEED = 13
DRIVERS, FAMILIES, SINGLE_RUNS, WORKERS, EVERYTHING = 24, 8, 10, 8, 4  # kill points of each kind


def kill_again_and_again(store, undisturbed, kills, strike, rng):
    """`strike(child)` at random moments of gradings, one resumed after the other; returns (lost, changed)."""
    lost = changed = struck = 0
    began = time.monotonic()
    assert store.wait(store.start()) == 0, store.said()
    lasts = time.monotonic() - began
    shutil.rmtree(store.out)
    while struck < kills:
        before, child = store.finished(), store.start()
        moment = time.monotonic() + rng.uniform(0.0, lasts)
        ended = False
        while time.monotonic() < moment and not ended:
            time.sleep(0.003)
            ended = has_ended(child)
        below = family(child)
        hit = not ended and strike(child)
        code = store.wait(child)
        struck += bool(hit and code != 0)  # else it was over just then
        assert gone(below), "what the driver had started has outlived it"
        lost += store.lost_since(before)
        if store.is_complete():
            store.grader.score(str(store.path))
            changed += store.differs_from(undisturbed)
            shutil.rmtree(store.out if rng.random() < 0.4 else store.runs)
    assert store.resume() == 0, store.said()
    changed += store.differs_from(undisturbed)
    assert not list(store.out.rglob("*.partial")), "what was written in part stays"
    return lost, changed


def strike_driver(child):
    os.kill(child, signal.SIGKILL)
    return True


def strike_all(child):
    kill_all(child)
    return True


def test_the_driver_is_killed(store, undisturbed, table):
    found = kill_again_and_again(store, undisturbed, DRIVERS, strike_driver, random.Random(SEED))
    table.tell("kill -9 of the driver", DRIVERS, *found, "the same command went on")


def test_the_driver_and_all_its_processes_are_killed_at_once(store, undisturbed, table):
    found = kill_again_and_again(store, undisturbed, FAMILIES, strike_all, random.Random(SEED + 1))
    table.tell("kill -9 of the driver and the run's process at once", FAMILIES, *found, "the same command went on")


def has_ended(child):
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def test_runs_processes_are_killed(store, undisturbed, table):
    """Several in a grading, which goes on with the others and tells which have failed."""
    rng, struck, lost, starts = random.Random(SEED + 2), 0, 0, 0
    while struck < SINGLE_RUNS:
        before, child, known = store.finished(), store.start(), set()
        starts += 1
        while not has_ended(child) and struck < SINGLE_RUNS:
            for process in family(child):
                if process.pid not in known and rng.random() < 0.4:
                    with contextlib.suppress(psutil.Error):
                        process.kill()
                        struck += 1
                known.add(process.pid)
            time.sleep(0.002)
        store.wait(child)
        lost += store.lost_since(before)
        if store.is_complete():
            shutil.rmtree(store.runs)
    assert "its process died (signal SIGKILL" in store.said()
    assert store.resume() == 0, store.said()
    text = f"the others were made, those runs failed in words, the same command made them ({starts} commands)"
    table.tell("kill -9 of a run's own process", SINGLE_RUNS, lost, store.differs_from(undisturbed), text)


def workers_of(child):
    found = []
    for process in family(child):
        try:
            if "spawn_main" in " ".join(process.cmdline()) and process.ppid() == child:
                found.append(process)
        except psutil.Error:
            pass
    return found


@pytest.mark.spawned  # else a worker looks like any other process, and none would be found
def test_workers_from_which_runs_are_forked_are_killed(store, undisturbed, table):
    """In real pools of two, while oracles are trained and runs made."""
    rng, struck, lost, starts = random.Random(SEED + 3), 0, 0, 0
    while struck < WORKERS:
        assert starts < 10 * WORKERS, "no worker is found"
        before, child = store.finished(), store.start(workers=2)
        starts += 1
        while psutil.pid_exists(child) and struck < WORKERS:
            time.sleep(rng.uniform(0.2, 3.0))
            if has_ended(child):
                break
            if here := workers_of(child):
                rng.choice(here).kill()
                struck += 1
        store.wait(child)
        lost += store.lost_since(before)
        if store.is_complete():
            shutil.rmtree(store.runs)
    assert store.resume() == 0, store.said()
    changed = store.differs_from(undisturbed)
    text = f"each lost the job in its hands at most and was replaced; the same command made it ({starts} commands)"
    table.tell("kill -9 of a worker, from which runs are forked", WORKERS, lost, changed, text)


@pytest.mark.spawned
def test_driver_and_workers_are_killed_at_once(store, undisturbed, table):
    rng, lost = random.Random(SEED + 4), 0
    for _ in range(EVERYTHING):
        before, child = store.finished(), store.start(workers=2)
        time.sleep(rng.uniform(1.0, 9.0))
        below = family(child)
        kill_all(child)
        store.wait(child)
        assert gone(below)
        lost += store.lost_since(before)
    assert store.resume() == 0, store.said()
    text = "the same command went on"
    table.tell("kill -9 of driver, workers and runs at once", EVERYTHING, lost, store.differs_from(undisturbed), text)
