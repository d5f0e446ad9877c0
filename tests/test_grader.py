"""The stages together: what one leaves, the next finds; caches are extended, verified and never mixed."""

import json

import numpy as np
import pytest

from local_eval.__main__ import main
from local_eval.grader import Grader
from local_eval.isolation.child import Failure
from local_eval.metric.score import ScoreError
from local_eval.store.records import record_path
from tests.conftest import GOOD, TINY


def arguments(out, *more):
    return [*more, "--task", TINY, "--out", str(out), "--workers", "1", "--device", "cpu"]


def graded_file(place, name):
    """A file that `grade` has written for mine.py."""
    (file,) = (place / "out").glob(f"tiny-*/mine-*/{name}")
    return file


def logits(records):
    return np.stack([record.evaluation.forget_logits for record in records])


def test_grade_writes_a_score_and_each_stage_can_be_rerun_alone(tiny_graded, capsys):
    said = (tiny_graded / "said.txt").read_text()
    assert "ceiling" in said
    assert "90 % interval" in said
    file = graded_file(tiny_graded, "score.json")
    content = json.loads(file.read_text())
    assert content["runs"] == 16
    assert content["task"] == "tiny"
    file.unlink()
    where = ["--task", TINY, "--out", str(tiny_graded / "out"), "--runs", "16", "--device", "cpu"]
    assert main(["score", str(tiny_graded / "mine.py"), *where]) == 0
    assert json.loads(file.read_text())["score"] == content["score"]
    assert str(file) in capsys.readouterr().out


@pytest.mark.usefixtures("without_a_pool")
def test_oracles_are_extended_shared_and_repaired(tiny_graded, capsys):
    """Those of `graded_once` were made by another process in one go."""
    grader = Grader(TINY, tiny_graded / "out", runs=16)
    folder, whole = grader.folder / "oracles", grader.cached_oracles()
    time = record_path(folder, 0).stat().st_mtime_ns
    record_path(folder, 1).write_bytes(b"PK rubbish")
    for index in range(12, 16):
        record_path(folder, index).unlink()
    again = grader.finish_oracles()
    assert "0001.npz is damaged" in capsys.readouterr().err
    assert record_path(folder, 0).stat().st_mtime_ns == time
    assert np.array_equal(logits(again), logits(whole)), "retrained to the bit"
    assert len(np.unique(logits(again)[:, 0, 0])) == 16


def test_a_damaged_original_is_named_and_trained_again(tiny_graded, capsys):
    grader = Grader(TINY, tiny_graded / "out", runs=16)
    path = grader.folder / "original.npz"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    grader.finish_oracles()
    assert "original.npz is damaged" in capsys.readouterr().err
    assert path.read_bytes() == whole


def test_results_of_a_changed_submission_never_mix(tmp_path, submission):
    grader = Grader(TINY, tmp_path)
    before = grader.run_plan(submission()).folder_name
    after = grader.run_plan(submission(GOOD + "    net.train()\n")).folder_name
    assert before != after
    assert before.startswith("mine-")


@pytest.mark.usefixtures("without_a_pool")
def test_a_score_needs_all_runs_unless_told(tiny_graded, capsys, monkeypatch):
    """One run more than there are, and it fails."""
    monkeypatch.setattr(
        "local_eval.runs.one_run.one_run", lambda plan, index: Failure("ValueError: unlucky", "its lines")
    )
    mine, where = str(tiny_graded / "mine.py"), arguments(tiny_graded / "out", "--runs", "17")
    graded_file(tiny_graded, "score.json").unlink()
    assert main(["grade", mine, *where]) == 1
    said = capsys.readouterr()
    assert "run 16 failed: ValueError: unlucky" in said.err
    assert "--allow-missing" in said.err
    assert "its lines" in graded_file(tiny_graded, "0016.failed.txt").read_text()
    assert not list(tiny_graded.glob("out/*/*/score.json"))
    with pytest.raises(ScoreError, match="1 of 17 runs is missing .16.;"):
        Grader(TINY, tiny_graded / "out", runs=17).score(mine)
    assert main(["grade", mine, *where, "--allow-missing"]) == 0
    assert "1 run that failed or was not made is left out of this score: 16" in capsys.readouterr().out


def test_a_resumed_grading_gives_the_score_of_an_undisturbed_one(tiny_graded):
    """As after a power cut: some runs gone, one half written."""
    mine, undisturbed = str(tiny_graded / "mine.py"), json.loads(graded_file(tiny_graded, "score.json").read_text())
    for index in (2, 9, 15):
        graded_file(tiny_graded, f"{index:04d}.npz").unlink()
    half = graded_file(tiny_graded, "0004.npz")
    half.write_bytes(half.read_bytes()[:100])
    grader = Grader(TINY, tiny_graded / "out", runs=16, workers=2)
    grader.finish_runs(mine)
    score, _ = grader.score(mine)
    assert score.score == undisturbed["score"]
    assert list(score.epsilons) == undisturbed["epsilons"]


def test_too_few_runs_are_bad_input(submission, capsys):
    for runs in ("15", "0", "-4"):
        assert main(["grade", submission(), "--task", TINY, "--runs", runs]) == 2
        assert "too few" in capsys.readouterr().err


def test_unknown_names_are_bad_input_and_list_what_there_is(capsys):
    assert main(["grade", "nobody", "--task", TINY]) == 2
    assert "there are amnesiacs, amun, bad_teacher" in capsys.readouterr().err
    for command in ("grade", "check"):
        assert main([command, "fanchuan", "--task", "nothing"]) == 2
        said = capsys.readouterr().err
        assert "there are cifar10, competition_like, competition_small, digits" in said
        assert "fanchuan" not in said, "the submission is not to blame"
        assert "Traceback" not in said


def test_a_device_that_is_not_there_is_bad_input(capsys):
    assert main(["check", "fanchuan", "--task", TINY, "--device", "cuda:99"]) == 2
    assert "--device cuda:99 cannot be used here" in capsys.readouterr().err


def test_an_unusable_output_folder_is_told(tmp_path, submission, capsys):
    (tmp_path / "file").write_text("")
    assert main(arguments(tmp_path / "file", "oracles", "--runs", "16")) == 1
    assert "choose another --out" in capsys.readouterr().err


def test_help_and_list_teach(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "my_method.py" in capsys.readouterr().out
    assert main(["list"]) == 0
    said = capsys.readouterr().out
    assert "fanchuan" in said
    assert "digits  " in said
    assert "handwritten digits" in said


@pytest.mark.usefixtures("without_a_pool")
def test_headroom_scores_originals_that_saw_the_forget_set(tiny_graded):
    grader = Grader(TINY, tiny_graded / "out", runs=16, workers=2)
    found, verdict = grader.headroom()
    assert found.runs == 16 and verdict.share == found.quality_over_ceiling
    saw, not_saw = (record_path(grader.folder / kind, 0) for kind in ("originals", "oracles"))
    with np.load(saw) as one, np.load(not_saw) as other:
        assert not np.array_equal(one["forget_logits"], other["forget_logits"])
