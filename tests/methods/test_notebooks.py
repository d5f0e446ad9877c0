"""Of a notebook `unlearning` runs with what it needs, its driver does not, and nothing changes its meaning silently."""

import json
import traceback

import pytest

from local_eval.__main__ import main
from local_eval.isolation.child import Failure
from local_eval.methods.contract import load_submission
from local_eval.methods.source import SubmissionError
from local_eval.methods.submission import ROOT, Submission
from local_eval.runs.check import CheckPlan, dry_run
from tests.conftest import GOOD, TINY

DRIVER = """\
import os, zipfile
net = torch.load('/kaggle/input/neurips-2023-machine-unlearning/original_model.pth')
if DEVICE != 'cuda':
    raise RuntimeError('no GPU')
for i in range(512):
    net.load_state_dict({})
    unlearning(net, retain_loader, forget_loader, val_loader)
    torch.save(net.state_dict(), f'/kaggle/tmp/unlearned_checkpoint_{i}.pth')
!zip submission.zip /kaggle/tmp/*.pth
"""
RETURNS = "def unlearning(net, retain_loader, forget_loader, val_loader):\n    return {}\n"


@pytest.fixture
def notebook(tmp_path):
    """write(cell, ...) -> path of a notebook with these code cells."""

    def write(*cells: str) -> str:
        made = [{"cell_type": "code", "metadata": {}, "outputs": [], "source": text} for text in cells]
        path = tmp_path / "mine.ipynb"
        path.write_text(json.dumps({"cells": made, "metadata": {}, "nbformat": 4, "nbformat_minor": 4}))
        return str(path)

    return write


def gives(path):
    """What its `unlearning` returns."""
    return load_submission(Submission.find(path))(1, 2, 3, 4)


def test_the_method_runs_and_the_driver_does_not(notebook):
    path = notebook("%matplotlib inline\nimport torch\nDEVICE = 'cpu'", GOOD, DRIVER)
    remarks = dry_run(CheckPlan(Submission.find(path), TINY, "cpu"), 0)
    assert not isinstance(remarks, Failure), remarks


@pytest.mark.parametrize("magic", ["%%writefile my_method.py", "%%file -a other.py"])
def test_a_cell_that_is_written_to_a_file_is_named_where_the_method_is_missing(magic, notebook):
    with pytest.raises(SubmissionError, match=f"no function unlearning.*`{magic}` is not run, but writes a file"):
        Submission.find(notebook("import torch", f"{magic}\n{RETURNS}"))


@pytest.mark.parametrize("ending", ["\r\n", "\r"])
def test_a_notebook_with_other_line_ends_works(ending, notebook):
    assert gives(notebook(f"%matplotlib inline\nA = 3\n{RETURNS.format('A')}".replace("\n", ending))) == 3


@pytest.mark.parametrize("name", ["fanchuan", "scrub"])
def test_our_own_notebooks_are_submissions(name):
    source = Submission.find(str(ROOT / "notebooks" / f"{name}.ipynb")).source()
    assert "def unlearning(" in source
    assert "make_checkpoints" not in source


@pytest.mark.parametrize(
    "cells, value",
    [
        (("LR = 3", RETURNS.format("LR")), 3),
        (("BASE = 1\nLR = BASE * 2", RETURNS.format("LR"), "print(LR)"), 2),
        (("CFG = {'lr': 1}", "CFG['lr'] = 5", RETURNS.format("CFG['lr']")), 5),
        (("class C: pass\ncfg = C()\ncfg.lr = 7", RETURNS.format("cfg.lr")), 7),
        (("cfg = {}\ncfg.update(lr=8)", RETURNS.format("cfg['lr']")), 8),
        (("if 1 < 2:\n    A = 'yes'\nelse:\n    A = 'no'", RETURNS.format("A")), "yes"),
        (("try:\n    import no_such\n    A = 1\nexcept ImportError:\n    A = 2", RETURNS.format("A")), 2),
        (("def f(): return g()", RETURNS.format("f()"), "def g(): return 9"), 9),
        (("def mine(net, retain_loader, forget_loader, val_loader): return 4", "unlearning = mine"), 4),
        (("from __future__ import annotations", RETURNS.format("1").replace("net,", "net: NoSuch,")), 1),
        (("A = 1; print(1 / 0)\n" + RETURNS.format("A"),), 1),
        (("print(1 / 0); A = 1; B = (\n 2); print(\n 1 / 0); C = 3\n" + RETURNS.format("A, B, C"),), (1, 2, 3)),
        (("import matplotlib_that_is_missing", RETURNS.format("1")), 1),
        (("A = 1\r\n" + RETURNS.format("A").replace("\n", "\r\n"),), 1),
    ],
)
def test_what_unlearning_needs_is_taken(cells, value, notebook):
    assert gives(notebook(*cells)) == value


