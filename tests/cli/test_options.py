"""An option that would do nothing is refused by name, and a mistake of the kit's own shows its traceback."""

import select
import subprocess
import sys

import pytest

from local_eval.__main__ import main
from local_eval.cli import grading
from local_eval.cli.arguments import Exit
from local_eval.cli.parser import make_parser
from local_eval.cli.request import resolved
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
        "import runpy, sys, local_eval.cli.request as request;"
        "request.list_all = lambda _: {}['oops'];"
        "sys.argv = ['local_eval', 'list']; runpy.run_module('local_eval', run_name='__main__')"
    )
    found = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True)
    assert found.returncode == 1
    assert "KeyError: 'oops'" in found.stderr
    assert "Please report it" in found.stderr


def test_a_request_stays_as_the_command_line_says():
    request = resolved(
        make_parser().parse_args(["grade", "fanchuan", "--set", "EPOCHS=3", "--repeat", "2", "--seed", "4"])
    )
    assert (request.submissions, request.seeds, request.seed) == (["fanchuan[EPOCHS=3]"], (4, 5), 4)
    assert list(request.found) == list(request.graded) == ["fanchuan[EPOCHS=3]"]
    with pytest.raises(AttributeError, match="runs is what the command line says"):
        request.runs = 16


@pytest.mark.skipif(not hasattr(select, "poll"), reason="needs pipes that can be asked whether anybody reads")
def test_a_closed_pipe_ends_a_command_quietly_and_is_no_mistake_of_the_kit():
    with subprocess.Popen(
        [sys.executable, "-m", "local_eval", "list"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as listing:
        listing.stdout.close()
        assert listing.stderr.read() == ""
    assert listing.returncode == Exit.NOBODY_READS
