"""The session of docs/python.md runs from its first block to its last, on a task that takes seconds."""

import re
import shutil

import pytest

import local_eval
from tests.conftest import TINY
from tests.docs.pages import ROOT, blocks
from tests.methods.test_written_out import run_cell

PAGE = ROOT / "docs" / "python.md"
BLOCKS = [block.text for block in blocks(PAGE) if block.mark == "session"]
SMALLER = {'task="digits"': f"task={TINY!r}", "models=512": "models=96", "size=(48, ": "size=(24, "}
FUNCTIONS = {name for name in local_eval.OFFERED if name.islower()}


@pytest.mark.usefixtures("without_a_pool")
def test_the_page_runs_as_one_session(graded_once, tmp_path, monkeypatch, capsys):
    """It finds its oracles made, and projects from and to fewer models."""
    shutil.copytree(graded_once / "out", tmp_path / "größe 1" / "my outputs", ignore=shutil.ignore_patterns("mine-*"))
    (tmp_path / "home").write_text("")
    monkeypatch.chdir(tmp_path / "größe 1")  # with "my outputs" below, and no home to write to
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CACHE_HOME")
    names = {"__name__": "__main__"}
    for text in BLOCKS:
        for written, smaller in SMALLER.items():
            text = text.replace(written, smaller)
        run_cell(text, names)
    assert all(any(written in text for text in BLOCKS) for written in SMALLER)
    assert names["score"].runs == 16
    assert list(names["table"].submission) == ["shake"]
    assert names["content"]["score"] == names["score"].score
    assert "no submission 'no_such_method'" in capsys.readouterr().out


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_every_function_has_an_example_and_a_row(name):
    assert any(f"local_eval.{name}(" in text for text in BLOCKS)
    assert re.search(rf"^\| .*`{name}\(", PAGE.read_text(), re.MULTILINE)
