"""Every stage is a process with a limit of its own: whatever becomes of one, the others and the page come."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from local_eval.__main__ import main
from local_eval.card import drive
from local_eval.card.drive import ALL, GRACE, PAGE, STAGES, Given, Stage, go
from local_eval.card.stages import STAGES as FUNCTIONS

WRITES = "import json, sys; json.dump({'found': {'a': 1}, %s}, open(sys.argv[1], 'w')); print('a line'); %s"
FATES = {  # what a stage's process does after it has written one figure: its code, its state, what the page says
    "whole": ("'whole': True", "", "done", ""),
    "fails": ("'failed': 'ValueError: no such thing'", "sys.exit(1)", "failed", "no such thing"),
    "hangs": ("'x': 0", "import time; time.sleep(60)", "stopped", "still at work after its limit of 1 s"),
    "deaf": (
        "'x': 0",
        "import time, signal; signal.signal(15, signal.SIG_IGN); time.sleep(60)",
        "stopped",
        "what it had found is kept",
    ),
    "killed": ("'x': 0", "import os; os.kill(os.getpid(), 9)", "died", "SIGKILL"),
    "crashes": ("'x': 0", "import os; os.abort()", "died", "SIGABRT"),
    "leaves": ("'x': 0", "import os; os._exit(0)", "failed", "before it had found everything"),
    "last": ("'whole': True", "", "done", ""),
}


def faked(given, stage, seconds):
    about, then, _, _ = FATES[stage.name]
    return [sys.executable, "-S", "-c", WRITES % (about, then), str(given.folder / f"{stage.file}.json")]


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(drive, "GRACE", 0.3)


def test_a_stage_that_fails_hangs_or_dies_is_told_and_ends_no_other(tmp_path):
    stages = [Stage(k, name, 1.0, f"Question {k}?") for k, name in enumerate(FATES)]
    found = go(Given(tmp_path), stages, faked, seconds=60.0)
    page = (tmp_path / PAGE).read_text()
    for about, (name, (_, _, state, says)) in zip(found, FATES.items(), strict=True):
        assert about["state"] == state and says in about.get("reason", ""), (name, about)
        assert about["found"] == {"a": 1}, f"what {name} had found is lost"
        assert json.loads((tmp_path / f"{about['stage']}-{name}.json").read_text()) == about
        assert about["asks"] in page and says in page
    assert "a line" in page  # what a stage that failed has printed


def test_nothing_that_a_stage_started_outlives_it(tmp_path):
    def command(given, stage, seconds):
        code = "import subprocess, sys; given = [sys.executable, '-S', '-c', 'import time; time.sleep(99)'];"
        code += f"p = subprocess.Popen(given); open({str(tmp_path / 'pid')!r}, 'w').write(str(p.pid)); p.wait()"
        return [sys.executable, "-S", "-c", code]

    go(Given(tmp_path), [Stage(0, "versions", 1.5, "?")], command, seconds=60.0)
    process = int((tmp_path / "pid").read_text())
    for _ in range(50):
        if not psutil.pid_exists(process) or psutil.Process(process).status() == psutil.STATUS_ZOMBIE:
            return
        time.sleep(0.1)
    pytest.fail("it is still there")


def test_all_stages_together_keep_to_the_time_and_those_for_which_none_is_left_are_skipped(tmp_path):
    stages = [Stage(0, "hangs", 1.5, "?"), Stage(1, "deaf", 1.5, "?"), Stage(2, "whole", 1.0, "?")]
    start = time.monotonic()
    found = go(Given(tmp_path), stages, faked, seconds=2.0)
    assert time.monotonic() - start < 4.0
    assert found[0]["state"] == "stopped" and found[-1]["state"] == "skipped" and "no time" in found[-1]["reason"]
    assert sum(stage.seconds for stage in STAGES) + 2 * GRACE <= ALL == 540
    assert [stage.name for stage in STAGES] == list(FUNCTIONS)
    page = (Path(__file__).parents[2] / "docs" / "speed.md").read_text()
    for stage in STAGES:
        assert re.search(rf"^\| {stage.number} \| {stage.name} \|.* \| {stage.seconds:.0f} \|$", page, re.MULTILINE)


def test_without_a_card_the_first_stage_says_so_and_the_others_are_not_begun(tmp_path, capsys):
    def command(given, stage, seconds):
        assert stage.number == 0
        about = "{'found': {'there is no card': 'no driver'}, 'failed': 'x'}"
        code = f"import json, sys; json.dump({about}, open(sys.argv[1], 'w'))"
        return [sys.executable, "-S", "-c", code, str(given.folder / f"{stage.file}.json")]

    found = go(Given(tmp_path), STAGES, command)
    assert [about["state"] for about in found] == ["failed"] + ["skipped"] * 8
    assert "no driver" in (tmp_path / PAGE).read_text()


def test_missing_packages_are_named_before_anything_is_loaded(tmp_path):
    """In a Python that has none of them."""
    environment = os.environ | {"PYTHONPATH": ""}
    given = [sys.executable, "-S", "-m", "local_eval", "bench", "--card", str(tmp_path)]
    said = subprocess.run(given, capture_output=True, text=True, env=environment)
    assert said.returncode == 1 and "Traceback" not in said.stderr
    assert "pebble" in said.stderr and "python -m pip install" in said.stderr


def test_the_packages_that_are_looked_for_are_those_that_are_required():
    from local_eval.store.errors import NEEDED

    required = (Path(__file__).parents[2] / "requirements.txt").read_text()
    assert all(f"{package}>=" in required for package in NEEDED.values())


def test_the_command_leaves_the_rest_of_bench_alone(tmp_path, monkeypatch, capsys):
    seen = []
    monkeypatch.setattr(drive, "go", lambda *given, **_: seen.append(given[0]) or [{"state": "done"}])
    assert main(["bench", "--card", str(tmp_path), "--rehearse", "my_task.py", "--device", "cuda:1"]) == 0
    assert seen == [Given(tmp_path, "cuda:1", "my_task.py")] and "card.md" in capsys.readouterr().out
    monkeypatch.setattr(drive, "go", lambda *_, **__: [{"state": "done"}, {"state": "stopped"}])
    assert drive.card(SimpleNamespace(card=tmp_path, device=None, rehearse=None)) == 1
