"""Records are written whole or not at all, and what is read is verified."""

import errno
import os
import time

import numpy as np
import pytest

from local_eval.store import files as records
from local_eval.store.files import OutputError, locked, write_atomically
from local_eval.store.records import (
    Evaluation,
    Record,
    RecordError,
    load_record,
    save_record,
)

IDENTITY = {"kind": "run", "task": "t", "index": 0}


def record(identity=None, **changes) -> Record:
    values = {"forget_logits": np.ones((4, 3), np.float32), "retain_accuracy": 0.9, "test_accuracy": 0.8} | changes
    return Record(Evaluation(**values), identity or IDENTITY, {"seconds": 1.5})


def test_what_is_saved_is_read_back(tmp_path):
    save_record(tmp_path / "a" / "0.npz", record())
    found = load_record(tmp_path / "a" / "0.npz", IDENTITY, (4, 3))
    assert (found.evaluation.forget_logits == 1).all()
    assert (found.evaluation.retain_accuracy, found.facts) == (0.9, {"seconds": 1.5})


@pytest.mark.parametrize("keep", [0, 10, 200, -1])
def test_a_truncated_file_is_named_not_trusted(tmp_path, keep):
    path = tmp_path / "0.npz"
    save_record(path, record())
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(RecordError, match="0.npz is damaged"):
        load_record(path, IDENTITY, (4, 3))


def test_a_flipped_byte_is_noticed_or_harmless_wherever_it_is(tmp_path):
    path = tmp_path / "0.npz"
    save_record(path, record(forget_logits=np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)))
    whole = path.read_bytes()
    good = load_record(path, IDENTITY, (4, 3))
    noticed = 0
    for place in range(0, len(whole), 3):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            found = load_record(path, IDENTITY, (4, 3))
        except RecordError:
            noticed += 1
        else:  # a byte of the archive's own bookkeeping, dates for instance
            assert (found.evaluation.forget_logits == good.evaluation.forget_logits).all()
            assert found.evaluation.test_accuracy == good.evaluation.test_accuracy
    assert noticed > len(whole) / 3 / 2


@pytest.mark.parametrize(
    "made, message",
    [
        (record(IDENTITY | {"task": "other"}), "task differ"),
        (record(IDENTITY | {"index": 3}), "index differ"),
        (record(forget_logits=np.ones((5, 3), np.float32)), r"\(5, 3\)"),
        (record(forget_logits=np.full((4, 3), np.nan, np.float32)), "NaN"),
        (record(test_accuracy=float("nan")), "NaN"),
    ],
)
def test_foreign_misshapen_and_diverged_records_are_refused(tmp_path, made, message):
    save_record(tmp_path / "0.npz", made)
    with pytest.raises(RecordError, match=message):
        load_record(tmp_path / "0.npz", IDENTITY, (4, 3))


def test_a_pickle_is_not_opened(tmp_path):
    path = tmp_path / "0.npz"
    np.savez(path, forget_logits=np.array([print], dtype=object), accuracies=np.zeros(2), about="{}")
    with pytest.raises(RecordError, match="damaged"):
        load_record(path, IDENTITY, (4, 3))


@pytest.mark.parametrize("fails", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch, fails):
    path = tmp_path / "score.json"
    write_atomically(path, b"old")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(records.os, fails, full)
    with pytest.raises(OutputError, match="No space left.*kept"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["score.json"]


def test_an_output_folder_that_cannot_be_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="choose another --out"), locked(tmp_path / "file" / "out"):
        pass


def test_a_read_only_folder_is_refused(tmp_path, monkeypatch):
    """Root may write anywhere, so the refusal is played."""

    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(type(tmp_path), "mkdir", refuse)
    with pytest.raises(OutputError, match="Permission denied.*choose another --out"), locked(tmp_path / "out"):
        pass
    with pytest.raises(OutputError, match="Permission denied"):
        write_atomically(tmp_path / "out" / "score.json", b"")


def test_a_second_grader_is_refused_at_once(tmp_path):
    import multiprocessing

    context = multiprocessing.get_context("spawn")
    ready, finish = context.Event(), context.Event()
    other = context.Process(target=hold_lock, args=(tmp_path, ready, finish))
    other.start()
    try:
        assert ready.wait(60)
        start = time.monotonic()
        with pytest.raises(OutputError, match="another grader"), locked(tmp_path):
            pass
        assert time.monotonic() - start < 5
    finally:
        finish.set()
        other.join()
    with locked(tmp_path):  # and the lock goes with its holder
        assert True


def hold_lock(folder, ready, finish):
    with locked(folder):
        ready.set()
        finish.wait(60)