@pytest.mark.parametrize(
    "cells, reported",
    [
        (("for LR in (1, 2):\n    pass", RETURNS.format("LR")), "code cell 1, line 1: sets LR"),
        (("x = 1", "with open('w') as f:\n    W = f", RETURNS.format("W")), "code cell 2, line 1: sets W"),
        (("LR = 1", RETURNS.format("LR"), "for LR in (1, 2):\n    unlearning(1, 2, 3, 4)"), "code cell 3, line 1"),
        (("C = {}", RETURNS.format("C"), "while True:\n    C['a'] = 1"), "code cell 3, line 1: sets C"),
        ((RETURNS.format("1"), "for i in 1, 2: unlearning(i)", RETURNS.format("2")), "code cell 3, line 1: sets unl"),
        (("A = 1\n" + RETURNS.format("A"), "print(unlearning)", "\nA = 2"), "code cell 3, line 2: sets A again"),
        (("files = !ls", RETURNS.format("files")), "code cell 1: unlearning needs files"),
        (("t = %timeit -o 1", RETURNS.format("t")), "code cell 1: unlearning needs t"),
        (("x = 1", "def unlearning(:"), "code cell 2, line 1: not valid Python"),
        (("def unlearn(net): pass",), r"no function unlearning\(.*its functions: unlearn"),
        (("class A:\n    def unlearning(self): pass",), "a method of a class"),
    ],
)
def test_what_would_mean_something_else_is_refused_with_its_cell(cells, reported, notebook):
    with pytest.raises(SubmissionError, match=f"mine.ipynb.*{reported}"):
        Submission.find(notebook(*cells))


def test_the_same_twice_and_another_before_the_call_are_no_riddle(notebook):
    same = RETURNS.format("1")
    assert gives(notebook(same, "for i in 1, 2: unlearning(i)", "# again\n" + same)) == 1
    assert gives(notebook(same, RETURNS.format("2"), "for i in 1, 2: unlearning(i)")) == 2


@pytest.mark.usefixtures("without_a_pool")
def test_check_tells_what_was_left_out(notebook, capsys):
    path = notebook("!pip install timm", "import torch\nDEVICE = 'cpu'", GOOD, DRIVER)
    assert main(["check", path, "--task", TINY, "--device", "cpu"]) == 0
    said = capsys.readouterr().out
    assert "code cell 1: left out `!pip install timm`" in said
    assert "code cell 4: not run, unlearning does not need it:" in said
    assert "it calls unlearning" in said


def test_an_error_names_cell_and_line_and_shows_it(notebook):
    path = notebook("A = 1", "\n" + RETURNS.format("A / 0"))
    with pytest.raises(ZeroDivisionError) as error:
        gives(path)
    shown = "".join(traceback.format_exception(error.value))
    assert f'{path}, code cell 2", line 3' in shown
    assert "return A / 0" in shown
    with pytest.raises(SubmissionError, match=r"mine.ipynb, code cell 2, line 2: `B = A / 0` runs when .*ZeroDivision"):
        gives(notebook("A = 1", "\nB = A / 0\n" + RETURNS.format("B")))


def test_constants_of_a_notebook_can_be_set_and_text_beside_the_code_does_not_count(notebook):
    cells = ("EPOCHS = 3; print('x')", RETURNS.format("EPOCHS"))
    path = notebook(*cells)
    assert gives(f"{path}[EPOCHS=5]") == 5
    before = Submission.find(path).digest()
    notebook(*cells, "print('a plot')")
    assert Submission.find(path).digest() == before
    notebook("EPOCHS = 4", *cells[1:])
    assert Submission.find(path).digest() != before


def test_export_writes_a_notebook_that_is_a_submission_again_and_never_over_its_source(notebook, tmp_path, capsys):
    path = notebook(
        "import torch\nLR = 0.01",
        GOOD.replace("0.01", "LR").replace("import torch\n", ""),
        DRIVER.replace("DEVICE", "'cuda'"),
    )
    assert main(["export", path, "--out", str(tmp_path)]) == 2
    assert "--out" in capsys.readouterr().err
    assert main(["export", path, "--out", str(tmp_path / "out")]) == 0
    again = Submission.find(str(tmp_path / "out" / "mine.ipynb"))
    assert again.digest() == Submission.find(path).digest()


def test_what_cannot_travel_to_kaggle_is_told_by_cell(notebook, tmp_path, capsys):
    path = notebook("import torch", "\nimport scipy.stats as st", GOOD + "    st.norm\n")
    assert main(["export", path, "--out", str(tmp_path / "out")]) == 2
    assert "mine.ipynb, code cell 2, line 2: imports scipy.stats" in capsys.readouterr().err
