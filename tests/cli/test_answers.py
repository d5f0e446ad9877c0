"""With --json standard output is one object, whatever happens, and says what the exit code says; all else is apart."""

import json
import os

import pytest

from local_eval import __main__ as command
from local_eval.__main__ import main
from local_eval.cli import answers
from tests.conftest import GOOD, TINY

WHERE = ["--task", TINY, "--device", "cpu"]
LOUD = 'import os\nos.write(1, b"from the file itself\\n")\nprint("more of it")\n'
FAILS = "def unlearning(net, retain_loader, forget_loader, val_loader):\n    raise ValueError('no net of mine')\n"


@pytest.fixture
def said(capfd):
    """said(words) -> exit code, the object on standard output, and standard error."""

    def said(words):
        try:
            code = main(words)
        except SystemExit as ended:
            code = ended.code
        out, err = capfd.readouterr()
        assert out.count("\n") == 1 and out.endswith("\n"), (words, out)
        return code, json.loads(out), err

    return said


@pytest.mark.usefixtures("without_a_pool", "score_alone")
def test_a_grading_answers_with_its_score_and_a_failed_one_with_why(said, submission, graded_once, tmp_path):
    how = [*WHERE, "--runs", "16", "--workers", "1", "--out", str(graded_once / "out"), "--no-report", "--json"]
    code, found, err = said(["grade", str(graded_once / "mine.py"), *how])
    kept = json.loads(next(graded_once.rglob("score.json")).read_text())
    assert code == found["exit_code"] == 0 and found["score"] == kept["score"] and found["interval"] == kept["interval"]
    assert "epsilons" not in found and "forgetting quality" in err and "error" not in found
    code, found, _ = said(["grade", str(graded_once / "mine.py"), *how, "--budget-hours", "1e-6"])
    assert (code, found["exit_code"], found["within_budget"]) == (3, 3, False) and found["score"] == kept["score"]

    how[how.index(str(graded_once / "out"))] = str(tmp_path / "out")
    wrong = submission("x = 1\n", "wrong")
    code, found, _ = said(["grade", submission(FAILS, "fails"), *how])
    assert code == found["exit_code"] == 2 and "no net of mine" in found["error"] and "score" not in found
    code, found, _ = said(["grade", str(graded_once / "mine.py"), wrong, *how])
    assert code == found["exit_code"] == 1 and list(found["results"]) == [str(graded_once / "mine.py"), wrong]
    mine, other = found["results"].values()
    assert mine["score"] == kept["score"] and "error" not in mine
    assert "no function" in other["error"] and "score" not in other


def test_runs_that_fail_are_named_with_their_reasons(said, submission, tmp_path, monkeypatch):
    monkeypatch.setattr("local_eval.cli.grading.check_submission", lambda *_: [])
    monkeypatch.setattr("local_eval.isolation.share_gpu.run_jobs", lambda f, plan, indices, *_, **__: failing(indices))
    how = [*WHERE, "--runs", "16", "--workers", "1", "--out", str(tmp_path / "out"), "--json"]
    monkeypatch.setattr("local_eval.grader.Grader.finish_oracles", lambda *_: [])
    code, found, _ = said(["grade", submission(), *how])
    assert code == found["exit_code"] == 1 and found["failed_runs"]["3"] == "run 3 went wrong"
    assert "went wrong" in found["error"] and len(found["failed_runs"]) == 16


def failing(indices):
    from local_eval.isolation.child import Failure

    return ((k, Failure(f"run {k} went wrong")) for k in indices)


def test_a_check_answers_with_what_it_remarks_or_refuses(said, submission):
    code, found, err = said(["check", submission(LOUD + GOOD, "loud"), *WHERE, "--json"])
    assert code == found["exit_code"] == 0 and found["keeps_the_contract"] and found["remarks"]
    assert found["task"]["examples"]["forget"] == 16 and "keeps the contract" in err
    code, found, _ = said(["check", submission(FAILS, "fails"), *WHERE, "--json"])
    assert code == found["exit_code"] == 2 and not found["keeps_the_contract"] and "no net of mine" in found["error"]
    code, found, _ = said(["check", *WHERE, "--json"])
    assert code == 0 and found["task"]["classes"] == 3 and "keeps_the_contract" not in found


def test_whatever_is_wrong_with_the_command_line_is_an_object_too(said):
    for words, named in (
        (["check", "--json", "--runz", "3"], "--runz"),
        (["check", "nowhere.py", "--json"], "nowhere"),
        (["grade", "--json"], "name what to grade"),
        (["grade", "fanchuan", "--json", "--runs", "x"], "invalid int"),
        (["grade", "fanchuan", "--json", "--runs", "3"], "too few"),
        (["grade", "fanchuan", "--json", "--task"], "expected one argument"),
        (["check", "fanchuan", "--json", "--task", "nothing"], "no task"),
    ):
        code, found, err = said(words)
        assert code == found["exit_code"] == 2 and named in found["error"], (words, found)
        assert "error: " in err


def test_signals_mistakes_and_full_machines_are_objects_and_end_as_ever(capfd, monkeypatch):
    for error, code, named in (
        (KeyboardInterrupt(), 130, "the same command goes on"),
        (OSError(28, "No space left on device", "x"), 1, "No space left"),
    ):
        monkeypatch.setattr(command, "_function", lambda _, error=error: raising(error))
        assert main(["check", "--json"]) == code
        found = json.loads(capfd.readouterr().out)
        assert found["exit_code"] == code and named in found["error"]
    monkeypatch.setattr(command, "_function", lambda _: raising(KeyError("oops")))
    with pytest.raises(KeyError):
        main(["check", "--json"])
    found = json.loads(capfd.readouterr().out)
    assert found["exit_code"] == 1 and "oops" in found["error"] and "mistake in the kit" in found["error"]


def raising(error):
    def fails(_):
        os.write(1, b"to standard output\n")
        print("to standard output")
        raise error

    return fails


def test_other_commands_and_help_print_as_ever(capfd):
    for words, wanted in (
        (["check", "--json", "--help"], False),
        (["leaderboard", "--json", "x.json"], False),
        (["grade", "--", "--json"], False),
        (["grade", "x", "--json"], True),
        (["host", "judge"], True),
        (["host", "board"], False),
        (["host", "board", "--json"], True),
        ([], False),
    ):
        assert answers.wants_object(words) is wanted, words
    assert main(["list"]) == 0
    assert "fanchuan" in capfd.readouterr().out
    print("and standard output is back")
    assert "is back" in capfd.readouterr().out


def test_numbers_that_json_has_not_are_null():
    import numpy as np

    odd = {"a": float("nan"), "b": [np.float64("inf"), np.int64(3), np.arange(2)], 4: None}
    assert answers.plain(odd) == {"a": None, "b": [None, 3, [0, 1]], "4": None}
