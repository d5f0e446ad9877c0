"""A finished run counts as long as all that it came from is the same: code, files it read, variables it asked for."""

import json
import os

import pytest

from local_eval.__main__ import main
from local_eval.grader import Grader
from local_eval.isolation.child import Failure
from local_eval.methods.identity import Reads, file_digest
from local_eval.methods.submission import Submission
from local_eval.runs.one_run import finished_runs, one_run
from tests.conftest import GOOD, TINY

METHOD = '''
"""Says what it does."""
import torch
LR = 0.1


class Noise:
    """Some noise."""

    def __call__(self, x):
        """Of the shape of x."""
        return LR * torch.randn_like(x)


def unlearning(net, retain_loader, forget_loader, val_loader):
    for p in net.parameters():
        p.data += Noise()(p)
'''


def digest(submission, source):
    return Submission.find(submission(source)).digest()


@pytest.mark.parametrize(
    "change",
    [
        lambda s: "# a remark\n\n\n" + s,
        lambda s: s.replace("Says what it does.", "Says more."),
        lambda s: s.replace('    """Some noise."""\n', ""),
        lambda s: s.replace("        return", "        # why\n        return"),
        lambda s: s.replace("LR * torch", "(LR * torch").replace("like(x)", "like(x))"),
    ],
)
def test_docstrings_comments_and_layout_are_not_part_of_a_method(submission, change):
    assert change(METHOD) != METHOD
    assert digest(submission, change(METHOD)) == digest(submission, METHOD)


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.replace("LR = 0.1", "LR = 0.2"),
        lambda s: s.replace("LR = 0.1", "LR = 0.1\nUNUSED = 1"),
        lambda s: s.replace("p.data +=", "p.data -="),
        lambda s: s.replace("randn_like", "rand_like"),
        lambda s: s.replace("LR = 0.1", "LR = '0.1'"),
    ],
)
def test_everything_that_runs_is(submission, change):
    assert digest(submission, change(METHOD)) != digest(submission, METHOD)


READER = """
import json, os, sys
from pathlib import Path
HERE = Path({here!r})
sys.path.insert(0, str(HERE))
import helper_of_mine
LR = json.loads((HERE / "config.json").read_text())["lr"]
FACTOR = float(os.environ.get("MY_FACTOR", "1"))
"""


@pytest.fixture
def reading(tmp_path, submission):
    """A submission that reads a JSON file, a module beside it and a variable, and the folder where these are."""
    (tmp_path / "config.json").write_text('{"lr": 0.1}')
    (tmp_path / "helper_of_mine.py").write_text('"""Help."""\nSTEP = 1.0\n')
    body = GOOD.replace("0.01 *", "helper_of_mine.STEP * LR * FACTOR *")
    return submission(READER.format(here=str(tmp_path)) + body), tmp_path


def record(out, path, index=1):
    result = one_run(Grader(TINY, out, runs=16).run_plan(path), index)
    assert not isinstance(result, Failure), result
    return result


def test_a_run_records_what_it_read_by_content(original_out, reading):
    path, folder = reading
    read = record(original_out, path).facts["read"]
    assert set(read["files"]) == {str(folder / "config.json"), str(folder / "helper_of_mine.py")}
    assert set(read["environment"]) == {"MY_FACTOR"}
    assert read["untold"] == []


CHANGES = [
    (lambda f: (f / "config.json").write_text('{"lr": 0.2}'), "config.json"),
    (lambda f: (f / "config.json").unlink(), "config.json"),
    (lambda f: (f / "helper_of_mine.py").write_text("STEP = 2.0\n"), "helper_of_mine.py"),
    (lambda f: os.environ.__setitem__("MY_FACTOR", "2"), "the environment variable MY_FACTOR"),
]


@pytest.mark.usefixtures("without_a_pool")
def test_a_change_of_what_it_read_is_told_and_voids_the_runs(original_out, reading, capsys, monkeypatch):
    """And runs count again once all is as it was."""
    monkeypatch.setenv("MY_FACTOR", "1")
    path, folder = reading
    before = {name: (folder / name).read_bytes() for name in ("config.json", "helper_of_mine.py")}
    grader = Grader(TINY, original_out, runs=16, workers=2)
    done, failures = grader.finish_runs(path)
    assert (len(done), failures) == (16, {})
    plan = grader.run_plan(path)

    def counting():
        return finished_runs(plan, grader.folder / plan.folder_name, 16, grader._shape)

    for change, said in CHANGES:
        assert len(counting()) == 16
        change(folder)
        capsys.readouterr()
        assert counting() == {}
        assert f"{said} has changed since 16 runs read it" in capsys.readouterr().err
        os.environ["MY_FACTOR"] = "1"
        for name, content in before.items():
            (folder / name).write_bytes(content)


