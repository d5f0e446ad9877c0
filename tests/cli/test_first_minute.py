"""Help and typos do not wait for torch, and a long command says at once what it will do."""

import resource
import subprocess
import sys

import psutil
import pytest

from local_eval.__main__ import main
from local_eval.methods.submission import ROOT
from tests.conftest import TINY


def seconds(*command, expected):
    """Of the processor: on a busy machine the clock tells more about the others."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == expected, done.stderr
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.fixture(scope="module")
def torch_seconds():
    return min(seconds("-c", "import torch", expected=0) for _ in range(2))


def test_help_lists_and_typos_take_a_fraction_of_importing_torch(torch_seconds):
    for arguments, code in (
        (["--help"], 0),
        (["grade", "--help"], 0),
        (["list"], 0),
        (["grade", "fanchan"], 2),
        (["grade", "fanchuan", "--task", "digist"], 2),
        (["grade", "fanchuan", "--no-such-option"], 2),
        (["grade", "fanchuan", "--set", "EPOCH=3"], 2),
    ):
        took = min(seconds("-m", "local_eval", *arguments, expected=code) for _ in range(2))
        assert took < 0.3 * torch_seconds, f"{arguments}: {took:.2f} s, torch {torch_seconds:.2f} s"


def test_no_light_command_imports_torch():
    code = "import sys; from local_eval.__main__ import main; main(['list']); sys.exit('torch' in sys.modules)"
    assert seconds("-c", code, expected=0) < 60


@pytest.mark.parametrize("name", ["fanchuan", "baseline_finetune[EPOCHS=2]"])
def test_the_first_line_of_grade_comes_before_torch_is_loaded(name, tmp_path, torch_seconds):
    command = [sys.executable, "-u", "-m", "local_eval", "grade", name, "--out", str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        line = process.stdout.readline()
        times = psutil.Process(process.pid).cpu_times()
        process.kill()
    assert line.startswith(f"grading {name} on digits: 64 runs against as many oracles")
    assert str(tmp_path) in line
    assert times.user + times.system < 0.5 * torch_seconds


@pytest.mark.usefixtures("without_a_pool")
def test_the_expected_time_comes_from_earlier_runs_here(submission, tmp_path, capsys):
    path, out = submission(), tmp_path / "out"
    command = ["grade", path, "--task", TINY, "--runs", "16", "--out", str(out), "--device", "cpu"]
    assert main(command) == 0
    assert "how long it takes will show with the first runs" in capsys.readouterr().out
    assert main(command) == 0
    assert "about 15 s" in capsys.readouterr().out
