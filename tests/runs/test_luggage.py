"""A run whose files were sent elsewhere gives what it gives here, and tells of it as if it had been made here."""

import os
import pickle
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from local_eval.cluster.bootstrap import place
from local_eval.cluster.node import in_keeper
from local_eval.grader import Grader
from local_eval.isolation.child import Failure
from local_eval.methods.source import SubmissionError
from local_eval.oracles.oracles import OraclePlan, one_job
from local_eval.runs.one_run import one_run
from local_eval.runs.plan import as_at_home
from local_eval.tasks.data import box
from local_eval.tasks.loading import load_task
from local_eval.tasks.names import TaskError
from tests.conftest import TINY

pytest.importorskip("cloudpickle", reason="a task's network is sent with cloudpickle, of requirements-cluster.txt")
READS = """
import os
from pathlib import Path
with torch.no_grad():
    for weight in net.parameters():
        weight *= float((Path(__file__).parent / "scale.txt").read_text()) * float(open("HERE/here.txt").read())
        weight *= float(os.environ["FACTOR"]) * len(os.listdir("HERE"))
        weight *= 0.5 if os.path.exists("HERE/flag") else 1.0
"""


def unpacked(plan, folder) -> list[Path]:
    """The folders of a plan's parcels on a 'node'."""
    parcels = plan.luggage()
    sizes = [{file: len(content) for file, content in parcel.items()} for parcel in parcels]
    return [place(folder, str(k), sizes[k], lambda k=k: parcels[k]) for k in range(len(parcels))]


@pytest.fixture
def plan(original_out, tmp_path, body, monkeypatch):
    """Of a submission that reads two files and a variable, which a run has told."""
    (tmp_path / "scale.txt").write_text("0.5")
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "here.txt").write_text("1.5")
    (tmp_path / "here" / "flag").write_text("")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("FACTOR", "0.9")
    (tmp_path / "node").mkdir()
    return Grader(TINY, original_out, runs=16).run_plan(body(READS.replace("HERE", str(tmp_path / "here"))))


def left(folder):
    (folder / "left").mkdir()
    return folder / "left"


def test_a_run_elsewhere_is_the_same_to_the_bit_and_names_the_drivers_files(plan, tmp_path, monkeypatch):
    here = one_run(plan, 3)
    assert not plan.is_known()
    known = plan.having_made(here)
    assert known.is_known()
    folders = unpacked(known, tmp_path / "node")
    monkeypatch.setenv("FACTOR", "7")  # the node's own
    moved = known.moved(folders, left(tmp_path))
    found, files = moved.reported(one_run(moved, 3), 3, folders)
    assert Path.cwd() != tmp_path / "here"
    assert os.environ["FACTOR"] == "0.9"
    assert np.array_equal(found.evaluation.forget_logits, here.evaluation.forget_logits)
    assert found.identity == here.identity
    assert found.facts["read"] == here.facts["read"]
    assert len(found.facts["read"]["files"]) == 2
    assert files == {}


def test_a_file_that_nobody_knew_of_is_missed_in_words_of_home(plan, tmp_path):
    folders = unpacked(plan, tmp_path / "node")
    moved = plan.moved(folders, left(tmp_path))
    failure, _ = moved.reported(one_run(moved, 3), 3, folders)
    assert isinstance(failure, Failure)
    assert "No such file" in failure.reason
    assert str(tmp_path / "scale.txt") in failure.reason
    assert str(tmp_path / "node") not in failure.as_text()


def test_a_checkpoint_goes_back_with_its_run_and_is_written_by_the_driver(plan, tmp_path):
    known = replace(plan.having_made(one_run(plan, 3)), checkpoints=tmp_path / "kept")
    one_run(known, 3)
    (written,) = (tmp_path / "kept").iterdir()
    content = written.read_bytes()
    written.unlink()
    folders = unpacked(known, tmp_path / "node")
    moved = known.moved(folders, left(tmp_path))
    _, files = moved.reported(one_run(moved, 3), 3, folders)
    known.take({"../elsewhere.pth": b"", "unlearned_checkpoint_4.pth": b""} | files, 3)
    assert [p.name for p in (tmp_path / "kept").iterdir()] == ["unlearned_checkpoint_3.pth"]
    assert written.read_bytes() == content
    assert list(moved.checkpoints.iterdir()) == [], "nothing is left on the node"