def test_a_helpers_docstring_voids_nothing(original_out, reading):
    path, folder = reading
    read = Reads.from_json(record(original_out, path).facts["read"])
    (folder / "helper_of_mine.py").write_text('"""Better help."""\nSTEP = 1.0  # as before\n')
    assert read.changes() == []


def test_only_content_counts_not_the_time_stamp(original_out, reading):
    path, folder = reading
    read = Reads.from_json(record(original_out, path).facts["read"])
    os.utime(folder / "config.json", (1, 1))
    assert read.changes() == []
    size, when = (folder / "config.json").stat().st_size, (folder / "config.json").stat().st_mtime_ns
    (folder / "config.json").write_text('{"lr": 0.3}')
    os.utime(folder / "config.json", ns=(when, when))
    assert (folder / "config.json").stat().st_size == size
    assert read.changes() == [f"the file {folder / 'config.json'}"]


@pytest.mark.parametrize(
    "lines, files, environment, untold",
    [
        ("import tempfile\nwith tempfile.TemporaryFile() as f: f.write(b'x')", 0, 0, ""),
        ("p = __import__('pathlib').Path(FOLDER) / 'own.txt'\np.write_text('x'); p.read_text()", 0, 0, ""),
        ("open(__import__('torch').__file__).close()", 0, 0, ""),
        ("open('/proc/cpuinfo').close(); open('/dev/null').close()", 0, 0, ""),
        ("import numpy as np\nnp.load(FOLDER + '/a.npy')", 1, 0, ""),
        ("import pandas as pd\npd.read_csv(FOLDER + '/a.csv')", 1, 0, ""),
        ("import os\nos.close(os.open(FOLDER + '/a.csv', os.O_RDONLY))", 1, 0, ""),
        ("import os\n'X' in os.environ; os.getenv('Y'); os.environ.get('Z', 1)", 0, 3, ""),
        ("import os\ndict(os.environ)", 0, 0, "all environment variables"),
        ("import os\nos.environ.copy()", 0, 0, "all environment variables"),
        ("import subprocess\nsubprocess.run(['true'])", 0, 0, "it starts"),
        ("import os\nos.open(FOLDER + '/pipe', os.O_RDONLY | os.O_NONBLOCK)", 0, 0, "a pipe or a device"),
        ("import socket\ns = socket.socket(); s.settimeout(1)\ntry: s.connect(('127.0.0.1', 9))\nexcept OSError: pass",
         0, 0, "it connects to"),
    ],
)  # fmt: skip
def test_what_counts_as_read(original_out, body, tmp_path, lines, files, environment, untold):
    import numpy as np

    np.save(tmp_path / "a.npy", np.zeros(2))
    (tmp_path / "a.csv").write_text("x\n1\n")
    os.mkfifo(tmp_path / "pipe")
    read = record(original_out, body(f"FOLDER = {str(tmp_path)!r}\n{lines}")).facts["read"]
    assert (len(read["files"]), len(read["environment"])) == (files, environment), read
    assert untold in " ".join(read["untold"]) and bool(untold) == bool(read["untold"])


@pytest.mark.usefixtures("without_a_pool")
def test_what_cannot_be_followed_stands_in_the_score(tiny_graded, body):
    path = body("import os\ndict(os.environ)", "untold")
    command = ["grade", path, "--task", TINY, "--runs", "16", "--out", str(tiny_graded / "out"), "--device", "cpu"]
    assert main(command) == 0
    (score,) = tiny_graded.glob("out/tiny-*/untold-*/score.json")
    assert "all environment variables" in json.loads(score.read_text())["untold"][0]


def test_a_missing_file_that_appears_is_a_change(tmp_path):
    read = Reads.now([str(tmp_path / "later.json")], [], [])
    assert read.changes() == []
    (tmp_path / "later.json").write_text("{}")
    assert read.changes() == [f"the file {tmp_path / 'later.json'}"]
    assert file_digest(str(tmp_path)) == "no file"
