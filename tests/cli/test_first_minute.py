"""Help, lists and typos do not wait for torch, and a long command says at once what it will do."""

import json
import subprocess
import sys

import pytest

from local_eval.__main__ import main
from local_eval.methods.submission import ROOT
from tests.conftest import TINY

LIGHT = [
    (["--help"], 0),
    (["grade", "--help"], 0),
    (["list"], 0),
    (["grade", "fanchan"], 2),
    (["grade", "fanchuan", "--task", "digist"], 2),
    (["grade", "fanchuan", "--no-such-option"], 2),
    (["grade", "fanchuan", "--set", "EPOCH=3"], 2),
    (["check", "--original", "none.pth"], 2),
    (["--version"], 0),
    (["grad", "fanchuan"], 2),
    (["grade", "fanchuan", "--runs", "0"], 2),
    (["run", "fanchuan", "--runs", "8"], 2),
    (["quick", "fanchuan", "--runs", "2"], 2),
    (["leaderboard", "--runs", "8"], 2),
    (["grade", "fanchuan", "--timeout", "nan"], 2),
]
LONG = ["fanchuan", "baseline_finetune[EPOCHS=2]"]
CHILD = """
import contextlib, importlib.abc, importlib.machinery, io, json, sys, time

class NoTorch(importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        if name in ("torch", "numpy", "scipy", "ray"):
            return importlib.machinery.ModuleSpec(name, self)

    def exec_module(self, module):
        raise SystemExit(module.__name__)

sys.meta_path.insert(0, NoTorch())
found, start = [], time.process_time()
import local_eval
from local_eval.__main__ import main
for arguments in json.loads(sys.argv[1]):
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            code = main(arguments)
        except SystemExit as ended:
            code = ended.code
    found.append([code, said.getvalue()])
took, start = time.process_time() - start, time.process_time()
del sys.meta_path[0]
import torch
print(json.dumps([took, time.process_time() - start, found]))
"""


@pytest.fixture(scope="module")
def child(tmp_path_factory):
    """What commands give where torch, NumPy and Ray cannot be imported, and the seconds that they and torch take."""
    out = tmp_path_factory.mktemp("out")
    commands = [command for command, _ in LIGHT] + [["grade", name, "--out", str(out)] for name in LONG]
    done = subprocess.run([sys.executable, "-c", CHILD, json.dumps(commands)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    took, torch_took, found = json.loads(done.stdout)
    return took, torch_took, found[: len(LIGHT)], found[len(LIGHT) :], out


def test_help_lists_and_typos_do_without_torch_and_take_a_fraction_of_importing_it(child):
    """Of the processor: on a busy machine the clock tells more about the others."""
    took, torch_took, found, _, _ = child
    for (arguments, expected), (code, said) in zip(LIGHT, found, strict=True):
        assert code == expected and said, arguments
        assert code == 0 or "error: " in said, arguments
    assert took < 0.5 * torch_took, f"{took:.2f} s for all of them, torch {torch_took:.2f} s"


def test_the_first_lines_of_grade_come_before_torch_is_loaded(child):
    _, _, _, found, out = child
    for name, (code, said) in zip(LONG, found, strict=True):
        lines = said.splitlines()
        assert lines[0].startswith(f"grading {name} on digits: 64 runs against as many oracles")
        assert str(out) in said
        assert code in ("torch", "numpy"), "it would be loaded next"


@pytest.mark.usefixtures("without_a_pool")
def test_the_expected_time_comes_from_earlier_runs_here(tiny_graded, capsys, monkeypatch):
    command = ["grade", str(tiny_graded / "mine.py"), "--task", TINY, "--runs", "16", "--device", "cpu", "--out"]
    monkeypatch.setattr("local_eval.cli.grading.grade", lambda _: 0)
    assert main([*command, str(tiny_graded / "new")]) == 0
    assert "how long it takes will show with the first runs" in capsys.readouterr().out
    assert main([*command, str(tiny_graded / "out")]) == 0
    assert "about 15 s" in capsys.readouterr().out
