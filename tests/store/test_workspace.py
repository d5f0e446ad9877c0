"""A record is read once by a command, never if its file has changed since, and never as another model's."""

import os
from dataclasses import replace

import numpy as np
import pytest

from local_eval.store import workspace as workspaces
from local_eval.store.records import Evaluation, Record, RecordError, record_path, save_record
from local_eval.store.workspace import Workspace

SHAPE = (4, 3)


def made(index, value=0.0):
    return Record(Evaluation(np.full(SHAPE, value, np.float32), 0.5, 0.5), identity(index), {})


def identity(index):
    return {"kind": "run", "index": index}


@pytest.fixture
def reads(monkeypatch):
    """Paths of the record files that were opened, in order."""
    paths, load = [], workspaces.load_record
    monkeypatch.setattr(workspaces, "load_record", lambda path, *how: paths.append(path) or load(path, *how))
    return paths


def test_a_record_is_read_once_and_one_that_was_saved_here_never(tmp_path, reads):
    workspace = Workspace(tmp_path)
    save_record(record_path(tmp_path, 0), made(0))
    workspace.save(record_path(tmp_path, 1), made(1))
    for _ in range(3):
        assert list(workspace.read(tmp_path, identity, 3, SHAPE)) == [0, 1]
    assert reads == [record_path(tmp_path, 0)]


def test_a_file_that_was_written_anew_is_read_anew_also_with_the_same_size_and_time(tmp_path, reads):
    workspace, path = Workspace(tmp_path), record_path(tmp_path, 0)
    save_record(path, made(0))
    workspace.load(path, identity(0), SHAPE)
    before = os.stat(path)
    save_record(path, made(0, value=1.0))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert os.stat(path).st_size == before.st_size
    assert workspace.load(path, identity(0), SHAPE).evaluation.forget_logits[0, 0] == 1.0
    path.unlink()
    with pytest.raises(FileNotFoundError):
        workspace.load(path, identity(0), SHAPE)


def test_a_remembered_record_is_not_taken_for_another_ones(tmp_path):
    workspace, path = Workspace(tmp_path), record_path(tmp_path, 0)
    workspace.save(path, made(0))
    with pytest.raises(RecordError, match="belongs to something else: index"):
        workspace.load(path, identity(1), SHAPE)
    with pytest.raises(RecordError, match="expected"):
        workspace.load(path, identity(0), (5, 3))


def test_a_damaged_file_is_named_and_left_out_while_others_are_read(tmp_path, capsys):
    for index in range(3):
        save_record(record_path(tmp_path, index), replace(made(index)))
    record_path(tmp_path, 1).write_bytes(b"no record")
    assert list(Workspace(tmp_path).read(tmp_path, identity, 3, SHAPE)) == [0, 2]
    assert "0001.npz is damaged" in capsys.readouterr().err
