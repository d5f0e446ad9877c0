"""An option that would do nothing is refused by name, and a mistake of the kit's own shows its traceback."""

import subprocess
import sys

import pytest

from local_eval.__main__ import main
from local_eval.cli import grading
from tests.conftest import TINY

GIVEN = ["--task", TINY, "--runs", "16", "--device", "cpu"]


@pytest.fixture
def models(tmp_path):
    """The path of a zip that is never read."""
    path = tmp_path / "submission.zip"
    path.write_bytes(b"")
    return str(path)


def test_options_that_need_runs_are_refused_by_name_for_finished_models(models, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(grading, "grade_given", lambda *_: pytest.fail("the models are read"))
    for words, named in (
        (["--sandbox"], "--sandbox:"),
        (["--engine", "ray"], "--engine:"),
        (["--allow-missing"], "--allow-missing:"),
        (["--keep-checkpoints", "--repeat", "2"], "--keep-checkpoints and --seeds:"),
        (["--budget-hours", "8"], "--budget-hours:"),
        (["--originals", "2"], "--originals:"),
    ):
        assert main(["grade", models, *words, *GIVEN, "--out", str(tmp_path / "out")]) == 2, words
        assert named in capsys.readouterr().err


def test_set_without_a_submission_is_refused(tmp_path, capsys):
    for command in (["compare"], ["check"], ["export", "--all"], ["budget", "--all"]):
        assert main([*command, "--set", "EPOCHS=1"]) == 2, command
        assert "--set EPOCHS=1" in capsys.readouterr().err


def test_an_unexpected_error_shows_its_traceback_and_asks_to_be_reported():
    text = (
        "import runpy, sys, local_eval.cli.names as names;"
        "names.list_all = lambda options: {}['oops'];"
        "sys.argv = ['local_eval', 'list']; runpy.run_module('local_eval', run_name='__main__')"
    )
    found = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True)
    assert found.returncode == 1
    assert "KeyError: 'oops'" in found.stderr
    assert "Please report it" in found.stderr
