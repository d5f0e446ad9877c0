"""`grade a b c`: names are checked before anything is made, one's failure leaves the others theirs, a table ends it."""

import functools
from dataclasses import replace
from pathlib import Path

import pytest

from local_eval.__main__ import main
from local_eval.cli.grading import grade_several
from local_eval.grader import Grader
from local_eval.isolation.child import Failure
from local_eval.methods.source import SubmissionError
from local_eval.metric.uncertainty.projection import Projection
from local_eval.report.prediction import in_words, predict
from local_eval.store.errors import InputError, WorkError
from tests.conftest import GOOD, TINY
from tests.metric.test_score import score as made_up_score
from tests.report.test_prediction import SAMPLE


@functools.cache
def score():
    """Too few models to project from, which would take seconds."""
    return made_up_score(models=16)


WRONG = "def unlearning(net): pass"


def grade(out, *names):
    more = ["--runs", "16", "--out", str(out), "--workers", "1", "--device", "cpu"]
    return main(["grade", *names, "--task", TINY, *more])


@pytest.fixture
def stages(monkeypatch):
    """Nothing is trained; what is asked for is listed."""
    asked = []

    def finish_runs(grader, found, keep=False):
        asked.append(str(found.path))
        return {}, {3: Failure("ValueError: unlucky", "", "on my way\n")} if "unlucky" in found.label else {}

    def check(found, *_):
        asked.append(f"check {found.path}")
        if "wrong" in found.label:
            raise SubmissionError(f"{found.path}: unlearning(net) cannot be called")
        return []

    monkeypatch.setattr("local_eval.cli.grading.check_submission", check)
    monkeypatch.setattr(Grader, "finish_oracles", lambda self: [])
    monkeypatch.setattr(Grader, "finish_runs", finish_runs)
    monkeypatch.setattr(Grader, "score", lambda self, *_: (score(), Path("score.json")))
    return asked


def test_each_is_graded_and_what_fails_leaves_the_others_theirs(stages, tmp_path, submission, capsys):
    good, wrong, unlucky = submission(), submission(WRONG, "wrong"), submission(GOOD, "unlucky")
    assert grade(tmp_path / "out", wrong, good, unlucky, good) == 1
    assert stages == [f"check {wrong}", f"check {good}", f"check {unlucky}", good, unlucky], "checked first, each once"
    said = capsys.readouterr()
    assert said.err.count(f"error: {wrong}: unlearning(net) cannot be called") == 1
    assert "run 3 failed: ValueError: unlucky\n    it printed: on my way" in said.err
    table = said.out.strip().splitlines()[-4:]
    assert table[0].split() == ["N", "score", "90", "%", "interval", "of", "ceiling", "RA", "TA", "s", "/", "run"]
    assert [line.split()[0] for line in table[1:]] == [wrong, good, unlucky], "in the order in which they were given"
    assert "failed: " in table[1] and "cannot be called" in table[1]
    assert table[2].split()[1] == "16"
    assert table[3].endswith("failed: runs failed, as told above")


def test_one_name_given_twice_is_graded_once_without_a_table(stages, tmp_path, submission, capsys):
    assert grade(tmp_path / "out", submission(), submission()) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "written to score.json" in lines[-2] and lines[-1].startswith("Kaggle's private board: ")


def test_grade_ends_with_what_kaggle_would_have_given_where_the_fit_is_of_the_task(
    stages, tmp_path, submission, capsys, monkeypatch
):
    found = replace(score(), projected=Projection(0.01, 0.005, 0.02, 512))
    monkeypatch.setattr(Grader, "score", lambda self, *_: (found, Path("score.json")))
    fit = replace(SAMPLE, fingerprint=Grader(TINY, tmp_path / "out").fingerprint, task="tiny")
    monkeypatch.setattr("local_eval.grader.read_fit", lambda: fit)
    assert grade(tmp_path / "out", submission()) == 0
    assert capsys.readouterr().out.splitlines()[-1] == in_words(predict(found, fit.fingerprint, fit))


def test_the_exit_code_says_whether_any_failed_and_a_mistake_of_the_kit_ends_it(capsys):
    for error, code in ((WorkError("full disk"), 1), (InputError("typo"), 1), (None, 0)):

        def grade_one(name, error=error):
            if error and name == "b":
                raise error
            return 0, score()

        assert grade_several(["a", "b"], lambda name: None, grade_one) == code
        assert ("failed: " + str(error) in capsys.readouterr().out) == bool(error)

    def mistake(name):
        raise RuntimeError("of the kit")

    with pytest.raises(RuntimeError, match="of the kit"):
        grade_several(["a", "b"], lambda name: None, mistake)


def test_a_score_over_the_budget_says_so_in_its_row(capsys):
    assert grade_several(["a", "b"], lambda name: None, lambda name: (3, replace(score(), within_budget=False))) == 3
    assert capsys.readouterr().out.count("(not valid: over the limit)") == 2


def test_a_wrong_name_is_told_before_anything_is_made(tmp_path, submission, capsys):
    for wrong in ("no_such_method", "nothing.zip", "gone/mine.py"):
        assert grade(tmp_path / "out", submission(), wrong) == 2
        said = capsys.readouterr()
        assert wrong.removesuffix(".py") in said.err
        assert said.out == ""
        assert not (tmp_path / "out").exists()


def test_no_name_lists_what_there_is_and_says_how_to_grade_one(capsys):
    for more in ([], ["--runs", "16"], ["--set", "EPOCHS=3"]):
        assert main(["grade", *more]) == 2
        said = capsys.readouterr()
        assert "fanchuan" in said.out and "Rank 1" in said.out
        assert "python -m local_eval grade fanchuan" in said.err


def test_checkpoints_may_be_among_them_and_have_no_constants(stages, tmp_path, submission, capsys):
    folder = tmp_path / "models"
    folder.mkdir()
    assert grade(tmp_path / "out", submission(), str(folder)) == 1
    said = capsys.readouterr().out.strip().splitlines()
    assert said[-1].startswith(f"{folder}") and "failed: " in said[-1]
    assert main(["grade", submission(), str(folder), "--set", "EPOCHS=3"]) == 2
    assert "which have no constants; leave --set out" in capsys.readouterr().err