def test_a_submission_that_reads_too_much_is_refused_with_the_way_out(plan, monkeypatch):
    monkeypatch.setattr("local_eval.runs.plan.LARGEST", 10)
    with pytest.raises(SubmissionError, match="same place on every node"):
        plan.luggage()


def test_oracles_elsewhere_are_the_same_to_the_bit(tiny, tmp_path):
    plan = OraclePlan(TINY, tiny.fingerprint(), "cpu", 2)
    moved = plan.moved(unpacked(plan, tmp_path), left(tmp_path))
    here, there = one_job(plan, 1), one_job(moved, 1)
    assert list(here) == list(there) == [2, 3]
    for index in here:
        assert np.array_equal(here[index].evaluation.forget_logits, there[index].evaluation.forget_logits)
        assert here[index].identity == there[index].identity


def test_the_weights_of_further_originals_go_back_and_are_written_by_the_driver(tiny, tmp_path):
    plan = OraclePlan(TINY, tiny.fingerprint(), "cpu", 2, True, tmp_path / "here", keep=1)
    folders = unpacked(plan, tmp_path)
    moved = plan.moved(folders, left(tmp_path))
    _, files = moved.reported(one_job(moved, 0), 0, folders)
    plan.take(files | {"0001.npz": b"not asked for"}, 0)
    assert [p.name for p in (tmp_path / "here").iterdir()] == ["0000.npz"]
    assert not plan.lacks_weights(0)
    assert [p.name for p in moved.weights.iterdir()] == [], "nothing is left on the node"


def test_a_task_in_a_box_is_the_same_task(tiny, tmp_path):
    (tmp_path / "task.npz").write_bytes(box.boxed(TINY))
    found = load_task(box.spec_of(tmp_path / "task.npz"))
    assert found.fingerprint() == tiny.fingerprint()
    for name, split in tiny.splits.items():
        for field, tensor in split.tensors().items():
            assert torch.equal(getattr(found.splits[name], field), tensor)


def test_a_node_that_makes_another_task_of_it_says_so(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(box, "load_task", lambda _: tiny)
    box.boxed.cache_clear()
    monkeypatch.setattr(type(tiny), "fingerprint", lambda self: "of the driver")
    (tmp_path / "task.npz").write_bytes(box.boxed(TINY))
    monkeypatch.undo()
    box.boxed.cache_clear()
    with pytest.raises(TaskError, match="not of the driver.*versions of torch"):
        box.task(tmp_path / "task.npz")


def test_a_failures_text_names_the_drivers_paths(tmp_path):
    inside = f"{tmp_path}/files/home/me/mine.py"
    found = as_at_home(Failure(f"{inside}: wrong", f"File {inside}, line 3", inside), tmp_path)
    assert (found.reason, found.traceback, found.printed) == (
        "/home/me/mine.py: wrong",
        "File /home/me/mine.py, line 3",
        "/home/me/mine.py",
    )


class Raises:
    """A job's argument whose job writes a file and then fails."""

    def reported(self, result, index, folders):
        return result, {}

    def moved(self, folders, left):
        self.left = left
        return self


def write_and_fail(argument, index):
    (argument.left / "weights.pth").write_bytes(b"1")
    raise ValueError("on purpose")


def test_a_job_that_raises_on_a_node_leaves_no_files_there(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(ValueError, match="on purpose"):
        in_keeper(([], pickle.dumps((write_and_fail, Raises()))), 0)
    assert list(tmp_path.iterdir()) == []
