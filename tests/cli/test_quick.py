"""A quick look says that it is no score, and leaves runs that a grading takes up."""

import pytest

from local_eval.__main__ import main
from local_eval.cli import looking as quick
from local_eval.grader import Grader
from local_eval.isolation import share_gpu
from local_eval.methods.source import SubmissionError
from local_eval.oracles import oracles
from local_eval.store.records import record_path
from tests.conftest import TINY
from tests.made_up import in_this_process


@pytest.fixture(autouse=True)
def few_processes(monkeypatch):
    for stage in (oracles, share_gpu):
        monkeypatch.setattr(stage, "run_jobs", in_this_process)


def arguments(out, path, *more):
    return ["quick", path, "--task", TINY, "--out", str(out), "--device", "cpu", *more]


def test_it_tells_what_a_few_runs_show_and_its_runs_are_those_of_a_grading(tmp_path, submission, capsys):
    path = submission()
    assert main(arguments(tmp_path, path, "--runs", "4")) == 0
    said = capsys.readouterr().out
    for text in ("4 runs: no score", "retain accuracy", "forget accuracy", "starting kit's attack", "shift", "spread"):
        assert text in said
    assert "unknown" not in said
    grader = Grader(TINY, tmp_path, runs=16)
    folder = grader.folder / grader.run_plan(path).folder_name
    assert not (folder / "score.json").exists()
    made = {index: record_path(folder, index).stat().st_mtime_ns for index in range(4)}
    grader.finish_runs(path)
    assert {index: record_path(folder, index).stat().st_mtime_ns for index in made} == made
    assert record_path(folder, 15).exists()


def test_runs_that_fail_are_told_and_too_few_are_bad_input(tmp_path, body, capsys):
    assert main(arguments(tmp_path, body("raise ValueError('broken')"), "--runs", "3")) == 1
    assert "ValueError: broken" in capsys.readouterr().err
    assert main(arguments(tmp_path, body(""), "--runs", "2")) == 2
    assert "--runs 2 shows no spread: give at least 3" in capsys.readouterr().err


def test_watching_tells_what_is_wrong_and_goes_on(tmp_path, submission, capsys, monkeypatch):
    monkeypatch.setattr(quick, "whenever_saved", lambda name, look: iter([SubmissionError("line 3: not valid"), None]))
    assert main(arguments(tmp_path, submission(), "--watch")) == 0
    said = capsys.readouterr().err
    assert "line 3: not valid" in said
    assert said.count("save it to look again, Ctrl-C to end") == 2
