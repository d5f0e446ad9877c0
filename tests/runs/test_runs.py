"""Runs depend on (seed, i) alone, survive interruption, and every kind of bad submission is told apart."""

import errno
import os
import random
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
from local_eval.oracles.original import save_original
from local_eval.runs.one_run import one_run, seed_everything
from local_eval.store.files import OutputError
from local_eval.store.records import record_path
from local_eval.store.sealed import load_state
from tests.conftest import GOOD, TINY


def plan_of(out, path, seed=0):
    return Grader(TINY, out, runs=16, seed=seed).run_plan(path)


def logits(record):
    assert not isinstance(record, Failure), record
    return record.evaluation.forget_logits


def test_a_run_depends_on_seed_and_index_alone(original_out, submission):
    plan = plan_of(original_out, submission())
    torch.rand(100), np.random.rand(7), random.random()  # whatever happened before
    first, again = one_run(plan, 3), one_run(plan, 3)
    assert (logits(first) == logits(again)).all()
    assert (logits(first) != logits(one_run(plan, 4))).any()
    assert (logits(first) != logits(one_run(plan_of(original_out, submission(), seed=1), 3))).any()


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


def test_the_net_is_in_train_mode_in_run_0_only_as_in_the_official_driver(original_out, submission):
    source = "def unlearning(net, a, b, c):\n    assert net.training == {}\n"
    for index, mode in ((0, True), (1, False), (9, False)):
        assert not isinstance(one_run(plan_of(original_out, submission(source.format(mode))), index), Failure)


@pytest.mark.parametrize(
    "lines, reason",
    [
        ("raise KeyError('no such layer')", "KeyError: 'no such layer'"),
        ("return torch.nn.Linear(1, 1)", "returned another module"),
        ("net.fc = torch.nn.Linear(16, 5)", "no longer fits"),
        ("net.fc.weight.data[0, 0] = float('nan')", "NaN or infinite values in fc.weight"),
        ("net.bn1.running_var.fill_(-1)", "outputs on the forget set are NaN"),
        ("retain_loader.dataset.split.images[0] = 0", "data of the retain set was changed"),
        ("exit()", "called exit"),
        ("import sys; sys.exit(3)", r"exit\(3\)"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    ],
)
def test_a_bad_run_is_a_failure_with_a_reason(original_out, body, lines, reason):
    import re

    result = one_run(plan_of(original_out, body(lines)), 1)
    assert isinstance(result, Failure)
    assert re.search(reason, result.reason)


def test_data_spoilt_by_one_run_does_not_reach_the_next(original_out, body, submission):
    good = plan_of(original_out, submission(name="good"))
    before = logits(one_run(good, 1))
    spoilt = one_run(plan_of(original_out, body("forget_loader.dataset.split.images.zero_()")), 1)
    assert isinstance(spoilt, Failure)
    assert (logits(one_run(good, 1)) == before).all()


def test_hooks_and_modes_left_behind_do_not_count(original_out, submission, body):
    plain = one_run(plan_of(original_out, submission(name="mine")), 1)
    hooked = body("net.train(); net.fc.register_forward_hook(lambda m, i, o: o * 0)", name="hooked")
    assert (logits(one_run(plan_of(original_out, hooked), 1)) == logits(plain)).all()


def test_a_file_edited_during_grading_is_not_mixed_in(original_out, submission):
    plan = plan_of(original_out, submission())
    submission(GOOD + "    net.fc.bias.data += 1\n")
    result = one_run(plan, 1)
    assert isinstance(result, Failure)
    assert "edited while it was being graded" in result.reason


def test_runs_from_another_original_are_not_mixed_in(original_out, submission, tmp_path):
    plan = plan_of(original_out, submission())
    state = load_state(plan.original)
    state["fc.bias"][0] += 1
    save_original(tmp_path / "other.npz", state, "")
    assert replace(plan, original=tmp_path / "other.npz").identity(1) != plan.identity(1)


def test_settings_of_torch_left_behind_do_not_reach_the_next_run(original_out, submission, body):
    good = plan_of(original_out, submission(name="good"))
    before = logits(one_run(good, 1))
    one_run(plan_of(original_out, body("torch.set_default_dtype(torch.float64); torch.set_grad_enabled(False)")), 1)
    assert (logits(one_run(good, 1)) == before).all()
    assert torch.is_grad_enabled()


def test_dataclasses_with_postponed_annotations_work_in_a_submission(original_out, submission):
    head = (
        "from __future__ import annotations\nfrom dataclasses import dataclass\n@dataclass\nclass C:\n    x: int = 1\n"
    )
    assert logits(one_run(plan_of(original_out, submission(head + GOOD)), 1)).shape == (16, 3)


def test_hanging_dying_and_chatty_runs_are_told_apart_and_the_others_finish(original_out, body):
    kinds = body(
        "import os, sys, time, random, warnings\n"
        "kind = {KINDS}.get(torch.initial_seed())\n"
        "if kind == 'hang': time.sleep(600)\n"
        "if kind == 'die': os.kill(os.getpid(), 9)\n"
        "print('x' * 200000); print('x' * 200000, file=sys.stderr)".replace("{KINDS}", str(kinds_by_seed()))
    )
    grader = Grader(TINY, original_out, runs=16, workers=2, timeout=25)
    done, failures = grader.finish_runs(kinds)
    assert sorted(failures) == [3, 5]
    assert len(done) == 14
    assert "limit of 25 s" in failures[3].reason
    assert "SIGKILL" in failures[5].reason
    folder = grader.folder / grader.run_plan(kinds).folder_name
    assert "SIGKILL" in (folder / "0005.failed.txt").read_text()


def kinds_by_seed():
    """Which run does what, by the torch seed that it will find: run 3 hangs, run 5 dies."""
    seeds = {}
    for index, kind in ((3, "hang"), (5, "die")):
        seed_everything(0, index)
        seeds[torch.initial_seed()] = kind
    return seeds


def test_a_disk_that_fills_up_loses_no_finished_run(original_out, body, monkeypatch):
    path = body("pass", name="full")
    grader = Grader(TINY, original_out, runs=16, workers=2)
    real, written = os.replace, []

    def fills_up(source, target):
        if len(written) == 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(target)
        real(source, target)

    monkeypatch.setattr(os, "replace", fills_up)
    with pytest.raises(OutputError, match="No space left"):
        grader.finish_runs(path)
    monkeypatch.setattr(os, "replace", real)
    folder = grader.folder / grader.run_plan(path).folder_name
    assert len(list(folder.glob("*.npz"))) == 4
    done, failures = grader.finish_runs(path)
    assert (len(done), failures) == (16, {})


def grade(out, path, *more, runs=16, **kwargs):
    command = [sys.executable, "-m", "local_eval", "run", path, "--task", TINY, "--runs", str(runs), "--out", str(out)]
    pipes = {"stderr": subprocess.PIPE, "stdout": subprocess.PIPE}
    listens = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs ignore Ctrl-C
    return subprocess.Popen([*command, *more], preexec_fn=listens, text=True, **pipes, **kwargs)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
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


def test_failed_runs_are_told_the_others_kept_and_a_score_refused(original_out, body):
    bad = body("import os\nif torch.initial_seed() % 4 == 0: raise ValueError('unlucky')\n")
    grader = Grader(TINY, original_out, runs=20, workers=2)
    done, failures = grader.finish_runs(bad)
    assert failures
    assert len(done) + len(failures) == 20
    folder = grader.folder / grader.run_plan(bad).folder_name
    index = next(iter(failures))
    assert "ValueError: unlucky" in (folder / f"{index:04d}.failed.txt").read_text()
