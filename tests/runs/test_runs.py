"""Runs depend on (seed, i) alone, survive interruption, and every kind of bad submission is told apart."""

import errno
import os
import random
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from local_eval.grader import Grader
from local_eval.isolation.child import Failure
from local_eval.isolation.pool import run_jobs
from local_eval.oracles.original import save_original
from local_eval.runs.one_run import one_run, seed_everything
from local_eval.store.files import OutputError
from local_eval.store.records import record_path
from local_eval.store.sealed import load_state
from tests.conftest import GOOD, TINY


def logits(record):
    assert not isinstance(record, Failure), record
    return record.evaluation.forget_logits


def test_a_run_depends_on_seed_and_index_alone(tiny_grader, submission):
    plan = tiny_grader.run_plan(submission())
    torch.rand(100), np.random.rand(7), random.random()  # whatever happened before
    first, again = one_run(plan, 3), one_run(plan, 3)
    assert (logits(first) == logits(again)).all()
    assert (logits(first) != logits(one_run(plan, 4))).any()
    assert (logits(first) != logits(one_run(replace(tiny_grader, seed=1).run_plan(submission()), 3))).any()


def test_all_three_generators_are_seeded():
    def draw():
        return torch.rand(1).item(), np.random.rand(), random.random()

    seed_everything(3, 5)
    one = draw()
    seed_everything(3, 6)
    other = draw()
    seed_everything(3, 5)
    assert draw() == one
    assert all(a != b for a, b in zip(one, other))


def test_the_net_is_in_train_mode_in_run_0_only_as_in_the_official_driver(tiny_grader, submission):
    source = "def unlearning(net, a, b, c):\n    assert net.training == {}\n"
    for index, mode in ((0, True), (1, False), (9, False)):
        found = one_run(tiny_grader.run_plan(submission(source.format(mode))), index)
        assert not isinstance(found, Failure), f"run {index}: {found}"


BAD = {  # lines, and the reason that is told
    "raise KeyError('no such layer')": "KeyError: 'no such layer'",
    "return torch.nn.Linear(1, 1)": "returned another module",
    "net.fc = torch.nn.Linear(16, 5)": "no longer fits",
    "net.fc.weight.data[0, 0] = float('nan')": "NaN or infinite values in fc.weight",
    "net.bn1.running_var.fill_(-1)": "outputs on the forget set are NaN",
    "retain_loader.dataset.split.images[0] = 0": "data of the retain set was changed",
    "forget_loader.dataset.split.images.zero_()": "data of the forget set was changed",
    "exit()": "called exit",
    "import sys; sys.exit(3)": r"exit\(3\)",
    "raise KeyboardInterrupt": "KeyboardInterrupt",
}


def test_a_bad_run_is_a_failure_with_a_reason_and_reaches_no_other(tiny_grader, body, submission):
    good = tiny_grader.run_plan(submission(name="good"))
    before = logits(one_run(good, 1))
    for lines, reason in BAD.items():
        result = one_run(tiny_grader.run_plan(body(lines)), 1)
        assert isinstance(result, Failure), lines
        assert re.search(reason, result.reason)
    assert (logits(one_run(good, 1)) == before).all()


def test_hooks_and_modes_left_behind_do_not_count(tiny_grader, submission, body):
    plain = one_run(tiny_grader.run_plan(submission(name="mine")), 1)
    hooked = body("net.train(); net.fc.register_forward_hook(lambda m, i, o: o * 0)", name="hooked")
    assert (logits(one_run(tiny_grader.run_plan(hooked), 1)) == logits(plain)).all()


def test_a_file_edited_during_grading_is_not_mixed_in(tiny_grader, submission):
    plan = tiny_grader.run_plan(submission())
    submission(GOOD + "    net.fc.bias.data += 1\n")
    result = one_run(plan, 1)
    assert isinstance(result, Failure)
    assert "edited while it was being graded" in result.reason


def test_runs_from_another_original_are_not_mixed_in(tiny_grader, submission, tmp_path):
    plan = tiny_grader.run_plan(submission())
    state = load_state(plan.original)
    state["fc.bias"][0] += 1
    save_original(tmp_path / "other.npz", state, "")
    assert replace(plan, original=tmp_path / "other.npz").identity(1) != plan.identity(1)


def test_settings_of_torch_left_behind_do_not_reach_the_next_run(tiny_grader, submission, body):
    good = tiny_grader.run_plan(submission(name="good"))
    before = logits(one_run(good, 1))
    sets = body("torch.set_default_dtype(torch.float64); torch.set_grad_enabled(False)")
    logits(one_run(tiny_grader.run_plan(sets), 1))
    assert (logits(one_run(good, 1)) == before).all()
    assert torch.is_grad_enabled()


def test_dataclasses_with_postponed_annotations_work_in_a_submission(tiny_grader, submission):
    head = (
        "from __future__ import annotations\nfrom dataclasses import dataclass\n@dataclass\nclass C:\n    x: int = 1\n"
    )
    assert logits(one_run(tiny_grader.run_plan(submission(head + GOOD)), 1)).shape == (16, 3)


def test_bad_runs_are_told_apart_and_kept_and_the_others_finish(original_out, body):
    bad = body(
        "import os, sys, time, random, warnings\n"
        f"kind = {kinds_by_seed()}.get(torch.initial_seed())\n"
        "if kind == 'hang': time.sleep(600)\n"
        "if kind == 'die': os.kill(os.getpid(), 9)\n"
        "if kind == 'raise': raise ValueError('unlucky')\n"
        "print('x' * 200000); print('x' * 200000, file=sys.stderr)"
    )
    grader = Grader(TINY, original_out, runs=9, workers=2, timeout=10)
    done, failures = grader.make_runs(bad)
    assert sorted(failures) == sorted(KINDS)
    assert sorted(done) == sorted(set(range(9)) - set(KINDS))
    reported = {3: "limit of 10 s", 5: "SIGKILL", 7: "ValueError: unlucky"}
    folder = grader.folder / grader.run_plan(bad).folder_name
    for index, reason in reported.items():
        assert reason in failures[index].reason
        assert reason in (folder / f"{index:04d}.failed.txt").read_text()


