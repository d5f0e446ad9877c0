"""Disks that are full, read-only or late, too few files, two drivers, odd clocks: told in words, and nothing lost."""

import errno
import os
import random
import resource
import subprocess
import threading
import time

import numpy as np
import pytest
import torch

from local_eval.store import files
from local_eval.store.sealed import ABOUT, load_state, unseal
from tests.faults.harness import Store

pytestmark = pytest.mark.faults


@pytest.fixture
def tmpfs(tmp_path):
    """size(kB) makes or resizes a small disk and returns its folder."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = []

    def size(kilobytes: int):
        options = f"{'remount,' if mounted else ''}size={kilobytes}k"
        if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], capture_output=True).returncode:
            pytest.skip("no file system can be mounted here: that takes root")
        mounted.append(kilobytes)
        return place

    yield size
    if mounted:
        subprocess.run(["umount", "-l", place], check=True)


def test_the_disk_is_full(tmpfs, tmp_path, undisturbed, table):
    """It grows a little whenever the grading has filled it."""
    kilobytes, lost, full, known = 100, 0, 0, {}
    store = Store(tmp_path, tmpfs(kilobytes) / "out")
    while (code := store.resume()) != 0:
        assert code == 1
        assert "No space left on device. " in store.said(), store.said()
        assert "make room or choose another --out" in store.said(), store.said()
        store.log.unlink()
        lost += store.lost_since(known)
        known, full, kilobytes = store.finished(), full + 1, kilobytes + 150
        tmpfs(kilobytes)
    assert full > 5
    lost += store.lost_since(known)
    text = "*No space left on device ...*"
    table.tell("disk full, again and again", full, lost, store.differs_from(undisturbed), text)


def refuse_after(count: int, number: int):
    """From the write after `count` on, no file can be made, as on a disk that has become read-only."""
    made = []
    write = files.write_atomically.__globals__["open"] = open

    def refusing(path, mode="r", *more):
        if "w" in mode and str(path).endswith(".partial"):
            made.append(path)
            if len(made) > count:
                raise OSError(number, os.strerror(number))
        return write(path, mode, *more)

    files.open = refusing


@pytest.mark.parametrize(
    "number, what",
    [(errno.EROFS, "read-only in the middle"), (errno.EIO, "input/output errors"), (errno.ESTALE, "stale")],
)
def test_the_disk_takes_no_more(store, undisturbed, table, number, what):
    rng, lost, times = random.Random(number), 0, 4
    for _ in range(times):
        before = store.finished()
        code = store.wait(store.start(prepare=lambda: refuse_after(rng.randrange(1, 12), number)))
        assert code == 1
        assert f"{os.strerror(number)}. Everything finished before it is kept" in store.said()
        lost += store.lost_since(before)
    before = store.finished()
    assert store.resume() == 0
    lost += store.lost_since(before)
    text = f"*{os.strerror(number)} ...*"
    table.tell(f"disk {what} (simulated)", times, lost, store.differs_from(undisturbed), text)


def test_there_are_too_few_open_files(store, undisturbed, table):
    lost, codes = 0, []
    here = len(os.listdir("/proc/self/fd"))
    for more in (1, 2, 3, 4, 5, 6, 8, 10):
        before = store.finished()
        limit = (here + more, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
        codes.append(store.wait(store.start(prepare=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, limit))))
        lost += store.lost_since(before)
    assert set(codes) == {0, 1}, store.said()
    assert "Too many open files" in store.said()
    assert store.resume() == 0
    failed = sum(code != 0 for code in codes)
    text = f"{failed} ended with *Too many open files ...*, the others had enough"
    table.tell("too many open files", len(codes), lost, store.differs_from(undisturbed), text)


def test_two_drivers_work_on_one_store(store, undisturbed, table):
    lost, refused, rounds = 0, 0, 3
    for _ in range(rounds):
        before = store.finished()
        first, second = store.start(), store.start()
        codes = [store.wait(first), store.wait(second)]
        assert set(codes) <= {0, 1}, store.said()
        refused += codes.count(1)
        lost += store.lost_since(before)
    assert refused == store.said().count("another grader is writing to")
    assert refused, "they never met"
    assert store.resume() == 0
    text = f"{refused} of {2 * rounds} were told *another grader is writing to ...*"
    table.tell("two drivers on one store", rounds, lost, store.differs_from(undisturbed), text)


def jump(seed: int):
    """The wall clock jumps by up to ten years either way, whenever it is asked."""
    rng, now = random.Random(seed), time.time
    time.time = lambda: now() + rng.uniform(-3e8, 3e8)


def test_the_clock_jumps(store, undisturbed, table):
    child = store.start(prepare=lambda: jump(1))
    time.sleep(2.0)
    os.kill(child, 9)
    store.wait(child)
    for k, file in enumerate(sorted(store.out.rglob("*.npz"))):
        moment = (0.0, 4e9, time.time() + 3600)[k % 3]  # 1970, 2096, in an hour
        os.utime(file, (moment, moment))
    before = store.finished()
    assert store.resume(prepare=lambda: jump(2)) == 0, store.said()
    table.tell(
        "clock jumps by years, files from 1970 and 2096",
        2,
        store.lost_since(before),
        store.differs_from(undisturbed),
        "nothing of the kit's depends on the hour",
    )


def late(seconds: float):
    """Renamed files are seen only after a while, as through a network file system's cache."""
    rename = os.replace

    def slow(source, target):
        if not str(target).endswith(".npz"):
            return rename(source, target)
        return threading.Timer(seconds, rename, (source, target)).start()

    files.os.replace = slow


def test_a_rename_is_seen_late(store, undisturbed, table):
    before, seen = {}, 0
    for seconds in (0.05, 0.3):

        def prepare(seconds=seconds):
            late(seconds)

        store.wait(store.start(prepare=prepare))
        seen += 1
        before |= store.finished()
    assert store.resume() == 0, store.said()
    table.tell(
        "a rename is seen late (simulated)",
        seen,
        store.lost_since(before),
        store.differs_from(undisturbed),
        "what is not there yet is made, or told; what is there is taken",
    )


def test_a_store_of_the_previous_version_is_read_on(store, undisturbed, table):
    """Without seals, controls and checksums of checkpoints; the original model as torch saved it."""
    assert store.resume() == 0, store.said()
    folder = store.grader.folder
    state = load_state(folder / "original.npz")
    torch.save({"fingerprint": store.grader.fingerprint, "state": state}, folder / "original.pt")
    (folder / "original.npz").unlink()
    records = [*folder.glob("oracles/*.npz"), *store.runs.glob("*.npz")]
    logits = {}
    for file in records:
        arrays, _ = unseal(file)
        np.savez(file, **{name: arrays[name] for name in ("forget_logits", "accuracies", ABOUT)})
        logits[file] = arrays["forget_logits"]
    (store.runs / "score.json").unlink()
    assert store.resume() == 0, store.said()
    lost = sum(not np.array_equal(unseal(file)[0]["forget_logits"], kept) for file, kept in logits.items())
    assert "made again" not in store.said()
    assert all(unseal(file)[1] for file in records), "they are sealed now"
    table.tell("a store of the version before seals", 1, lost, store.differs_from(undisturbed), "read on, and sealed")
