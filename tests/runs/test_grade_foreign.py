"""Foreign checkpoints grade as the same models under the competition's names, and one line says how they were read."""

import json
import shutil
import zipfile

import pytest
import torch

from local_eval.__main__ import main
from local_eval.grade_given import CheckpointPlan, how_read, one_checkpoint
from local_eval.runs.checkpoints import Checkpoints, checkpoint_name
from tests.conftest import TINY, in_this_process
from tests.tiny_task import tiny_net


def states(count):
    for k in range(count):
        torch.manual_seed(k)
        yield {name: 0.1 * v if v.is_floating_point() else v for name, v in tiny_net().state_dict().items()}


def wrapped(state):
    return {"model": {f"module.{name}": value for name, value in state.items()}, "epoch": 3}


@pytest.mark.usefixtures("score_alone")
def test_foreign_names_and_forms_score_as_the_competitions(graded_once, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("local_eval.isolation.share_gpu.run_jobs", in_this_process)
    plain, foreign = tmp_path / "plain", tmp_path / "foreign" / "my nets"
    plain.mkdir()
    foreign.mkdir(parents=True)
    for k, state in enumerate(states(16)):
        torch.save(state, plain / checkpoint_name(k))
        torch.save(wrapped(state), foreign / f"net_{k:02}.pt")
    (foreign.parent / ".DS_Store").write_text("x")
    reported, scores = [], []
    for folder in (plain, foreign.parent):
        out = shutil.copytree(graded_once / "out", tmp_path / f"out-{folder.name}")
        given = ["--task", TINY, "--out", str(out), "--device", "cpu", "--workers", "1"]
        assert main(["grade", str(folder), *given]) == 0
        reported.append(capsys.readouterr().out)
        scores.append(json.loads(next(out.glob("*/checkpoints-*/score.json")).read_text()))
    assert "checkpoints: " not in reported[0]
    lines = [line for line in reported[1].splitlines() if line.startswith("checkpoints: ")]
    assert lines == [
        "checkpoints: 16 files named as my nets/net_00.pt, 1 of the system's files passed over; "
        "taken from 'model' (epoch passed over), prefix 'module.' taken off"
    ]
    assert scores[0]["epsilons"] == scores[1]["epsilons"]
    assert scores[0]["score"] == scores[1]["score"]


def test_forms_that_differ_within_an_archive_are_counted(tmp_path):
    path = tmp_path / "mine.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for k, state in enumerate(states(3)):
            file = tmp_path / "x.pth"
            torch.save(wrapped(state) if k else state, file)
            archive.write(file, checkpoint_name(k))
    found = Checkpoints.find(path, tiny_net())
    records = {k: one_checkpoint(CheckpointPlan(TINY, found, "cpu"), k) for k in range(3)}
    assert how_read(found, records).endswith("prefix 'module.' taken off (in 2 of 3)")
    assert how_read(found, {0: records[0]}) == ""
