"""What a submission does to the machine in one run ends with that run, and the next one is what it would have been."""

import subprocess
import tempfile
from dataclasses import replace

import numpy as np
import psutil
import pytest
import torch

from local_eval.grader import Grader
from local_eval.isolation import child as memory
from local_eval.isolation.child import Failure
from local_eval.runs.one_run import one_run, seed_everything
from tests.conftest import GOOD, TINY

pytestmark = pytest.mark.faults
LIMIT, PATIENCE = 4.0, 120.0  # seconds for a run that hangs, and for others
SPARE = 700 * 2**20  # bytes that the machine is said to have left when a run starts
MISBEHAVIOUR = {
    "hangs": ("import time\ntime.sleep(600)", "still running after its limit"),
    "hangs and does not listen to signals": (
        "import signal, time\nfor n in (2, 15): signal.signal(n, signal.SIG_IGN)\nwhile True: time.sleep(1)",
        "still running after its limit",
    ),
    "forks 100 processes that go away from it and stay": (
        "import os, time\nfor k in range(100):\n    if os.fork() == 0:\n        os.setsid()\n        time.sleep(600)",
        "",
    ),
    "takes memory until there is none": ("held = []\nwhile True: held.append(bytearray(b'x' * 2**24))", "GB when the"),
    "writes a gigabyte to standard output": ("for _ in range(1000): print('x' * 1_000_000)", ""),
    "closes all files that it has": ("import os\nos.closerange(0, 4096)", "close all files"),
    "opens files until it may not": (
        "held = []\nwhile True: held.append(open('/dev/null'))", "Too many open files|No file descriptors",
    ),
    "fills its temporary folder": (
        "import tempfile\nheld = tempfile.NamedTemporaryFile(delete=False)\nwhile True: held.write(b'x' * 2**20)",
        "No space left",
    ),
    "leaves 1,000 temporary files, some in folders without rights": (
        "import os, tempfile\nfor k in range(1000): tempfile.mkstemp()\nf = tempfile.mkdtemp()\n"
        "open(f + '/a', 'w').close()\nos.chmod(f, 0)",
        "",
    ),
}  # fmt: skip


@pytest.fixture
def small_disk(tmp_path, monkeypatch):
    """A temporary folder of 16 MB."""
    place = tmp_path / "small"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", place], capture_output=True).returncode:
        pytest.skip("no file system can be mounted here: that takes root")
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    yield place
    subprocess.run(["umount", "-l", place], check=True)


@pytest.fixture
def little_memory(monkeypatch):
    """The machine seems to have little left, and less as this one is used."""
    here = psutil.virtual_memory().available
    whole = 4 * 2**30
    monkeypatch.setattr(memory, "total", lambda: whole)
    monkeypatch.setattr(
        memory, "available", lambda: memory.SPARE * whole + SPARE - (here - psutil.virtual_memory().available)
    )
    monkeypatch.setattr(memory, "MUCH", 8)


@pytest.mark.parametrize("what", MISBEHAVIOUR)
def test_the_run_ends_and_the_next_is_not_touched(what, original_out, submission, small_disk, little_memory, table):
    lines, ends = MISBEHAVIOUR[what]
    seed_everything(0, 5)
    body = "".join(f"        {line}\n" for line in lines.splitlines())
    path = submission(f"{GOOD}    if torch.initial_seed() == {torch.initial_seed()}:\n{body}", "bad")
    grader = Grader(TINY, original_out, runs=16)
    limits = {path: LIMIT if "hangs" in what else PATIENCE, submission(GOOD, "good"): PATIENCE}
    bad, good = (replace(grader.run_plan(p), timeout=limit) for p, limit in limits.items())
    before = psutil.Process().children(recursive=True)
    fifth, sixth = one_run(bad, 5), one_run(bad, 6)
    alone = one_run(good, 6)
    changed = int(
        isinstance(sixth, Failure) or not np.array_equal(sixth.evaluation.forget_logits, alone.evaluation.forget_logits)
    )
    if ends:
        assert any(part in fifth.reason for part in ends.split("|")), fifth
    else:
        assert not isinstance(fifth, Failure), fifth
        assert np.array_equal(fifth.evaluation.forget_logits, one_run(good, 5).evaluation.forget_logits)
    assert psutil.Process().children(recursive=True) == before, "a process is left"
    assert not list(small_disk.iterdir()), "a file is left"
    said = (
        f"its run failed: *{fifth.reason.split(' (')[0].split(': ')[-1]}*" if ends else "its run was as if it had not"
    )
    table.tell(f"a submission {what}", 1, 0, changed, f"{said}; the next run was not touched")