KINDS = {3: "hang", 5: "die", 7: "raise"}


def kinds_by_seed():
    """What each of KINDS does, by the torch seed that it will find."""
    seeds = {}
    for index, kind in KINDS.items():
        seed_everything(0, index)
        seeds[torch.initial_seed()] = kind
    return seeds


def test_a_disk_that_fills_up_loses_no_finished_run_and_the_same_command_goes_on(original_out, body, monkeypatch):
    path = body("pass", name="full")
    grader = Grader(TINY, original_out, runs=6, workers=2)
    real, written = os.replace, []

    def fills_up(source, target):
        if len(written) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(target)
        real(source, target)

    monkeypatch.setattr(os, "replace", fills_up)
    with pytest.raises(OutputError, match="No space left"):
        grader.make_runs(path)
    monkeypatch.setattr(os, "replace", real)
    folder = grader.folder / grader.run_plan(path).folder_name
    kept = {p.name: p.stat().st_mtime_ns for p in folder.glob("*.npz")}
    assert len(kept) == 2
    done, failures = grader.make_runs(path)
    assert (len(done), failures) == (6, {})
    for name, when in kept.items():
        assert (folder / name).stat().st_mtime_ns == when, "finished runs are not made again"
    alone = logits(one_run(grader.run_plan(path), 5))
    with np.load(record_path(folder, 5)) as file:
        assert (file["forget_logits"] == alone).all()
    assert (logits(done[5]) == alone).all(), "on two workers as alone"


def grade(out, path, *more, runs=16, **kwargs):
    command = [sys.executable, "-m", "local_eval", "run", path, "--task", TINY, "--runs", str(runs), "--out", str(out)]
    pipes = {"stderr": subprocess.PIPE, "stdout": subprocess.PIPE}
    listens = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs ignore Ctrl-C
    return subprocess.Popen([*command, *more], preexec_fn=listens, text=True, **pipes, **kwargs)


@pytest.mark.slow
def test_a_task_that_used_the_gpu_before_runs_are_forked_is_named_and_asking_for_one_is_no_use(
    tiny_grader, submission, monkeypatch
):
    plan = tiny_grader.run_plan(submission(GOOD))
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    assert not isinstance(one_run(plan, 3), Failure), "on the CPU it does not matter"
    found = one_run(replace(plan, device="cuda"), 3)
    assert "tiny_task.py has used the GPU while the task was loaded" in found.reason
    asked = dict(run_jobs(asks_for_a_card, None, [0], 1, None, "jobs"))
    assert asked == {0: "1"}, "so torch asks NVML, which starts nothing"


def asks_for_a_card(_: None, index: int) -> str | None:
    return os.environ.get("PYTORCH_NVML_BASED_CUDA_CHECK")


@pytest.mark.parametrize("how", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_stopped_grading_goes_on_and_gives_the_same_runs(tmp_path, body, how):
    path = body("import time; time.sleep(0.4)")
    grader = Grader(TINY, tmp_path / "out", runs=16)
    folder = grader.folder / grader.run_plan(path).folder_name
    first = grade(tmp_path / "out", path, "--workers", "2", start_new_session=True)
    end = time.monotonic() + 120
    while len(list(folder.glob("*.npz"))) < 3 and time.monotonic() < end:
        time.sleep(0.05)
    # Ctrl-C reaches every process of the terminal's group; kill -9 only the grader
    (os.killpg if how == signal.SIGINT else os.kill)(first.pid, how)
    _, said = first.communicate(timeout=60)
    if how == signal.SIGINT:
        assert first.returncode == 130
        assert "the same command goes on" in said
    kept = {p.name: p.stat().st_mtime_ns for p in folder.glob("*.npz")}
    assert 3 <= len(kept) < 16
    second = grade(tmp_path / "out", path, "--workers", "1")
    assert second.wait(120) == 0
    after = {p.name: p.stat().st_mtime_ns for p in folder.glob("*.npz")}
    assert len(after) == 16
    assert all(after[name] == when for name, when in kept.items()), "finished runs are not made again"
    undisturbed = Grader(TINY, tmp_path / "out", runs=16).run_plan(path)
    for index in (0, 7, 15):
        fresh = one_run(undisturbed, index)
        with np.load(record_path(folder, index)) as file:
            assert (file["forget_logits"] == logits(fresh)).all()


def test_runs_with_cpu_batches_on_a_card_are_others_and_all_else_is_as_ever(tiny_grader, submission):
    path = submission()
    plain = tiny_grader.run_plan(path)
    for device, batches_on, apart in (
        ("cpu", "device", False), ("cpu", "cpu", False), ("cuda", "device", False), ("cuda:1", "cpu", True),
    ):  # fmt: skip
        plan = replace(tiny_grader, device=device, batches_on=batches_on).run_plan(path)
        assert plan.folder_name == plain.folder_name + ("-batches-on-cpu" if apart else "")
        assert plan.identity(3) == plain.identity(3) | ({"batches_on": "cpu"} if apart else {})
        assert plan.made_from() == plain.made_from() | ({"batches_on": "cpu"} if apart else {})
    assert (logits(one_run(replace(plain, batches_on="cpu"), 3)) == logits(one_run(plain, 3))).all()
