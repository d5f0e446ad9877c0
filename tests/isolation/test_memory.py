"""A process is ended for its memory only when little is left and it holds much: never otherwise."""

import os

import pytest

from local_eval.isolation import child as memory
from local_eval.isolation import child as watch
from local_eval.isolation.child import Failure, run_apart

WHOLE = 10**9


@pytest.fixture
def machine(monkeypatch):
    """machine(left, taken) -> what too_much says on one with a gigabyte and two cores."""

    def say(left: float, taken: float) -> int:
        monkeypatch.setattr(memory, "total", lambda: WHOLE)
        monkeypatch.setattr(memory, "available", lambda: int(left * WHOLE))
        monkeypatch.setattr(memory, "taken_by", lambda process: int(taken * WHOLE))
        monkeypatch.setattr(memory.os, "cpu_count", lambda: 2)
        return memory.too_much(os.getpid())

    return say


def test_only_who_holds_much_when_little_is_left_is_to_blame(machine):
    assert machine(left=0.05, taken=0.9) == 0.9 * WHOLE
    assert machine(left=0.07, taken=0.9) == 0, "there is enough"
    assert machine(left=0.05, taken=0.12) == 0, "somebody else has taken it"
    assert machine(left=0.05, taken=0.13) > 0, "one of several that take all together"


def test_what_is_shared_with_the_parent_does_not_count_as_taken():
    held = bytearray(os.urandom(2**16) * 1024)
    child = os.fork()
    if child == 0:
        import time

        time.sleep(30)
        os._exit(0)
    try:
        assert memory.taken_by(child) < len(held) / 2
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
    assert memory.taken_by(os.getpid()) > len(held)


def test_a_container_s_limit_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    without = memory.total()
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.total() == without
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("400000\n")
    assert memory.total() == 1_000_000
    assert memory.available() == 600_000


def test_a_run_that_takes_it_all_is_told_how_much_it_held(monkeypatch):
    monkeypatch.setattr(watch, "too_much", lambda process: 3_200_000_000)

    def work(_):
        import time

        time.sleep(30)
        return b""

    answer = run_apart(work, 20.0)
    assert answer.content == Failure("it held 3.2 GB when the memory was nearly full; it was stopped")
