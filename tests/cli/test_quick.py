"""A quick look says that it is no score, and leaves runs that a grading takes up."""

import numpy as np
import pytest

from local_eval.__main__ import main
from local_eval.cli import looking as quick
from local_eval.grader import Grader
from local_eval.methods.source import SubmissionError
from local_eval.store.records import record_path
from tests.conftest import TINY
from tests.made_up import in_this_process


@pytest.fixture(autouse=True)
def few_processes(monkeypatch):
    monkeypatch.setattr("local_eval.isolation.share_gpu.run_jobs", in_this_process)


def arguments(out, path, *more):
    return ["quick", path, "--task", TINY, "--out", str(out), "--device", "cpu", *more]


def test_it_tells_what_a_few_runs_show_and_its_runs_are_those_of_a_grading(graded_once, tiny_graded, capsys):
    path, out = str(tiny_graded / "mine.py"), tiny_graded / "out"
    (folder,) = out.glob("tiny-*/mine-*")
    (whole,) = (graded_once / "out").glob("tiny-*/mine-*")
    (folder / "score.json").unlink()
    for index in (0, 1, 2, 3, 15):
        record_path(folder, index).unlink()
    assert main(arguments(out, path, "--runs", "4")) == 0
    said = capsys.readouterr().out
    for text in (
        "4 runs: no score",
        "retain accuracy",
        "forget accuracy",
        "starting kit's attack",
        "RMIA AUC",
        "IAM AUC",
        "shift",
    ):
        assert text in said
    assert "unknown" not in said
    assert not (folder / "score.json").exists()
    made = {index: record_path(folder, index).stat().st_mtime_ns for index in range(4)}
    assert not record_path(folder, 15).exists()
    Grader(TINY, out, runs=16).finish_runs(path)
    assert {index: record_path(folder, index).stat().st_mtime_ns for index in made} == made
    for index in (0, 3, 15):
        with np.load(record_path(folder, index)) as one, np.load(record_path(whole, index)) as other:
            assert np.array_equal(one["forget_logits"], other["forget_logits"])


def test_runs_that_fail_are_told_and_too_few_are_bad_input(tiny_graded, body, capsys):
    assert main(arguments(tiny_graded / "out", body("raise ValueError('broken')"), "--runs", "3")) == 1
    assert "ValueError: broken" in capsys.readouterr().err
    assert main(arguments(tiny_graded / "out", body(""), "--runs", "2")) == 2
    assert "--runs 2 is too few for quick: below 3 no spread shows" in capsys.readouterr().err


def test_watching_tells_what_is_wrong_and_goes_on(tiny_graded, capsys, monkeypatch):
    monkeypatch.setattr(quick, "whenever_saved", lambda name, look: iter([SubmissionError("line 3: not valid"), None]))
    assert main(arguments(tiny_graded / "out", str(tiny_graded / "mine.py"), "--watch")) == 0
    said = capsys.readouterr().err
    assert "line 3: not valid" in said
    assert said.count("save it to look again, Ctrl-C to end") == 2
