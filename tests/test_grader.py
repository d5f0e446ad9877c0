"""The stages together: what one leaves, the next finds; caches are extended, verified and never mixed."""

import json

import numpy as np
import pytest

from local_eval.__main__ import main
from local_eval.grader import Grader
from local_eval.metric.score import ScoreError
from local_eval.store.records import record_path
from tests.conftest import GOOD, TINY


def arguments(out, *more):
    return [*more, "--task", TINY, "--out", str(out), "--workers", "1", "--device", "cpu"]


def test_grade_writes_a_score_and_each_stage_can_be_rerun_alone(tmp_path, submission, capsys):
    path = submission()
    assert main(arguments(tmp_path, "grade", path, "--runs", "16")) == 0
    said = capsys.readouterr().out
    assert "ceiling" in said
    assert "90 % interval" in said
    (file,) = tmp_path.glob("tiny-*/mine-*/score.json")
    content = json.loads(file.read_text())
    assert content["runs"] == 16
    assert content["task"] == "tiny"
    file.unlink()
    assert main(["score", path, "--task", TINY, "--out", str(tmp_path), "--runs", "16", "--device", "cpu"]) == 0
    assert json.loads(file.read_text())["score"] == content["score"]


@pytest.mark.usefixtures("without_a_pool")
def test_oracles_are_extended_shared_and_repaired(tmp_path, capsys):
    grader = Grader(TINY, tmp_path, runs=2)
    two = grader.finish_oracles()
    times = {p.name: p.stat().st_mtime_ns for p in (grader.folder / "oracles").glob("*.npz")}
    record_path(grader.folder / "oracles", 1).write_bytes(b"PK rubbish")
    four = Grader(TINY, tmp_path, runs=4).finish_oracles()
    assert "0001.npz is damaged" in capsys.readouterr().err
    assert len(four) == 4
    assert (grader.folder / "oracles" / "0000.npz").stat().st_mtime_ns == times["0000.npz"]
    for before, after in zip(two, four):
        assert (before.evaluation.forget_logits == after.evaluation.forget_logits).all(), "retrained to the bit"
    assert len({o.evaluation.forget_logits.tobytes() for o in four}) == 4


@pytest.mark.usefixtures("without_a_pool")
def test_a_damaged_original_is_named_and_trained_again(tmp_path, capsys):
    grader = Grader(TINY, tmp_path, runs=1)
    grader.finish_oracles()
    path = grader.folder / "original.npz"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    grader.finish_oracles()
    assert "original.npz is damaged" in capsys.readouterr().err
    assert len(path.read_bytes()) == len(whole)


def test_results_of_a_changed_submission_never_mix(tmp_path, submission):
    grader = Grader(TINY, tmp_path)
    before = grader.run_plan(submission()).folder_name
    after = grader.run_plan(submission(GOOD + "    net.train()\n")).folder_name
    assert before != after
    assert before.startswith("mine-")


@pytest.mark.usefixtures("without_a_pool")
def test_a_score_needs_all_runs_unless_told(tmp_path, body, capsys):
    path = body("if torch.initial_seed() % 8 == 0: raise ValueError('unlucky')")
    assert main(arguments(tmp_path, "grade", path, "--runs", "24")) == 1
    said = capsys.readouterr()
    assert "ValueError: unlucky" in said.err
    assert "--allow-missing" in said.err
    assert not list(tmp_path.glob("*/*/score.json"))
    with pytest.raises(ScoreError, match="runs are missing"):
        Grader(TINY, tmp_path, runs=24).score(path)
    assert main(arguments(tmp_path, "grade", path, "--runs", "24", "--allow-missing")) == 0
    assert "failed runs are left out" in capsys.readouterr().out


def test_resumed_and_undisturbed_gradings_give_the_same_score(tmp_path, submission):
    path = submission()
    for name, workers in (("a", 2), ("b", 1)):
        grader = Grader(TINY, tmp_path / name, runs=16, workers=workers)
        grader.finish_oracles()
        done, _ = grader.finish_runs(path)
        if name == "b":  # as after a power cut: some runs gone, one half written
            folder = grader.folder / grader.run_plan(path).folder_name
            for index in (2, 9, 15):
                record_path(folder, index).unlink()
            record_path(folder, 4).write_bytes(record_path(folder, 4).read_bytes()[:100])
            grader.finish_runs(path)
    scores = [Grader(TINY, tmp_path / name, runs=16).score(path)[0] for name in ("a", "b")]
    assert scores[0].score == scores[1].score
    assert np.array_equal(scores[0].epsilons, scores[1].epsilons)


@pytest.mark.parametrize("runs", ["15", "0", "-4"])
def test_too_few_runs_are_bad_input(runs, submission, capsys):
    assert main(["grade", submission(), "--task", TINY, "--runs", runs]) == 2
    assert "too few" in capsys.readouterr().err


def test_unknown_names_are_bad_input_and_list_what_there_is(capsys):
    assert main(["grade", "nobody", "--task", TINY]) == 2
    assert "Known: " in capsys.readouterr().err
    for command in ("grade", "check"):
        assert main([command, "fanchuan", "--task", "nothing"]) == 2
        said = capsys.readouterr().err
        assert "Known: cifar10, competition_like, competition_small, digits" in said
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
def test_headroom_scores_originals_that_saw_the_forget_set(tmp_path):
    grader = Grader(TINY, tmp_path, runs=16, workers=2)
    found, verdict = grader.headroom()
    assert found.runs == 16 and verdict.share == found.quality_over_ceiling
    saw, not_saw = (record_path(grader.folder / kind, 0) for kind in ("originals", "oracles"))
    with np.load(saw) as one, np.load(not_saw) as other:
        assert not np.array_equal(one["forget_logits"], other["forget_logits"])
